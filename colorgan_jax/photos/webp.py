"""What the chunks of WebP files say, without the pixels.

Pillow makes room for the pixels of the whole picture as it opens it.

Source: RFC 9649.
"""

import io
import struct
from collections.abc import Iterator

from colorgan_jax.photos.exif import EXIF_PREFIX, orientation
from colorgan_jax.photos.header import Header, upright_size

_HEAD_BYTES = 12
_LOSSY, _LOSSLESS, _FRAME = b"VP8 ", b"VP8L", b"ANMF"
_CANVAS, _EXIF, _XMP = b"VP8X", b"EXIF", b"XMP "


def is_webp(start: bytes) -> bool:
    """Whether a file that begins so is a WebP."""
    return start.startswith(b"RIFF") and start[8:_HEAD_BYTES] == b"WEBP"


def is_lossless(stream: io.BufferedIOBase) -> bool:
    """Whether the file holds every pixel of its one picture as it was."""
    kinds = (kind for kind, _, _ in _chunks(stream))
    first = next((kind for kind in kinds if kind in (_LOSSY, _LOSSLESS, _FRAME)), None)
    return first == _LOSSLESS


def read_webp_header(stream: io.BufferedIOBase) -> Header:
    """Reads the header.

    Raises:
      ValueError, struct.error: it is damaged.
    """
    size = None
    exif = xmp = b""
    for kind, start, length in _chunks(stream):
        if kind not in (_CANVAS, _LOSSY, _LOSSLESS, _EXIF, _XMP):
            continue
        stream.seek(start)
        if kind == _EXIF:
            exif = stream.read(length).removeprefix(EXIF_PREFIX)
        elif kind == _XMP:
            xmp = stream.read(length)
        elif size is None:
            size = _read_size(kind, stream.read(10))
    if size is None:
        raise ValueError("its header is unreadable")
    width, height = upright_size(*size, orientation(exif))
    return Header(format="WEBP", width=width, height=height, xmp=xmp)


def _read_size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Width and height that a picture or the canvas of several begins with."""
    if kind == _LOSSY:  # 14 bits each, and 2 of scaling
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    if kind == _LOSSLESS:  # a signature, then 14 bits each
        (bits,) = struct.unpack_from("<I", head, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, width_high, height, height_high = struct.unpack_from("<HBHB", head, 4)
    return (width_high << 16 | width) + 1, (height_high << 16 | height) + 1


def _chunks(stream: io.BufferedIOBase) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk, where its content begins, and its length."""
    position = _HEAD_BYTES
    while True:
        stream.seek(position)
        head = stream.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        yield kind, position + 8, length
        position += 8 + length + length % 2
