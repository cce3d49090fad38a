"""Colors of another photo of the same place or subject, carried over to what looks alike.

What the network gets wrong in a photo whose colors are known, it probably gets wrong in
the same way where another photo of that place looks alike. As with hints (`hints`) it is
the mean of a Gaussian process, with the places of the one photo and the pixels of the
other, wherever they are in them. Of another place or subject it misleads.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from colorgan_jax.hints import (
    FEATURE_GRID,
    Kernel,
    feature_distances,
    squared_distances,
    standardize,
)
from colorgan_jax.lab import AB_SCALE, rgb_to_lab
from colorgan_jax.photos import Photo, resize_photo
from colorgan_jax.upsampling import resize

# All references have this height and width, whatever network sees them.
_SIZE = 256
# Its widths of lightness, colors and features.
_KERNEL = Kernel()
# The colors are known at so many places a side.
_PLACES = 16
# Variance of what is peculiar to one of the photos, in units of that which both share.
_NOISE = 1.0


class Reference(NamedTuple):
    """A photo whose colors are known; `make_reference` makes it.

    Attributes:
      L: CIE lightness in [0, 100].
      ab: CIE a and b.
    """

    L: Float[Array | np.ndarray, "S S"]
    ab: Float[Array | np.ndarray, "S S 2"]


class Look(NamedTuple):
    """What the network makes of a photo; of several, all with a leading dimension.

    Attributes:
      L: CIE lightness in [0, 100], at the size of the network.
      ab: its colors, scaled to [-1, 1].
      features: what `Generator.encode` gives: the outermost block first.
    """

    L: Float[Array | np.ndarray, "*batch S S"]
    ab: Float[Array | np.ndarray, "*batch S S 2"]
    features: Sequence[Float[Array | np.ndarray, "*batch _ _ _"]]


def make_reference(photo: Photo) -> Reference:
    """Makes the reference of a photo in color, from `read_photo`."""
    pixels = resize_photo(photo.pixels, _SIZE, _SIZE)
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    lab = np.asarray(rgb_to_lab(pixels / np.float32(np.iinfo(pixels.dtype).max)))
    return Reference(lab[..., 0], lab[..., 1:])


def spread_reference(
    colors: Float[Array | np.ndarray, "S S 2"],
    reference: Look,
    photo: Look,
) -> Float[Array, "S S 2"]:
    """Corrects the predicted colors of a photo by the known ones of another.

    Pure, and fit for `jit`, `vmap` and `grad`.

    Args:
      colors: of the reference, CIE a and b.
      reference: what the network makes of the reference.
      photo: what it makes of the photo.

    Returns:
      ab of the photo, scaled to [-1, 1].
    """
    missing = resize(colors - AB_SCALE * jnp.asarray(reference.ab), _PLACES, _PLACES)
    widths = jnp.asarray([_KERNEL.L, _KERNEL.ab, _KERNEL.ab])
    looks, pixels = (
        jnp.concatenate([jnp.asarray(look.L)[..., None], AB_SCALE * look.ab], axis=-1)
        / widths
        for look in (reference, photo)
    )
    places = resize(looks, _PLACES, _PLACES).reshape(-1, 3)
    between, across = _compare_features(reference, photo)
    between += squared_distances(places, places)
    across += squared_distances(places, pixels.reshape(-1, 3))
    covariance = jnp.exp(-0.5 * between) + _NOISE * jnp.eye(len(places))
    weights = jax.scipy.linalg.solve(covariance, missing.reshape(-1, 2), assume_a="pos")
    correction = jnp.einsum(
        "kp,kc->pc", jnp.exp(-0.5 * across), weights, precision="highest"
    )
    return jnp.asarray(photo.ab) + correction.reshape(photo.ab.shape) / AB_SCALE


def _compare_features(reference: Look, photo: Look) -> tuple[jax.Array, jax.Array]:
    """Squared distances of features: between places, and from each to all pixels."""
    size = photo.L.shape
    grid = tuple(min(length, FEATURE_GRID) for length in size)
    places, cells = [jnp.zeros((_PLACES, _PLACES, 1))], [jnp.zeros((*grid, 1))]
    for block, width in _KERNEL.features:
        if block <= len(photo.features):
            both = [look.features[block - 1] for look in (reference, photo)]
            first, second = jnp.split(standardize(jnp.concatenate(both)) / width, 2)
            places.append(resize(first, _PLACES, _PLACES))
            cells.append(resize(second, *grid))
    first = jnp.concatenate(places, axis=-1)
    first = first.reshape(-1, first.shape[-1])
    second = jnp.concatenate(cells, axis=-1)

    across = resize(feature_distances(first, second), *size).reshape(-1, len(first))
    return feature_distances(first, first), across.T
