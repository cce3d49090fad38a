"""Measures of a colorized photo against the real one: pure functions in JAX.

Photos are sRGB floats [..., H, W, 3] in [0, 1].
"""

import jax
import jax.numpy as jnp


def psnr(photo: jax.Array, reference: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of each photo, over pixels and channels.

    10 log10(1 / mean squared error): the peak is 1.0, that of the floats compared
    (Gonzalez and Woods, Digital Image Processing, section 8.1). `cv2.PSNR` assumes a
    peak of 255; on such floats its result is 48.13 dB higher.

    Args:
      photo: [..., H, W, 3].
      reference: of the same shape.

    Returns:
      Decibels [...]; infinite where both are equal.
    """
    error = jnp.mean(jnp.square(photo - reference), axis=(-3, -2, -1))
    return -10 * jnp.log10(error)
