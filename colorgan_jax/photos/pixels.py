"""Arrays of pixels: other sizes, and how much color there is."""

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

# Below this `color_strength` no color is seen but in single spots.
NEARLY_GRAY = 4.0


def resize_photo(
    photo: Shaped[np.ndarray, "_ _ *C"], height: int, width: int
) -> Shaped[np.ndarray, "{height} {width} *C"]:
    """Resizes a photo or any other array of pixels, whatever its aspect ratio.

    An axis that shrinks is averaged over the area of each new pixel (no aliasing), one
    that grows is interpolated bicubically. The result stays within the range of the
    given values.

    Args:
      photo: uint8 or float32, [H, W, C] with any C, or [H, W].
      height: new height in pixels.
      width: new width in pixels.

    Returns:
      The same dtype and rank, [height, width, C] or [height, width].
    """
    if photo.ndim == 3 and photo.shape[2] > 4:  # more than OpenCV can average
        parts = [photo[..., first : first + 4] for first in range(0, photo.shape[2], 4)]
        resized = [resize_photo(part, height, width) for part in parts]
        return np.concatenate(resized, axis=2)

    # Shrinking comes first and each axis has its own method: given both at once, OpenCV's
    # INTER_AREA silently falls back to bilinear and aliases.
    resized = np.ascontiguousarray(photo)
    shrunk = (min(width, photo.shape[1]), min(height, photo.shape[0]))
    resized = cv2.resize(resized, shrunk, interpolation=cv2.INTER_AREA)
    if shrunk != (width, height):
        lowest = resized.min(axis=(0, 1))
        highest = resized.max(axis=(0, 1))
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_CUBIC)
        # Cubic interpolation overshoots at edges. Limits as long as a row, because NumPy
        # is slow on a last dimension as short as the channels.
        rows = resized.reshape(height, -1)
        np.clip(rows, np.tile(lowest, width), np.tile(highest, width), out=rows)
    # OpenCV drops a single channel.
    return resized.reshape(height, width, *photo.shape[2:])


def color_strength(rgb: UInt8[np.ndarray, "H W 3"]) -> float:
    """Mean difference between the strongest and the weakest channel of the pixels.

    Args:
      rgb: uint8 [height, width, 3].

    Returns:
      0 for a gray photo, up to 255; compare `NEARLY_GRAY`.
    """
    return float(np.mean(rgb.max(axis=-1) - rgb.min(axis=-1)))


def is_nearly_gray(
    rgb: UInt8[np.ndarray, "H W 3"], minimum_color: float = NEARLY_GRAY
) -> bool:
    """Whether a photo has so little color that nothing can be learned or scored by it.

    Args:
      rgb: uint8 [height, width, 3].
      minimum_color: the least `color_strength` of a usable photo.
    """
    return color_strength(rgb) < minimum_color
