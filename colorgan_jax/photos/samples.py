"""Samples as files store them, made into those of a photo."""

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image, ImageCms

from colorgan_jax.photos.exif import ON_ITS_SIDE


def turn_upright(
    samples: Shaped[np.ndarray, "_ _ *C"], orientation: int
) -> Shaped[np.ndarray, "_ _ *C"]:
    """Undoes an EXIF orientation from 1 to 8 (CIPA DC-008, tag 274); others are 1."""
    if orientation in ON_ITS_SIDE:
        samples = np.swapaxes(samples, 0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def divide_by_alpha(
    samples: Shaped[np.ndarray, "H W *C"], alpha: Shaped[np.ndarray, "H W"]
) -> Shaped[np.ndarray, "H W *C"]:
    """Undoes a multiplication by alpha.

    Args:
      samples: uint8 or uint16.
      alpha: of the same dtype.
    """
    most = np.iinfo(samples.dtype).max
    whole = np.maximum(alpha, 1).reshape(alpha.shape + (1,) * (samples.ndim - 2))
    divided = np.minimum(samples * np.float32(most) / whole, most).round()
    return divided.astype(samples.dtype)


def widen(samples: UInt16[np.ndarray, "*shape"], bits: int) -> np.ndarray:
    """Stretches samples of so many bits over 16, so that white is 65535.

    Args:
      samples: in [0, 2**bits - 1].
      bits: from 8 to 16.
    """
    if bits == 16:
        return samples
    return samples << np.uint16(16 - bits) | samples >> np.uint16(2 * bits - 16)


def lab_to_rgb(lab: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """SRGB of 8-bit Lab as TIFF files have it (for the white point D50).

    Args:
      lab: L from 0 to 255; a and b in the two's complement.
    """
    rgb = ImageCms.profileToProfile(
        Image.fromarray(lab, mode="LAB"),
        ImageCms.createProfile("LAB"),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    return np.array(rgb)
