"""Photoshop's image resources, which hold IPTC, captions, paths and thumbnails of photos.

JPEG files have them in APP13 segments, TIFF files in tag 34377. They are blocks one after
another (Adobe Photoshop File Formats Specification, "Image Resource Blocks").
"""

import struct
from collections.abc import Iterable

from colorgan_jax.photos.jpeg import segment

# As Photoshop 5 and 4 write them.
_THUMBNAILS = (0x040C, 0x0409)

_IPTC = b"\x04\x04"

_SIGNATURES = (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa")
_APP13 = b"\xff\xed"
_PREFIX = b"Photoshop 3.0\0"
# Of Photoshop 2.5; eight more bytes follow it before the blocks.
_OLD_PREFIX = b"Adobe_Photoshop2.5:"
_OLD_PREFIX_BYTES = 27
# What a segment of a JPEG file holds: its size is written in 16 bits and counts itself.
_SEGMENT_BYTES = 65_533


def without_thumbnails(resources: bytes) -> bytes:
    """Leaves out the thumbnails, which show the photo as it was.

    Args:
      resources: image resource blocks.

    Returns:
      The others, each the same to the byte, up to the first that is damaged.
    """
    kept = []
    start = 0
    while resources[start : start + 4] in _SIGNATURES:
        # Signature, number, a name with its length before it, size, data; name and data
        # are padded to even sizes.
        try:
            number, name_size = struct.unpack_from(">HB", resources, start + 4)
            size_at = start + 6 + (name_size + 2) // 2 * 2
            (size,) = struct.unpack_from(">I", resources, size_at)
        except struct.error:
            break
        end = size_at + 4 + size
        if end > len(resources):
            break
        end += size % 2
        if number not in _THUMBNAILS:
            kept.append(resources[start:end])
        start = end
    return b"".join(kept)


def resources_of_jpeg(segments: Iterable[tuple[str, bytes]]) -> bytes:
    """Joins the image resource blocks of a JPEG file, which may span segments.

    Args:
      segments: the names and contents of its segments, as Pillow's `applist` has them.
        (Its `info["photoshop"]` lacks names and order, and what spans segments.)
    """
    joined = []
    for name, content in segments:
        if name == "APP13" and content.startswith(_PREFIX):
            joined.append(content.removeprefix(_PREFIX))
        elif name == "APP13" and content.startswith(_OLD_PREFIX):
            joined.append(content[_OLD_PREFIX_BYTES:])
    return b"".join(joined)


def resource_of_iptc(record: bytes) -> bytes:
    """Makes an image resource block of an IPTC record, which stands alone in TIFF files."""
    size = struct.pack(">I", len(record))
    return b"8BIM" + _IPTC + b"\0\0" + size + record + bytes(len(record) % 2)


def app13_segments(resources: bytes) -> bytes:
    """Wraps image resource blocks for a JPEG file.

    Args:
      resources: image resource blocks, of any size.

    Returns:
      As many segments as it takes, with their markers; none for no resources.
    """
    step = _SEGMENT_BYTES - len(_PREFIX)
    segments = []
    for start in range(0, len(resources), step):
        content = _PREFIX + resources[start : start + step]
        segments.append(segment(_APP13, content))
    return b"".join(segments)
