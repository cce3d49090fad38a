"""How arrays of pixels change size between the photo and the network: one contract.

An axis that shrinks is averaged over the area of each new pixel (no aliasing), one that
grows is interpolated cubically between pixel centers, and the result stays within the
range of the values that were interpolated, since cubic interpolation overshoots at edges.
`photos.resize_photo` does the same by OpenCV, for arrays on the host.
"""

import functools
from collections.abc import Iterator

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from colorgan_jax.photos import resize_photo

# Of the cubic kernel, as in OpenCV: its slope at distance 1 (Keys 1981).
_SHARPNESS = -0.75

# Of an enlarged array that are computed together.
_ROWS_AT_A_TIME = 16


def resize(
    images: Float[Array | np.ndarray, "*batch h w C"], height: int, width: int
) -> Float[Array, "*batch {height} {width} C"]:
    """Resizes images within a program of JAX.

    Args:
      images: floats [..., h, w, C].
      height: new height in pixels.
      width: new width in pixels.

    Returns:
      [..., height, width, C].
    """
    *_, h, w, _ = images.shape
    images = _multiply(jnp.asarray(images), min(h, height), min(w, width))
    if (height, width) == images.shape[-3:-1]:
        return images
    lowest = images.min(axis=(-3, -2), keepdims=True)
    highest = images.max(axis=(-3, -2), keepdims=True)
    return jnp.clip(_multiply(images, height, width), lowest, highest)


def upsample(
    ab: Float[Array | np.ndarray, "*batch h w 2"],
    L: Float[Array | np.ndarray, "*batch H W"],
) -> Float[Array, "*batch H W 2"]:
    """Brings the network's colors to the size of the photo.

    Args:
      ab: floats [..., h, w, 2].
      L: lightness of the photo, [..., H, W].

    Returns:
      ab of each pixel of L, [..., H, W, 2].
    """
    return resize(ab, *L.shape[-2:])


def upsample_parts(
    ab: Float[np.ndarray, "h w 2"],
    L: Float[np.ndarray, "H W"],
    out: Float[np.ndarray, "2 pixels"],
) -> Iterator[slice]:
    """`upsample` on the host, part by part: for photos that must not fill the memory.

    Args:
      ab: float32 [h, w, 2].
      L: lightness of the photo, [H, W].
      out: float32 [2, pixels]: receives a and b of the pixels of a part, one part after
        the other.

    Yields:
      Which of the photo's pixels, counted row by row, `out` begins with now.
    """
    height, width = L.shape
    pixels = out.shape[1]
    shrunk = resize_photo(ab, min(len(ab), height), min(ab.shape[1], width))
    weights = resize_weights(len(shrunk), height)
    limits = [(channel.min(), channel.max()) for channel in cv2.split(shrunk)]
    # Along the rows first and at once: there are few of them yet.
    widened = [
        cv2.resize(channel, (width, len(channel)), interpolation=cv2.INTER_CUBIC)
        for channel in cv2.split(shrunk)
    ]
    # A part is a number of whole rows, or lies within one.
    rows, columns = max(1, pixels // width), min(pixels, width)
    for top in range(0, height, rows):
        band = weights[top : top + rows]
        for left in range(0, width, columns):
            right = min(left + columns, width)
            size = len(band) * (right - left)
            for channel, limit, values in zip(widened, limits, out, strict=True):
                values = values[:size].reshape(len(band), -1)
                _mix_rows(band, channel[:, left:right], values)
                np.clip(values, *limit, out=values)
            start = top * width + left
            yield slice(start, start + size)


def _mix_rows(weights: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """`weights @ rows`, where neighboring rows of the result take from few of `rows`.

    Not by `@`, whose threads get in each other's way when several photos are painted.
    """
    for first in range(0, len(weights), _ROWS_AT_A_TIME):
        band = slice(first, first + _ROWS_AT_A_TIME)
        used = np.flatnonzero(weights[band].any(axis=0))
        used = slice(used[0], used[-1] + 1)
        np.einsum("rh,hc->rc", weights[band, used], rows[used], out=out[band])


@functools.lru_cache(maxsize=32)
def resize_weights(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """What each new pixel of an axis takes from each old one, float32 [new, old]."""
    if new <= old:
        scale = old / new
        first = np.arange(new)[:, None] * scale
        pixels = np.arange(old)
        overlap = np.minimum(pixels + 1, first + scale) - np.maximum(pixels, first)
        return (np.maximum(overlap, 0) / scale).astype(np.float32)

    center = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for neighbor in range(-1, 3):
        pixel = np.floor(center) + neighbor
        distance = np.abs(center - pixel)
        inner = ((_SHARPNESS + 2) * distance - (_SHARPNESS + 3)) * distance**2 + 1
        outer = _SHARPNESS * (((distance - 5) * distance + 8) * distance - 4)
        weight = np.where(distance <= 1, inner, outer)
        # Beyond the border the outermost pixel is repeated.
        pixel = np.clip(pixel, 0, old - 1).astype(int)
        np.add.at(weights, (np.arange(new), pixel), weight)
    return weights.astype(np.float32)


def _multiply(images: jax.Array, height: int, width: int) -> jax.Array:
    """Resizes by a matrix product along each axis that changes."""
    *_, h, w, _ = images.shape
    # In full precision, which accelerators do not take by default.
    product = functools.partial(jnp.einsum, precision="highest")
    if height != h:
        images = product("Hh,...hwc->...Hwc", resize_weights(h, height), images)
    if width != w:
        images = product("Ww,...hwc->...hWc", resize_weights(w, width), images)
    return images
