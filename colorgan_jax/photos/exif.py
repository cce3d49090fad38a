"""EXIF blocks: what a camera or scanner says of a photo, carried to the colored one.

An EXIF block is the bytes of a TIFF structure, from `II*` or `MM` on, without the
`Exif` prefix that JPEG puts before it. Maker notes hold offsets into the block that only
their maker knows, hence a block is patched where it stands rather than written anew.
Damaged blocks are no error: what can be read of them is kept.
"""

import io
import struct
from collections.abc import Sequence
from typing import Literal

from colorgan_jax.photos.directories import (
    LONG,
    SHORT,
    DamagedError,
    Directory,
    Entry,
    Table,
    TiffReader,
    pack_directory,
    pack_file,
)

# What stands before a block in JPEG files, and in some others.
EXIF_PREFIX = b"Exif\0\0"

_EXIF = 34665
_GPS = 34853
_INTEROPERABILITY = 40965
# The tags that point to directories of what a camera says, and those below these.
POINTERS = {_EXIF: {_INTEROPERABILITY: {}}, _GPS: {}}

_WIDTH = 256
_HEIGHT = 257
_ORIENTATION = 274
# Of a photo whose rows are the columns of the scene.
ON_ITS_SIDE = (5, 6, 7, 8)
_COLOR_SPACE = 40961
_PIXEL_X = 40962
_PIXEL_Y = 40963
_INTEROPERABILITY_INDEX = 1
# The tags of offsets and of lengths of a thumbnail: a JPEG, or strips.
_THUMBNAIL_TAGS = ((513, 514), (273, 279))
_ASCII = 2

# What describes the pixels as they were stored, not the photo (TIFF 6.0 and supplements).
_STORAGE_TAGS = frozenset(
    (
        *range(254, 260),  # kind of page, width, height, bits, compression
        *range(262, 267),  # photometric interpretation, halftoning, fill order
        *(273, 277, 278, 279, 280, 281, 284),  # strips, samples, range, planes
        *(288, 289, 290, 291, 292, 293),  # free bytes, curve of gray, fax options
        *(301, 317, 318, 319, 320, 321),  # transfer, predictor, primaries, palette
        *range(322, 329),  # tiles, fax lines
        *(330, 332, 333, 334, 336),  # other directories, inks
        *(338, 339, 340, 341, 342, 346, 347),  # alpha, sample format, JPEG tables
        *(400, 401, 402, 403, 404, 405, 433, 434, 559),  # TIFF-FX
        *range(512, 522),  # JPEG of TIFF 6.0
        *range(529, 533),  # YCbCr, reference black and white
        *range(32994, 32999),  # SGI
        *(33421, 33422),  # color filters of a sensor
        *(37724,),  # Photoshop's layers, which it would show in place of the photo
        *(50674,),  # LERC
    )
)
# Carried apart: XMP, IPTC, Photoshop, ICC.
_SEPARATE_TAGS = frozenset((700, 33723, 34377, 34675))

# How a DNG file is developed, and that it is one, but for what names camera and lens.
_DNG_VERSION = 50706
_DNG_TAGS = frozenset(range(50706, 52_600)) - {50708, 50709, 50735, 50736, 50827}


def orientation(block: bytes) -> int:
    """The orientation that a block gives its photo: 1 to 8 (CIPA DC-008, tag 274).

    Returns:
      1, which is upright, if it gives none, or none that means anything.
    """
    try:
        tiff = TiffReader(block)
        numbers = tiff.numbers(tiff.table(tiff.first).find(_ORIENTATION))
    except DamagedError:
        return 1
    return numbers[0] if numbers and 1 <= numbers[0] <= 8 else 1


def byte_order(block: bytes) -> Literal["<", ">"]:
    """The byte order of a block, as `struct` and tifffile write it: "<" or ">"."""
    return ">" if block.startswith(b"MM") else "<"


def make_upright(block: bytes, *, width: int, height: int) -> bytes:
    """Makes a block describe the photo as it is written: upright, sRGB, no thumbnail.

    Orientation, color space and size are set where the block has them. The thumbnail
    shows the photo as it was: its bytes are cut off if the block ends with them, and
    zeros otherwise. All else stays where it is.

    Args:
      block: the EXIF block of the photo that was read.
      width: of the photo that is written, in pixels.
      height: likewise.

    Returns:
      The patched block; b"" if its first directory cannot be read.
    """
    try:
        tiff = TiffReader(block)
        main = tiff.table(tiff.first)
    except DamagedError:
        return b""
    if tiff.layout.big:  # a kind of TIFF, but none that EXIF knows
        return b""
    exif = tiff.child(main, _EXIF)
    gps = tiff.child(main, _GPS)
    interoperability = tiff.child(exif, _INTEROPERABILITY) if exif else None

    def short(tag: int, number: int) -> Entry:
        return Entry(tag, SHORT, 1, struct.pack(f"{tiff.layout.order}HH", number, 0))

    def long(tag: int, number: int) -> Entry:
        return Entry(tag, LONG, 1, struct.pack(f"{tiff.layout.order}I", number))

    patched = bytearray(block)
    upright = [short(_ORIENTATION, 1), long(_WIDTH, width), long(_HEIGHT, height)]
    _replace_entries(patched, tiff, main, upright)
    if exif:
        srgb = [short(_COLOR_SPACE, 1), long(_PIXEL_X, width), long(_PIXEL_Y, height)]
        _replace_entries(patched, tiff, exif, srgb)
    if interoperability:
        adobe_rgb = Entry(_INTEROPERABILITY_INDEX, _ASCII, 4, b"R03\0")
        if adobe_rgb in interoperability.entries:
            srgb = adobe_rgb._replace(field=b"R98\0")
            _replace_entries(patched, tiff, interoperability, [srgb])

    used = [table for table in (main, exif, gps, interoperability) if table]
    _remove_thumbnail(patched, tiff, main, used)
    return bytes(patched)


def _replace_entries(
    patched: bytearray, tiff: TiffReader, table: Table, entries: list[Entry]
) -> None:
    """Writes entries over those of the same tags; tags that are absent stay absent."""
    packed = {entry.tag: entry.pack(tiff.layout) for entry in entries}
    for index, entry in enumerate(table.entries):
        if entry.tag in packed:
            start = tiff.entry_offset(table, index)
            patched[start : start + tiff.layout.entry_size] = packed[entry.tag]


def _remove_thumbnail(
    patched: bytearray, tiff: TiffReader, main: Table, used: list[Table]
) -> None:
    """Unlinks the second directory and removes the thumbnail that it points to.

    Args:
      patched: the block.
      tiff: reads the block as it was.
      main: the first directory.
      used: all directories that stay. What is theirs is not touched, whatever a damaged
        block calls its thumbnail.
    """
    if not main.next:
        return
    patched[main.next_at : main.next_at + tiff.layout.offset_size] = bytes(
        tiff.layout.offset_size
    )
    try:
        second = tiff.table(main.next)
    except DamagedError:
        return
    kept = [extent for table in used for extent in tiff.extents(table)]
    numbers = {entry.tag: tiff.numbers(entry) for entry in second.entries}
    for offsets, lengths in _THUMBNAIL_TAGS:
        pieces = zip(numbers.get(offsets, ()), numbers.get(lengths, ()), strict=False)
        for start, length in sorted(pieces, reverse=True):  # from the end of the block
            end = min(start + length, len(patched))
            if start >= end or any(a < end and start < b for a, b in kept):
                continue
            if patched[end:].strip(b"\0") or any(end <= a for a, _ in kept):
                patched[start:end] = bytes(end - start)
            else:
                del patched[start:]


def block_of_tiff(
    file: bytes | bytearray | memoryview | io.BufferedIOBase,
) -> bytes:
    """Makes an EXIF block of what the first page of a TIFF or BigTIFF file says of itself.

    Tags that say how the pixels are stored are left out, and those that are carried
    apart: the ICC profile, XMP, IPTC and the resources of Photoshop. Private tags are
    kept, up to 64 MiB together. Maker notes are kept to the byte; where they hold offsets
    into the file, these no longer lead anywhere.

    Args:
      file: the content of the file, or a stream that can seek.

    Returns:
      A block in the byte order of the file; b"" if there is nothing to tell, or no TIFF
      file.
    """
    try:
        tiff = TiffReader(file)
        directory = _description(tiff, tiff.table(tiff.first))
    except DamagedError:
        return b""
    return pack_file(directory, tiff.layout.order) if directory else b""


def _description(tiff: TiffReader, table: Table) -> Directory:
    """What a directory says of the photo, rather than of how the file stores it."""
    directory = tiff.directory(table, POINTERS)
    left_out = _STORAGE_TAGS | _SEPARATE_TAGS
    if _DNG_VERSION in directory.values:
        left_out |= _DNG_TAGS
    for tag in left_out & directory.values.keys():
        del directory.values[tag]
    return directory


def add_to_tiff(stream: io.BufferedIOBase, blocks: Sequence[bytes]) -> None:
    """Adds EXIF blocks to the pages of a TIFF or BigTIFF file that was just written.

    The tables of the pages are written anew at the end of the file, with the tags of the
    blocks among them: those that `block_of_tiff` would keep. A tag that a page has
    already stays as it is there, so that resolution and software are the writer's. Maker
    notes move, as in `block_of_tiff`.

    Args:
      stream: the file, open for reading and writing.
      blocks: a block for each page, or for as many as there are blocks; b"" adds none,
        and a damaged one what can be read of it.

    Raises:
      ValueError: a block is not in the `byte_order` of the file, the file has fewer pages
        than there are blocks, or a classic TIFF would grow beyond 4 GiB.
    """
    tiff = TiffReader(stream)
    layout = tiff.layout
    end = tiff.size
    pointer_at = layout.first_at  # where the offset of the next table is stored
    tables = [tiff.table(offset) for offset in tiff.chain()]
    if len(blocks) > len(tables):
        raise ValueError("There are more EXIF blocks than pages in the TIFF file.")
    for block, table in zip(blocks, tables, strict=False):
        directory = _description_in(block, layout.order)
        for entry in table.entries:
            directory.values.pop(entry.tag, None)
            directory.children.pop(entry.tag, None)
        if not directory:
            pointer_at = table.next_at
            continue
        start = end + end % 2
        try:
            packed = pack_directory(
                directory, layout, start, stored=table.entries, following=table.next
            )
            pointer = layout.pack_offset(start)
        except struct.error as error:
            raise ValueError("A classic TIFF file has no room for its EXIF.") from error
        number = len(table.entries) + len(directory.values) + len(directory.children)
        stream.seek(end)
        stream.write(bytes(start - end) + packed)
        stream.seek(pointer_at)
        stream.write(pointer)
        end = start + len(packed)
        pointer_at = start + layout.table_size(number) - layout.offset_size


def _description_in(block: bytes, order: str) -> Directory:
    """What a block says of the photo; nothing if its first directory is damaged."""
    try:
        tiff = TiffReader(block)
        table = tiff.table(tiff.first)
    except DamagedError:
        return Directory({}, {})
    if tiff.layout.order != order:
        raise ValueError("The EXIF block and the TIFF file differ in byte order.")
    return _description(tiff, table)
