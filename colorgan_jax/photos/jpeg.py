"""The pixels of JPEG files, and where they are damaged."""

import re
import struct

import numpy as np
import simplejpeg
from PIL import Image

from colorgan_jax.errors import PhotoError

_JPEG_SCAN = 0xDA
_JPEG_END = b"\xff\xd9"
# What ends the data of a scan: any marker but restarts and an 0xFF that is data.
_JPEG_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")
# More zeros in a row than most scans of a progressive JPEG hold.
_HOLE_BYTES = 32


def decode_jpeg(
    image: Image.Image, content: bytes, name: str, minimum_size: int | None
) -> tuple[np.ndarray, list[str]]:
    """Decodes a gray or RGB JPEG, and says where its data is damaged.

    simplejpeg is libjpeg-turbo, as Pillow's decoder is, but tells what that warns of.
    """
    if minimum_size is not None:
        image.draft(image.mode, (minimum_size, minimum_size))
    width, height = image.size

    def decode(content: bytes, *, strict: bool) -> np.ndarray:
        pixels = simplejpeg.decode_jpeg(
            content,
            "GRAY" if image.mode == "L" else "RGB",
            min_width=width,
            min_height=height,
            strict=strict,
        )
        return pixels[..., 0] if image.mode == "L" else pixels

    damage = []
    try:
        pixels = decode(content, strict=True)
    except ValueError as error:
        if "Premature end of JPEG file" in str(error):
            # All that is missing may be the end marker.
            try:
                return decode(content + _JPEG_END, strict=True), []
            except ValueError:
                raise PhotoError(f"{name} is damaged or cut short: {error}.") from error
        pixels = decode(content, strict=False)
        damage.append(f"it is damaged ({error}), and parts of it may be wrong")
    if not damage and image.info.get("progressive") and _has_hole(content):
        damage.append("it is damaged (a hole of zeros), and parts of it may be wrong")
    return pixels, damage


def segment(marker: bytes, content: bytes) -> bytes:
    """A segment of metadata: its size, which is written in 16 bits, counts itself."""
    return marker + struct.pack(">H", 2 + len(content)) + content


def _has_hole(content: bytes) -> bool:
    """Whether there are zeros in a progressive JPEG where coefficients should be.

    Its decoder takes them for coefficients, and no warning tells. But no encoder writes so
    many zeros into a scan, unless it is of the lowest frequency: it counts empty blocks.
    """
    position = 2
    while position + 4 <= len(content):
        marker = content[position + 1]
        (size,) = struct.unpack_from(">H", content, position + 2)
        position += 2 + size
        if marker == _JPEG_SCAN:
            lowest_frequency = content[position - 3]
            found = _JPEG_MARKER.search(content, position)
            end = found.start() if found else len(content)
            if lowest_frequency > 0 and bytes(_HOLE_BYTES) in content[position:end]:
                return True
            position = end
        if content.startswith(_JPEG_END, position):
            break
    return False
