"""Color for photos with a trained generator. Layouts and ranges are those of `lab`."""

import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from colorgan_jax.compilation import jit_network
from colorgan_jax.lab import AB_SCALE, L_SCALE, lab_to_rgb, limit_chroma, rgb_to_lab
from colorgan_jax.networks.generator import Generator
from colorgan_jax.params import Params, image_size
from colorgan_jax.photos import resize_photo

# `recolor_photo` does the color maths of a large photo on this many pixels at a time:
# it bounds the memory, and one compiled function serves photos of all sizes.
_CHUNK_PIXELS = 2**16


def predict_ab(params: Params, L: jax.Array) -> jax.Array:
    """The generator's forward pass in inference mode, with folded parameters.

    Args:
      params: folded parameters of a generator for SxS pixels.
      L: [B, S, S, 1], scaled to [-1, 1] as by `lab.to_network`.

    Returns:
      ab [B, S, S, 2], scaled to [-1, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if L has another shape.
    """
    generator = Generator.from_params(params)
    size = generator.image_size
    if L.ndim != 4 or L.shape[1:] != (size, size, 1):
        raise ValueError(
            f"predict_ab takes L of shape [B, {size}, {size}, 1], not {L.shape}."
        )
    return generator.apply({"params": params}, L, train=False)


def colorize(params: Params, L: jax.Array, *, saturation: ArrayLike = 1.0) -> jax.Array:
    """Colorizes images that are given by their CIE lightness.

    The network sees L resized to its own size; the colors that it predicts are
    resized back and joined with the given L. Where sRGB cannot show such a color at
    that lightness, its chroma is lowered: the result has the given lightness.

    Compiled once for each shape of L. `jit`, `vmap` and `grad` go through it.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      L: floats [..., H, W], CIE lightness in [0, 100]; any number of leading
        dimensions, any height and width.
      saturation: factor on the predicted ab, from 0 on: 0 gives gray, more than 1
        stronger colors. Another value compiles nothing anew.

    Returns:
      sRGB, float32 [..., H, W, 3] in [0, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
      TypeError: if L is not floating point.
      ValueError: if L has fewer than two dimensions or no pixels.
    """
    image_size(params)
    L = jnp.asarray(L)
    if not jnp.issubdtype(L.dtype, jnp.floating):
        raise TypeError(f"colorize takes L as floats in [0, 100], not {L.dtype}.")
    if L.ndim < 2 or 0 in L.shape[-2:]:
        raise ValueError(
            f"colorize takes L of shape [..., height, width], not {L.shape}."
        )
    return _colorize(params, L.astype(jnp.float32), jnp.float32(saturation))


@jit_network
def _colorize(params: Params, L: jax.Array, saturation: jax.Array) -> jax.Array:
    size = image_size(params)
    height, width = L.shape[-2:]
    images = math.prod(L.shape[:-2])
    seen = L.reshape(images, height, width, 1)
    if (height, width) != (size, size):
        seen = jax.image.resize(seen, (images, size, size, 1), "linear", antialias=True)
    ab = predict_ab(params, seen / L_SCALE - 1)
    if (height, width) != (size, size):
        ab = jax.image.resize(ab, (images, height, width, 2), "cubic")
    return _join(L, saturation * ab.reshape(*L.shape, 2))


def _join(L: jax.Array, ab: jax.Array) -> jax.Array:
    """sRGB of CIE L [...] and the network's ab [..., 2]."""
    lab = jnp.concatenate([L[..., None], ab * AB_SCALE], axis=-1)
    return lab_to_rgb(limit_chroma(lab))


def colorize_photo(
    params: Params, rgb: np.ndarray, *, saturation: float = 1.0
) -> np.ndarray:
    """Colorizes one photo at its full resolution; its own colors are ignored.

    The same as `colorize` up to the method of resizing, for photos on the host:
    nothing is compiled anew for another size, and memory stays bounded.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      rgb: uint8 [H, W, 3], sRGB in [0, 255].
      saturation: as for `colorize`.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255], with the lightness of `rgb`.

    Raises:
      ParamsError: if `params` are not a generator's.
      ValueError: if `rgb` is not uint8 [H, W, 3].
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[-1] != 3 or 0 in rgb.shape:
        raise ValueError(
            "colorize_photo takes uint8 of shape [height, width, 3], not"
            f" {rgb.dtype} of shape {rgb.shape}."
        )
    size = image_size(params)
    seen = resize_photo(rgb, size, size)
    ab = predict_photos_ab(params, seen[None])[0]
    return recolor_photo(rgb, ab, saturation=saturation)


def predict_photos_ab(params: Params, rgb: np.ndarray) -> np.ndarray:
    """The colors of photos that are as small as the network sees them.

    Together with `recolor_photo` this is `colorize_photo` in two steps, for programs that
    colorize many photos: several share this step, and the other runs in threads.

    Args:
      params: parameters of a generator for SxS pixels.
      rgb: uint8 [B, S, S, 3], sRGB in [0, 255]. Compiled once for each B.

    Returns:
      The network's ab, float32 [B, S, S, 2] in [-1, 1].

    Raises:
      ParamsError: if `params` are not a generator's.
    """
    return np.asarray(_predict_photos_ab(params, rgb))


@jit_network
def _predict_photos_ab(params: Params, rgb: jax.Array) -> jax.Array:
    return predict_ab(params, _lightness(rgb)[..., None] / L_SCALE - 1)


def recolor_photo(
    rgb: np.ndarray, ab: np.ndarray, *, saturation: float = 1.0
) -> np.ndarray:
    """Gives a photo other colors of any resolution, and keeps its own lightness.

    Threads may call this side by side.

    Args:
      rgb: uint8 [H, W, 3], sRGB in [0, 255].
      ab: float32 [h, w, 2], the network's colors in [-1, 1].
      saturation: as for `colorize`.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255].
    """
    height, width = rgb.shape[:2]
    ab = saturation * ab
    # Enlarged to the full width here and to the full height chunk by chunk: all of it at
    # once would take as much memory as the rest together.
    rows = resize_photo(ab, len(ab), width).reshape(len(ab), -1)
    row_weights = cv2.resize(
        np.eye(len(ab), dtype=np.float32),
        (len(ab), height),
        interpolation=cv2.INTER_CUBIC if height > len(ab) else cv2.INTER_AREA,
    )
    # Cubic interpolation overshoots at edges.
    lowest, highest = (np.tile(f(ab, axis=(0, 1)), width) for f in (np.min, np.max))

    pixels = rgb.reshape(-1, 3)
    result = np.empty_like(pixels)
    for start in range(0, len(pixels), _CHUNK_PIXELS):
        chunk = pixels[start : start + _CHUNK_PIXELS]
        top, bottom = start // width, math.ceil((start + len(chunk)) / width)
        weights = row_weights[top:bottom]
        used = np.flatnonzero(weights.any(axis=0))
        used = slice(used[0], used[-1] + 1)
        chunk_ab = np.clip(weights[:, used] @ rows[used], lowest, highest)
        chunk_ab = chunk_ab.reshape(-1, 2)[start - top * width :][: len(chunk)]
        padding = ((0, _CHUNK_PIXELS - len(chunk)), (0, 0))
        colored = _recolor(np.pad(chunk, padding), np.pad(chunk_ab, padding))
        result[start : start + len(chunk)] = np.asarray(colored)[: len(chunk)]
    return result.reshape(rgb.shape)


@jax.jit
def _recolor(rgb: jax.Array, ab: jax.Array) -> jax.Array:
    """uint8 [N, 3] with the lightness of `rgb` and the network's ab [N, 2]."""
    return jnp.round(_join(_lightness(rgb), ab) * 255).astype(jnp.uint8)


def _lightness(rgb: jax.Array) -> jax.Array:
    """CIE L [...] of uint8 sRGB [..., 3]."""
    return rgb_to_lab(rgb.astype(jnp.float32) / 255)[..., 0]
