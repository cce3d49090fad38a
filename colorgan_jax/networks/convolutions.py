"""The networks' convolutions, the same as Flax's, in the form that runs fastest.

In one dimension, for a large image x of 2n pixels and a small one y of n, the
*gather* is the convolution of four taps with stride 2 and padding 1,

    y[p] = sum over t of K[t] x[2p + t - 1],   t = 0, 1, 2, 3,   x = 0 outside;

its adjoint, the *scatter*, adds K[t] y[p] to x[2p + t - 1]: the transposed convolution.
Each is made of the other's parts, so that three operations serve for both convolutions
and all their gradients:

                    value           gradient of the image    gradient of K
    gather      y = gather(x, K)    scatter(dy, K)           products(x, dy)
    scatter     x = scatter(y, K)   gather(dx, K)            products(dx, y)

with products(x, y)[t] = sum over p of x[2p + t - 1] y[p]. `K` is `[4, 4, large, small]`
by its channels, in both convolutions.

JAX's own gradients are equal, but the one of a transposed convolution's kernel comes out
as the convolution of a dilated image. XLA has no fast code for that on a CPU: it took two
thirds of a full-size training step.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from colorgan_jax.networks import cpu, winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))


def _gather_by_convolution(large: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        large, kernel, (2, 2), _PADDING, dimension_numbers=_LAYOUT
    )


def _scatter_by_convolution(small: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, _ = small.shape
    large = jax.ShapeDtypeStruct(
        (batch, 2 * height, 2 * width, kernel.shape[2]), small.dtype
    )
    gather = jax.linear_transpose(lambda x: _gather_by_convolution(x, kernel), large)
    return gather(small)[0]


def _products_by_convolution(large: jax.Array, small: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((4, 4, large.shape[-1], small.shape[-1]), small.dtype)
    gather = jax.linear_transpose(lambda k: _gather_by_convolution(large, k), kernel)
    return gather(small)[0]


# Which form runs where is decided when the platform is known, so that a function exported
# for several platforms has the right one on each. On accelerators the convolutions are
# those that cuDNN calls forward, backward data and backward filter.


def _products(large: jax.Array, small: jax.Array) -> jax.Array:
    on_cpu = _products_by_convolution
    if cpu.matrices_are_faster(small.shape, large.shape[-1]):
        on_cpu = cpu.products_by_matrices
    elif cpu.winograd_is_faster(small, large.shape[-1]):
        on_cpu = cpu.products_by_winograd
    return lax.platform_dependent(
        large, small, cpu=on_cpu, default=_products_by_convolution
    )


@jax.custom_vjp
def _gather(large: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = large.shape
    small = jax.ShapeDtypeStruct(
        (batch, height // 2, width // 2, kernel.shape[3]), large.dtype
    )
    on_cpu = _gather_by_convolution
    if cpu.matrices_are_faster(small.shape, channels):
        on_cpu = cpu.gather_by_matrices
    elif cpu.winograd_is_faster(small, channels):
        on_cpu = cpu.gather_by_winograd
    return lax.platform_dependent(
        large, kernel, cpu=on_cpu, default=_gather_by_convolution
    )


@jax.custom_vjp
def _scatter(small: jax.Array, kernel: jax.Array) -> jax.Array:
    on_cpu = cpu.scatter_by_subpixels
    if cpu.matrices_are_faster(small.shape, kernel.shape[2]):
        on_cpu = cpu.scatter_by_matrices
    elif cpu.winograd_is_faster(small, kernel.shape[2]):
        on_cpu = cpu.scatter_by_winograd
    return lax.platform_dependent(
        small, kernel, cpu=on_cpu, default=_scatter_by_convolution
    )


_gather.defvjp(
    lambda large, kernel: (_gather(large, kernel), (large, kernel)),
    lambda saved, small: (_scatter(small, saved[1]), _products(saved[0], small)),
)
_scatter.defvjp(
    lambda small, kernel: (_scatter(small, kernel), (small, kernel)),
    lambda saved, large: (_gather(large, saved[1]), _products(large, saved[0])),
)


def conv_down(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution 4x4 with stride 2 and padding 1: halves height and width.

    Equal to `flax.linen.Conv(features, (4, 4), (2, 2), padding=1)`. Differentiable in
    reverse mode only, as is `conv_up`.

    Args:
      x: images `[B, H, W, I]`; H and W even.
      kernel: `[4, 4, I, O]`, of the same type as `x`.

    Returns:
      `[B, H/2, W/2, O]`.

    Raises:
      ValueError: if the height or the width is odd.
    """
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(
            f"conv_down halves height and width, so both must be even; got {x.shape}."
        )
    return _gather(x, kernel)


def conv_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution 4x4 with stride 2: doubles height and width.

    Equal to `flax.linen.ConvTranspose(features, (4, 4), (2, 2), padding="SAME",
    transpose_kernel=True)`, the adjoint of `conv_down` with this kernel.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[4, 4, O, I]`, of the same type as `x`.

    Returns:
      `[B, 2H, 2W, O]`.
    """
    return _scatter(x, kernel)


def conv_stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution 4x4 with stride 1 and padding 1.

    Equal to `flax.linen.Conv(features, (4, 4), padding=1)`. Differentiable in reverse mode
    only.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[4, 4, I, O]`, of the same type as `x`.

    Returns:
      `[B, H-1, W-1, O]`.
    """
    y = jax.eval_shape(_stride_one_by_convolution, x, kernel)
    if kernel.shape[-1] == 1 or cpu.winograd_is_faster(y, x.shape[-1]):
        return _stride_one(x, kernel)
    return _stride_one_by_convolution(x, kernel)


def _stride_one_by_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), _PADDING, dimension_numbers=_LAYOUT
    )


@jax.custom_vjp
def _stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    to_one = kernel.shape[-1] == 1
    return lax.platform_dependent(
        x,
        kernel,
        cpu=cpu.stride_one_by_taps if to_one else cpu.stride_one_by_winograd,
        default=_stride_one_by_convolution,
    )


def _stride_one_gradients(
    saved: tuple[jax.Array, jax.Array], y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_winograd(x: jax.Array, kernel: jax.Array, y: jax.Array):
        return (
            winograd.convolve(y, kernel[::-1, ::-1], padding=2, exchange_channels=True),
            winograd.kernel_gradient(x, y, padding=1),
        )

    def by_taps(x: jax.Array, kernel: jax.Array, y: jax.Array):
        return jax.vjp(cpu.stride_one_by_taps, x, kernel)[1](y)

    def by_convolution(x: jax.Array, kernel: jax.Array, y: jax.Array):
        return jax.vjp(_stride_one_by_convolution, x, kernel)[1](y)

    to_one = y.shape[-1] == 1
    return lax.platform_dependent(
        *saved, y, cpu=by_taps if to_one else by_winograd, default=by_convolution
    )


_stride_one.defvjp(
    lambda x, kernel: (_stride_one(x, kernel), (x, kernel)), _stride_one_gradients
)


def conv_same(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolution padded so that `stride` alone divides height and width.

    Equal to `flax.linen.Conv(features, (K, K), stride, feature_group_count=G)`.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[K, K, I/G, O]`, of the same type as `x`.
      stride: in both directions.

    Returns:
      `[B, ceil(H/stride), ceil(W/stride), O]`.
    """
    if kernel.shape[:3] == (1, 1, x.shape[-1]) and stride == 1:
        # One matrix product. As a convolution it takes XLA twice as long on a CPU.
        pixels = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
        return pixels.reshape(*x.shape[:-1], -1)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=_LAYOUT,
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def conv_depthwise(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """`conv_same` within each channel.

    Args:
      x: images `[B, H, W, C]`; H and W multiples of `stride`.
      kernel: `[K, K, 1, C]`, of the same type as `x`.
      stride: in both directions.

    Returns:
      `[B, H/stride, W/stride, C]`.
    """

    def by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # XLA has no fast code for it on a CPU: EfficientNet's convolutions take a
        # seventh of the time like this.
        size, (_, height, width, _) = len(kernel), x.shape
        before = (size - stride) // 2
        padding = (before, size - stride - before)
        padded = jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
        return sum(
            padded[:, row : row + height : stride, column : column + width : stride]
            * kernel[row, column]
            for row, column in np.ndindex(size, size)
        )

    by_convolution = functools.partial(conv_same, stride=stride)
    return lax.platform_dependent(x, kernel, cpu=by_taps, default=by_convolution)


class _Conv(nn.Module):
    """What the three layers share: the parameters "kernel" and "bias" `[O]`.

    Attributes:
      features: output channels.
      use_bias: whether there is a bias.
      dtype: type to compute in; by default that of the input and the parameters.
    """

    features: int
    use_bias: bool = True
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = self.kernel_channels(x.shape[-1])
        kernel = self.param("kernel", nn.initializers.normal(0.02), (4, 4, *channels))
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = self.convolve(x, kernel)
        return y if bias is None else y + bias

    def kernel_channels(self, inputs: int) -> tuple[int, int]:
        return inputs, self.features


class DownConv(_Conv):
    """`conv_down` as a layer."""

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_down(x, kernel)


class UpConv(_Conv):
    """`conv_up` as a layer."""

    def kernel_channels(self, inputs: int) -> tuple[int, int]:
        return self.features, inputs

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_up(x, kernel)


class StrideOneConv(_Conv):
    """`conv_stride_one` as a layer."""

    def convolve(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        return conv_stride_one(x, kernel)
