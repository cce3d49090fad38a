"""A photo: its pixels, and what of its file must survive."""

import dataclasses

import numpy as np
from jaxtyping import Shaped, UInt8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says of its photo, in the bytes in which it says it.

    Attributes:
      dpi: pixels per inch, across and down.
      exif: an EXIF block (`photos.exif`).
      xmp: an XMP packet.
      photoshop: Photoshop's image resources, IPTC among them (`photos.photoshop`).
      iptc: an IPTC record that stands by itself, as in TIFF files.
      text: the text chunks of a PNG file by keyword.
      comment: of a JPEG file.
      extended_xmp: what XMP a JPEG file has beyond its packet, in segments as they stand
        in the file.
    """

    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    xmp: bytes = b""
    photoshop: bytes = b""
    iptc: bytes = b""
    text: tuple[tuple[str, str], ...] = ()
    comment: bytes = b""
    extended_xmp: tuple[bytes, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """A photo, upright, in sRGB, at the precision of its file.

    Attributes:
      pixels: uint8 or uint16, [H, W] if it is gray, else [H, W, 3]: sRGB from 0 to the
        largest number of the dtype. Not multiplied by alpha.
      alpha: opacity [H, W], of the same dtype; None where all is opaque.
      format: what Pillow calls the format of its file.
      lossless: whether that file holds every pixel as it was.
      pages: how many its file has (`photos.pages`).
      metadata: what its file says of it.
      remarks: what was lost or doubtful in reading, in parts of sentences.
    """

    pixels: Shaped[np.ndarray, "H W *C"]
    alpha: Shaped[np.ndarray, "H W"] | None = None
    _: dataclasses.KW_ONLY
    format: str = "PNG"
    lossless: bool = True
    pages: int = 1
    metadata: Metadata = Metadata()
    remarks: tuple[str, ...] = ()

    def opaque(self) -> "Photo":
        """The photo on white where it was transparent."""
        if self.alpha is None:
            return self
        most = np.iinfo(self.pixels.dtype).max
        alpha = self.alpha.astype(np.uint32)
        if self.pixels.ndim == 3:
            alpha = alpha[..., None]
        mixed = self.pixels * alpha + most * (most - alpha)
        pixels = ((mixed + most // 2) // most).astype(self.pixels.dtype)
        return dataclasses.replace(self, pixels=pixels, alpha=None)

    def rgb8(self) -> UInt8[np.ndarray, "H W 3"]:
        """The photo at 8 bits, in three channels, on white where it was transparent."""
        pixels = to_8_bits(self.opaque().pixels)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return pixels


def check_pixels(pixels: Shaped[np.ndarray, "*shape"]) -> None:
    """Refuses what no photo has.

    Raises:
      ValueError: pixels that are not uint8 or uint16, or neither [H, W] nor [H, W, 3], or
        none at all.
    """
    if (
        pixels.dtype not in (np.uint8, np.uint16)
        or pixels.shape[2:] not in ((), (3,))
        or pixels.ndim < 2
        or 0 in pixels.shape
    ):
        raise ValueError(
            "A photo is uint8 or uint16 of shape [height, width] or [height, width, 3],"
            f" not {pixels.dtype} of shape {pixels.shape}."
        )


def to_8_bits(pixels: Shaped[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Rounds uint16 to uint8, and leaves uint8 as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
