"""The pages of TIFF files, each as a file of its own.

A TIFF file is a chain of pictures. Beside its pages these may be smaller copies of them (of
a pyramid, or a thumbnail) and masks, and each may have further pictures below it. Decoders
count them all, each in its own way; here it is decided which are pages, and decoders get
a file of one page.
"""

import io
import itertools
import struct

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.directories import (
    LONG,
    DamagedError,
    Directory,
    Table,
    TiffReader,
    Value,
    pack_file,
)
from colorgan_jax.photos.exif import POINTERS

# Tags and their values (TIFF 6.0, and its supplement 1 for what is below a picture).
_KIND = 254
_REDUCED, _MASK = 1, 4
_OLD_KIND = 255
_OLD_REDUCED = 2
_WIDTH = 256
_COMPRESSION = 259
_OLD_JPEG = 6
_BELOW = 330
# The tags of where pixels begin, and of how many bytes they take: in strips, or in tiles.
_PIECES = ((273, 279), (324, 325))
# More than a photo of the largest size has tiles of the smallest.
_MAXIMUM_PIECES = 2**20

# What leads to other parts of the file: pictures, settings for all of them, thumbnails.
_LINKS = (_BELOW, 400, 513, 514)


class Pages:
    """The pages of a TIFF file.

    Pictures that say that they are smaller copies or masks are none, unless all do. Nor is
    what is below a page; but what is below such a copy may be the photo itself.

    Attributes:
      remarks: what was left out, in parts of sentences.

    Raises:
      DamagedError: the file has no page, or is no TIFF.
    """

    def __init__(self, stream: io.BufferedReader | io.BytesIO):
        self._stream = stream
        self._tiff = TiffReader(stream)
        tables = list(map(self._table, self._tiff.chain()))
        chain = [table for table in tables if table]
        if not chain:
            raise DamagedError("It has no page.")
        full = []
        for table in chain:
            if self._is_full(table):
                full.append(table)
            else:
                below = map(self._table, self._below(table))
                full += [table for table in below if table and self._is_full(table)]
        self._tables = full or chain
        self.remarks = ()
        if full and (full != chain or any(map(self._below, full))):
            self.remarks += ("reduced copies and masks in its file are left out",)
        if len(chain) < len(tables):
            self.remarks += ("its file may have further pages, which are damaged",)

    def __len__(self) -> int:
        return len(self._tables)

    def header(self) -> io.BufferedReader | io.BytesIO:
        """A TIFF file that begins with the first page, perhaps without its pixels."""
        table = self._tables[0]
        if table.offset == self._tiff.first:
            return self._stream
        return io.BytesIO(pack_file(self._directory(table), self._tiff.layout.order))

    def read(self, number: int, name: str) -> bytes:
        """Reads a page from its own part of the file.

        The whole file is read if it is the only page and the first picture, or if it is
        damaged or stored as a JPEG file of its own, as TIFF 6.0 had it.

        Args:
          number: which page, from 0.
          name: what error messages call the photo.

        Returns:
          A TIFF file that begins with the page.

        Raises:
          PhotoError: there is no such page.
        """
        if not 0 <= number < len(self):
            raise PhotoError(
                f"{name} has no page number {number}, counted from 0; it has {len(self)}."
            )
        table = self._tables[number]
        if len(self) > 1 or table.offset != self._tiff.first:
            pieces = self._pieces(table)
            if pieces:
                return self._file_of(table, *pieces)
        self._stream.seek(0)
        content = self._stream.read()
        if table.offset == self._tiff.first:
            return content
        layout = self._tiff.layout
        start = layout.first_at
        end = start + layout.offset_size
        return content[:start] + layout.pack_offset(table.offset) + content[end:]

    def _table(self, offset: int) -> Table | None:
        """The directory of a picture that begins there; None if it is damaged."""
        try:
            table = self._tiff.table(offset)
        except DamagedError:
            return None
        return table if table.find(_WIDTH) else None

    def _below(self, table: Table) -> tuple[int, ...]:
        """Where the directories below a picture begin."""
        return self._tiff.numbers(table.find(_BELOW))

    def _is_full(self, table: Table) -> bool:
        """Whether a picture is neither a smaller copy nor a mask."""
        kinds = self._tiff.numbers(table.find(_KIND))
        old_kinds = self._tiff.numbers(table.find(_OLD_KIND))
        return not (
            any(kind & (_REDUCED | _MASK) for kind in kinds)
            or _OLD_REDUCED in old_kinds
        )

    def _pieces(self, table: Table) -> tuple[int, list[tuple[int, int]]] | None:
        """The tag of where pixels begin, and where and how many bytes they are in pieces.

        Returns:
          None if that does not tell all about the pixels, or is damaged.
        """
        tiff = self._tiff
        if _OLD_JPEG in tiff.numbers(table.find(_COMPRESSION)):
            return None
        for tag, sizes_tag in _PIECES:
            starts = tiff.numbers(table.find(tag), _MAXIMUM_PIECES)
            sizes = tiff.numbers(table.find(sizes_tag), _MAXIMUM_PIECES)
            pieces = list(zip(starts, sizes, strict=False))
            if (
                0 < len(starts) == len(sizes)
                and min(sizes) > 0
                and max(map(sum, pieces)) <= tiff.size
                and sum(sizes) <= tiff.size  # Damaged ones may overlap.
            ):
                return tag, pieces
        return None

    def _directory(self, table: Table) -> Directory:
        """What a picture says, without what leads to other parts of the file."""
        directory = self._tiff.directory(table, POINTERS)
        for tag in _LINKS:
            directory.values.pop(tag, None)
        return directory

    def _file_of(self, table: Table, tag: int, pieces: list[tuple[int, int]]) -> bytes:
        """A TIFF file of one picture, whose pixels are these pieces of the file."""
        order = self._tiff.layout.order
        directory = self._directory(table)

        def start_of_file(starts: list[int]) -> bytes:
            data = struct.pack(f"{order}{len(starts)}I", *starts)
            directory.values[tag] = Value(LONG, len(starts), data)
            return pack_file(directory, order)

        sizes = [size for _, size in pieces]
        end = len(start_of_file(sizes))  # It is as long whatever the numbers are.
        file = io.BytesIO()
        file.write(start_of_file(list(itertools.accumulate(sizes[:-1], initial=end))))
        for start, size in pieces:
            file.write(self._tiff.read(start, size))
        return file.getvalue()
