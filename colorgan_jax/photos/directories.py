"""Image file directories: the tables of tags in TIFF files and in EXIF blocks.

An EXIF block has the structure of a TIFF file. Classic TIFF (TIFF 6.0) and BigTIFF are
read and packed, in both byte orders.
"""

import dataclasses
import io
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# Bytes that one item of each type takes. 129 is the UTF-8 of EXIF 3.0.
_ITEM_SIZES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8},
    **{13: 4, 16: 8, 17: 8, 18: 8, 129: 1},
}
_UNSIGNED = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

SHORT = 3
LONG = 4
LONG8 = 16
_IFDS = (13, 18)

# Types that only a BigTIFF has: how their items are stored, and what holds them elsewhere.
_WIDE = {16: ("Q", LONG, "I"), 17: ("q", 9, "i")}

# More than any directory has (libtiff's limit). A damaged BigTIFF can claim 2**64.
_MAXIMUM_ENTRIES = 4_096

# More than there are strips in a thumbnail.
_MAXIMUM_NUMBERS = 256

# Values that take more than this together are not read: no photo has so much to tell.
_MAXIMUM_BYTES = 64 * 2**20


class DamagedError(ValueError):
    """A directory lies outside the file, or the file is no TIFF."""


class Layout(NamedTuple):
    """How numbers and tables are stored.

    Attributes:
      order: "<" or ">", as for `struct`.
      big: whether this is a BigTIFF, where counts and offsets have 64 bits.
    """

    order: str
    big: bool

    @property
    def first_at(self) -> int:
        """Where the header holds the offset of the first directory."""
        return 8 if self.big else 4

    @property
    def offset_size(self) -> int:
        """Bytes of an offset, and of a value that is stored in its entry."""
        return 8 if self.big else 4

    @property
    def number_size(self) -> int:
        """Bytes of the number of entries, with which a table begins."""
        return 8 if self.big else 2

    @property
    def entry_size(self) -> int:
        """Bytes of an entry."""
        return 20 if self.big else 12

    def table_size(self, number: int) -> int:
        """Bytes of a table of so many entries, at whose end is the next one's offset."""
        return self.number_size + number * self.entry_size + self.offset_size

    def pack_offset(self, offset: int) -> bytes:
        """An offset as bytes."""
        return struct.pack(self.order + ("Q" if self.big else "I"), offset)

    def unpack_offset(self, data: bytes) -> int:
        """The offset that bytes hold."""
        return struct.unpack(self.order + ("Q" if self.big else "I"), data)[0]


class Entry(NamedTuple):
    """One tag of a table as it is stored.

    Attributes:
      tag: its number.
      kind: the type of its items, a key of `_ITEM_SIZES` unless it is damaged.
      items: how many they are.
      field: the value if it fits into an offset, else its offset.
    """

    tag: int
    kind: int
    items: int
    field: bytes

    def pack(self, layout: Layout) -> bytes:
        """The bytes of the entry."""
        head = "HHQ" if layout.big else "HHI"
        return (
            struct.pack(layout.order + head, self.tag, self.kind, self.items)
            + self.field
        )


class Table(NamedTuple):
    """A directory as it is stored.

    Attributes:
      offset: where it begins.
      entries: as many of its entries as the file holds whole.
      next_at: where the offset of the next directory is stored.
      next: that offset; 0 if there is no next directory.
    """

    offset: int
    entries: list[Entry]
    next_at: int
    next: int

    def find(self, tag: int) -> Entry | None:
        """The first entry of a tag."""
        return next((entry for entry in self.entries if entry.tag == tag), None)


class Value(NamedTuple):
    """The value of a tag: type and number of its items, and their bytes."""

    kind: int
    items: int
    data: bytes


@dataclasses.dataclass
class Directory:
    """A directory with its values, apart from any file.

    Attributes:
      values: by tag.
      children: the directories that tags point to, by tag.
    """

    values: dict[int, Value]
    children: dict[int, "Directory"]

    def __bool__(self) -> bool:
        return bool(self.values or self.children)


class TiffReader:
    """Reads the directories of a TIFF file, a BigTIFF file or an EXIF block.

    Nothing outside the file is read, and no more than the file holds.

    Args:
      file: its content, or a stream that can seek.

    Raises:
      DamagedError: it has no TIFF header.
    """

    def __init__(self, file: bytes | bytearray | memoryview | io.BufferedIOBase):
        if isinstance(file, (bytes, bytearray, memoryview)):
            file = io.BytesIO(file)
        self._stream = file
        self.size = self._stream.seek(0, io.SEEK_END)
        magic = self.read(0, 4)
        if magic in (b"II*\0", b"MM\0*"):
            big = False
        elif magic in (b"II+\0", b"MM\0+"):
            big = True
        else:
            raise DamagedError("This is no TIFF header.")
        self.layout = Layout("<" if magic.startswith(b"II") else ">", big)
        self.first = self._offset_at(self.layout.first_at)

    def read(self, offset: int, size: int) -> bytes:
        """Reads bytes of the file.

        Raises:
          DamagedError: they are not all in the file.
        """
        if offset + size > self.size:
            raise DamagedError(f"Nothing is {offset} bytes into the file.")
        self._stream.seek(offset)
        return self._stream.read(size)

    def _offset_at(self, position: int) -> int:
        return self.layout.unpack_offset(self.read(position, self.layout.offset_size))

    def table(self, offset: int) -> Table:
        """Reads the table of a directory; of a table that is cut off, what is there.

        Raises:
          DamagedError: there is not one whole entry.
        """
        layout = self.layout
        if offset < layout.first_at + layout.offset_size:
            raise DamagedError("The directory lies in the header.")
        number = self._entries_at(offset)
        start = offset + layout.number_size
        present = min(
            number, _MAXIMUM_ENTRIES, (self.size - start) // layout.entry_size
        )
        if not present:
            raise DamagedError("The directory is empty.")
        data = self.read(start, present * layout.entry_size)
        head = layout.order + ("HHQ8s" if layout.big else "HHI4s")
        entries = [Entry(*fields) for fields in struct.iter_unpack(head, data)]
        next_at = start + number * layout.entry_size
        try:
            following = self._offset_at(next_at)
        except DamagedError:
            following = 0
        return Table(offset, entries, next_at, following)

    def _entries_at(self, offset: int) -> int:
        """How many entries a table claims to have."""
        item = self.layout.order + ("Q" if self.layout.big else "H")
        return struct.unpack(item, self.read(offset, self.layout.number_size))[0]

    def chain(self) -> Iterator[int]:
        """Where the tables begin that follow each other, up to the first damaged one."""
        seen = set()
        offset = self.first
        while offset and offset not in seen:
            yield offset
            seen.add(offset)
            try:
                size = self.layout.table_size(self._entries_at(offset))
                offset = self._offset_at(offset + size - self.layout.offset_size)
            except DamagedError:
                return

    def extent(self, entry: Entry) -> tuple[int, int] | None:
        """Where the value of an entry begins and ends, if not in the entry itself."""
        size = _ITEM_SIZES.get(entry.kind, 0) * entry.items
        if size <= self.layout.offset_size:
            return None
        offset = self.layout.unpack_offset(entry.field)
        return offset, offset + size

    def entry_offset(self, table: Table, index: int) -> int:
        """Where an entry of a table begins."""
        return table.offset + self.layout.number_size + index * self.layout.entry_size

    def extents(self, table: Table) -> list[tuple[int, int]]:
        """Where a table and the values of its entries begin and end in the file."""
        end = self.entry_offset(table, len(table.entries)) + self.layout.offset_size
        extents = [(table.offset, end)]
        extents += [extent for entry in table.entries if (extent := self.extent(entry))]
        return extents

    def value(self, entry: Entry) -> bytes:
        """Reads the value of an entry; nothing if it is not all in the file."""
        extent = self.extent(entry)
        if extent is None:
            return entry.field[: _ITEM_SIZES.get(entry.kind, 0) * entry.items]
        start, end = extent
        return self.read(start, end - start) if end <= self.size else b""

    def numbers(
        self, entry: Entry | None, most: int = _MAXIMUM_NUMBERS
    ) -> tuple[int, ...]:
        """Reads the value of an entry of unsigned integers; nothing of others.

        Args:
          entry: the entry, if there is one.
          most: of more integers nothing is read, either.
        """
        if entry is None or entry.kind not in _UNSIGNED or entry.items > most:
            return ()
        item = self.layout.order + _UNSIGNED[entry.kind]
        return tuple(
            number for (number,) in struct.iter_unpack(item, self.value(entry))
        )

    def child(self, table: Table, tag: int) -> Table | None:
        """Reads the table that a tag of another one points to, if it is there."""
        offsets = self.numbers(table.find(tag))
        try:
            return self.table(offsets[0]) if offsets else None
        except DamagedError:
            return None

    def directory(self, table: Table, pointers: Mapping[int, Mapping]) -> Directory:
        """Reads the values of a table, as a classic TIFF can store them.

        What is damaged is left out, and so are other tags that point to directories.

        Args:
          table: the table.
          pointers: the tags that point to directories that are read, too, and for each
            the same for these.
        """
        values = {}
        left = min(self.size, _MAXIMUM_BYTES)
        for entry in table.entries:
            if entry.tag in pointers or entry.tag in values:
                continue
            value = self._portable_value(entry, left)
            if value is not None:
                values[entry.tag] = value
                left -= len(value.data)
        children = {}
        for tag, below in pointers.items():
            child = self.child(table, tag)
            if child is not None and (directory := self.directory(child, below)):
                children[tag] = directory
        return Directory(values, children)

    def _portable_value(self, entry: Entry, most: int) -> Value | None:
        """The value of an entry, unless it is damaged, too large or an offset."""
        kind, items = entry.kind, entry.items
        if kind in _IFDS or not 0 < _ITEM_SIZES.get(kind, 0) * items <= most:
            return None
        data = self.value(entry)
        if kind in _WIDE:
            item, kind, narrow_item = _WIDE[kind]
            order = self.layout.order
            numbers = struct.iter_unpack(order + item, data)
            try:
                data = b"".join(struct.pack(order + narrow_item, *n) for n in numbers)
            except struct.error:  # more than 32 bits
                return None
        return Value(kind, items, data) if data else None


def pack_file(directory: Directory, order: str) -> bytes:
    """Makes a classic TIFF file of one directory, which is an EXIF block as well.

    Args:
      directory: its values and children.
      order: the byte order, that of the values: "<" or ">".

    Raises:
      struct.error: as `pack_directory`.
    """
    layout = Layout(order, big=False)
    header = b"II*\0" if order == "<" else b"MM\0*"
    header += layout.pack_offset(8)
    return header + pack_directory(directory, layout, len(header))


def pack_directory(
    directory: Directory,
    layout: Layout,
    start: int,
    *,
    stored: Sequence[Entry] = (),
    following: int = 0,
) -> bytes:
    """Lays out a directory: its table, then its values and the directories below it.

    Args:
      directory: its values and children.
      layout: of the file that it is for. Its order must be that of the values.
      start: where in the file it will begin; even.
      stored: further entries, whose values are in the file already.
      following: the offset of the next directory; 0 if there is none.

    Raises:
      struct.error: it would end beyond what a classic TIFF can address.
    """
    number = len(stored) + len(directory.values) + len(directory.children)
    end = start + layout.table_size(number)
    entries = list(stored)
    rest = bytearray()
    for tag, (kind, items, data) in directory.values.items():
        if len(data) <= layout.offset_size:
            field = data.ljust(layout.offset_size, b"\0")
        else:
            field = layout.pack_offset(end + len(rest))
            rest += data + bytes(len(data) % 2)
        entries.append(Entry(tag, kind, items, field))
    for tag, child in directory.children.items():
        offset = end + len(rest)
        kind = LONG8 if layout.big else LONG
        entries.append(Entry(tag, kind, 1, layout.pack_offset(offset)))
        rest += pack_directory(child, layout, offset)
    table = struct.pack(layout.order + ("Q" if layout.big else "H"), number)
    table += b"".join(entry.pack(layout) for entry in sorted(entries))
    return table + layout.pack_offset(following) + rest
