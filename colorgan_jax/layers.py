"""The networks' 4x4 convolutions, in the form that each backend runs fastest."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _plain_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT
    )


def _plain_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_transpose(
        x, kernel, (2, 2), ((2, 2), (2, 2)), dimension_numbers=_LAYOUT
    )


def _plain_stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT
    )


def _patches(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> the 4x4 windows of conv_down, [B, H/2, W/2, 4, 4, C]."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    columns = [x[:, :, t : t + 2 * width - 1 : 2] for t in range(4)]
    x = jnp.stack(columns, axis=3)
    rows = [x[:, t : t + 2 * height - 1 : 2] for t in range(4)]
    return jnp.stack(rows, axis=3)


def _kernel_gradient(large: jax.Array, small: jax.Array) -> jax.Array:
    """sum over positions of window(large) x small: [4, 4, C_large, C_small]."""
    return jnp.einsum("bhwtuc,bhwo->tuco", _patches(large), small)


def _adjoint_kernel(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _subpixel_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    features = kernel.shape[-1]
    # [row tap, row parity, column tap, column parity, I, O]
    taps = kernel.reshape(2, 2, 2, 2, channels, features)[:, ::-1, :, ::-1]
    taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * features)
    y = lax.conv_general_dilated(
        x, taps, (1, 1), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT
    )
    y = y.reshape(batch, height + 1, width + 1, 2, 2, features)
    y = y.transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, 2 * height + 2, 2 * width + 2, features)
    return y[:, 1:-1, 1:-1]


@jax.custom_vjp
def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 convolution with stride 2 and padding 1, which halves height and width.

    Args:
        x: `[B, H, W, I]`, H and W even.
        kernel: `[4, 4, I, O]`.

    Returns:
        `[B, H/2, W/2, O]`.
    """
    return lax.platform_dependent(x, kernel, cpu=_plain_down, default=_plain_down)


@jax.custom_vjp
def conv_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 transposed convolution with stride 2, which doubles height and width.

    Args:
        x: `[B, H, W, I]`.
        kernel: `[4, 4, I, O]`, as `flax.linen.ConvTranspose` stores it.

    Returns:
        `[B, 2*H, 2*W, O]`.
    """
    return lax.platform_dependent(x, kernel, cpu=_subpixel_up, default=_plain_up)


def _vjp_of(function: Callable) -> Callable:
    def backward(x, kernel, gradient):
        return jax.vjp(function, x, kernel)[1](gradient)

    return backward


def _down_backward_cpu(x, kernel, gradient):
    return conv_up(gradient, _adjoint_kernel(kernel)), _kernel_gradient(x, gradient)


def _up_backward_cpu(x, kernel, gradient):
    flipped = _kernel_gradient(gradient, x)
    return conv_down(gradient, _adjoint_kernel(kernel)), _adjoint_kernel(flipped)


def _down_backward(residuals, gradient):
    return lax.platform_dependent(
        *residuals, gradient, cpu=_down_backward_cpu, default=_vjp_of(_plain_down)
    )


def _up_backward(residuals, gradient):
    return lax.platform_dependent(
        *residuals, gradient, cpu=_up_backward_cpu, default=_vjp_of(_plain_up)
    )


conv_down.defvjp(lambda x, kernel: (conv_down(x, kernel), (x, kernel)), _down_backward)
conv_up.defvjp(lambda x, kernel: (conv_up(x, kernel), (x, kernel)), _up_backward)


def conv_stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """4x4 convolution with stride 1 and padding 1: height and width lose 1.

    Args:
        x: `[B, H, W, I]`.
        kernel: `[4, 4, I, O]`.

    Returns:
        `[B, H-1, W-1, O]`.
    """
    return _plain_stride_one(x, kernel)


class _Conv4x4(nn.Module):
    """What the three modules share: the parameters `kernel` and `bias`."""

    features: int
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (4, 4, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.convolve(x, kernel)
        return y if bias is None else y + bias


class DownConv(_Conv4x4):
    """`conv_down` as a Flax module."""

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_down(x, kernel)


class UpConv(_Conv4x4):
    """`conv_up` as a Flax module."""

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_up(x, kernel)


class StrideOneConv(_Conv4x4):
    """`conv_stride_one` as a Flax module."""

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_stride_one(x, kernel)
