"""What the header of a photo file says, without its pixels."""

import dataclasses

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.exif import ON_ITS_SIDE

# Pillow's own limit, stated here so that it holds whatever other code sets it to.
# A 24-megapixel photo takes an eighth of it.
MAXIMUM_PIXELS = 178_956_970


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """What `read_photo` will find in a file.

    Attributes:
      format: what Pillow calls it.
      width: of the upright photo, in pixels.
      height: likewise.
      bits: of the samples that are read of it: 8 or 16.
      pages: how many the file has (`photos.pages`).
      xmp: its XMP packet; of a PNG file only if it stands before the pixels.
    """

    format: str
    width: int
    height: int
    bits: int = 8
    pages: int = 1
    xmp: bytes = b""

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height of a photo as it is seen, from those in which it is stored."""
    return (height, width) if orientation in ON_ITS_SIDE else (width, height)


def too_large(name: str) -> PhotoError:
    """The error for a photo of more than `MAXIMUM_PIXELS` pixels."""
    return PhotoError(
        f"{name} has more than {MAXIMUM_PIXELS // 10**6} million pixels; shrink it first."
    )
