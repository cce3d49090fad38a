"""Colorizations that look at no photo: what a model has to beat.

Each takes CIE lightness L [B, H, W] in [0, 100] and returns sRGB [B, H, W, 3] in [0, 1]
with that lightness, wherever sRGB can show it. Pure functions, fit for `jit`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from colorgan_jax.lab import AB_SCALE, lab_to_rgb, limit_chroma

# The names that tables and figures give to the baselines.
GRAY, MEAN_AB, RANDOM_AB = "gray", "mean ab", "random ab"


def gray(L: Float[Array | np.ndarray, "B H W"]) -> Float[Array, "B H W 3"]:
    """No color at all: ab = 0."""
    return uniform(L, jnp.zeros(2))


def uniform(
    L: Float[Array | np.ndarray, "B H W"], ab: Float[ArrayLike, "2"]
) -> Float[Array, "B H W 3"]:
    """One color for every pixel: `ab` [2] in CIE units, such as the mean of a data set."""
    return lab_to_rgb(limit_chroma(_join(L, jnp.asarray(ab))))


def random_ab(
    L: Float[Array | np.ndarray, "B H W"], numbers: Int[Array | np.ndarray, " B"]
) -> Float[Array, "B H W 3"]:
    """The report's baseline: ab uniform in [-110, 110], pixel by pixel.

    Clipped to sRGB as in the report, which changes the lightness.

    Args:
      L: [B, H, W], in [0, 100].
      numbers: integers [B], the photos' seeds: a photo gets the same colors in whatever
        batch it is.
    """

    def draw(number: jax.Array) -> jax.Array:
        # Named: under `vmap`, what other generators draw depends on the batch.
        key = jax.random.key(number, impl="threefry2x32")
        return jax.random.uniform(
            key, (*L.shape[1:], 2), minval=-AB_SCALE, maxval=AB_SCALE
        )

    return lab_to_rgb(_join(L, jax.vmap(draw)(jnp.asarray(numbers))))


def _join(L: jax.Array | np.ndarray, ab: jax.Array) -> jax.Array:
    ab = jnp.broadcast_to(ab.astype(L.dtype), (*L.shape, 2))
    return jnp.concatenate([L[..., None], ab], axis=-1)
