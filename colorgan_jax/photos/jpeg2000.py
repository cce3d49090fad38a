"""What the headers of JPEG 2000 files say that Pillow does not tell."""

import io
import struct
from collections.abc import Iterator

_CODESTREAM = b"\xff\x4f\xff\x51"

# Where in a codestream stand the bits of the first component; the marker of the kind of
# coding, and where after it stands the kind of wavelet (ISO 15444-1, Annex A).
_DEPTH_AT = 42
_CODING = b"\xff\x52"
_WAVELET_AT = 13
_LOSSLESS_WAVELET = 1

# More than stands before the kind of coding.
_HEAD_BYTES = 2**16


def bits(stream: io.BufferedIOBase) -> int:
    """How many bits a sample of the first component has.

    Returns:
      16 at most, which is what decoders make of more; 8 where it is illegible.
    """
    head = _codestream(stream)
    return min((head[_DEPTH_AT] & 0x7F) + 1, 16) if len(head) > _DEPTH_AT else 8


def is_lossless(stream: io.BufferedIOBase) -> bool:
    """Whether the file holds every pixel as it was."""
    head = _codestream(stream)
    wavelet_at = head.find(_CODING) + _WAVELET_AT
    return head[wavelet_at : wavelet_at + 1] == bytes([_LOSSLESS_WAVELET])


def uuid_boxes(stream: io.BufferedIOBase) -> dict[bytes, bytes]:
    """The boxes of a JPEG 2000 file that name their kind by a UUID (ISO 15444-1, I)."""
    found = {}
    for kind, start, end in _boxes(stream):
        if kind == b"uuid":
            stream.seek(start)
            content = stream.read(end - start)
            found[content[:16]] = content[16:]
    return found


def _codestream(stream: io.BufferedIOBase) -> bytes:
    """The beginning of the compressed picture: of its box, or of a file without boxes."""
    starts = [0, *(start for kind, start, _ in _boxes(stream) if kind == b"jp2c")]
    for start in starts:
        stream.seek(start)
        head = stream.read(_HEAD_BYTES)
        if head.startswith(_CODESTREAM):
            return head
    return b""


def _boxes(stream: io.BufferedIOBase) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box, and where its content begins and ends."""
    size_of_file = stream.seek(0, io.SEEK_END)
    position = 0
    while position + 8 <= size_of_file:
        stream.seek(position)
        head = stream.read(16)
        size, kind = struct.unpack_from(">I4s", head)
        start = position + 8
        if size == 0:  # up to the end of the file
            size = size_of_file - position
        elif size == 1 and len(head) == 16:  # It stands in the next eight bytes.
            (size,) = struct.unpack_from(">Q", head, 8)
            start += 8
        if size < start - position:  # It is damaged.
            return
        position += size
        yield kind, start, min(position, size_of_file)
