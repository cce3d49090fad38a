"""The layers that the generator and the discriminator share."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jax.typing import DTypeLike

from colorgan_jax.networks.architecture import BATCH_NORM_EPSILON
from colorgan_jax.networks.convolutions import conv_down, conv_stride_one, conv_up

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


class _Conv(nn.Module):
    """What the three layers share: the parameters "kernel" and "bias" `[O]`.

    Attributes:
      features: output channels.
      use_bias: whether there is a bias.
      dtype: type to compute in; by default that of the input and the parameters.
    """

    convolve: ClassVar[Callable[[jax.Array, jax.Array], jax.Array]]

    features: int
    use_bias: bool = True
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images `[B, H, W, I]` to those of `features` channels."""
        shape = self.kernel_shape(x.shape[-1])
        kernel = self.param("kernel", nn.initializers.normal(0.02), shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.convolve(x, kernel)
        return y if bias is None else y + bias

    def kernel_shape(self, inputs: int) -> tuple[int, int, int, int]:
        """The shape of the kernel for that many input channels."""
        return 4, 4, inputs, self.features


class DownConv(_Conv):
    """`conv_down` as a layer."""

    convolve = staticmethod(conv_down)


class UpConv(_Conv):
    """`conv_up` as a layer."""

    convolve = staticmethod(conv_up)

    def kernel_shape(self, inputs: int) -> tuple[int, int, int, int]:
        """Like `DownConv`, whose adjoint it is: channels of the large image come first."""
        return 4, 4, self.features, inputs


class StrideOneConv(_Conv):
    """`conv_stride_one` as a layer."""

    convolve = staticmethod(conv_stride_one)
