"""What the generator and the discriminator share besides convolutions."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

BATCH_NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.2


def _scale_init(key, shape, dtype=jnp.float32):
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


# Over the global batch: under `jit` a mean over a sharded axis spans all devices.
BatchNorm = partial(
    nn.BatchNorm, momentum=0.9, epsilon=BATCH_NORM_EPSILON, scale_init=_scale_init
)


def leaky_relu(x: jax.Array) -> jax.Array:
    """LeakyReLU with the report's slope of 0.2."""
    return nn.leaky_relu(x, LEAKY_SLOPE)
