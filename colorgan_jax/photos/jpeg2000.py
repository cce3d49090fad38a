"""What the headers of JPEG 2000 files say that Pillow does not tell."""

import struct

# Markers of a JPEG 2000 file, and where after them stand the bits of the first component
# and the kind of wavelet (ISO 15444-1, Annex A).
_SIZES = b"\xff\x4f\xff\x51"
_DEPTH_AT = 42
_CODING = b"\xff\x52"
_WAVELET_AT = 13
_LOSSLESS_WAVELET = 1


def bits(content: bytes) -> int:
    """How many bits a sample of the first component has; 8 where that is illegible."""
    sizes = content.find(_SIZES)
    return (content[sizes + _DEPTH_AT] & 0x7F) + 1 if sizes >= 0 else 8


def is_lossless(content: bytes) -> bool:
    """Whether the file holds every pixel as it was."""
    coding = content.find(_CODING, content.find(_SIZES))
    return content[coding + _WAVELET_AT] == _LOSSLESS_WAVELET


def uuid_boxes(content: bytes) -> dict[bytes, bytes]:
    """The boxes of a JPEG 2000 file that name their kind by a UUID (ISO 15444-1, I)."""
    boxes = {}
    position = 0
    while position + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        start = position + 8
        # 1: it stands in the next eight bytes.
        if size == 1 and start + 8 <= len(content):
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        if size < start - position:  # 0: up to the end of the file. Others: damaged.
            break
        position += size
        if kind == b"uuid":
            boxes[content[start : start + 16]] = content[start + 16 : position]
    return boxes
