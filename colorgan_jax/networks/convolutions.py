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

On a CPU, each operation has other forms besides. Where the image is large, as in the
outermost blocks, its 2x2 blocks of pixels become channels, so that what is left is a
convolution of 2x2 taps and stride 1, which `winograd` makes cheaper. Where the kernel is
far larger than the image, as in the innermost blocks (8 million weights for 2x2 pixels),
one matrix product reads the kernel once and in its stored order: with the patches, all
that the taps meet at each position.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax

from colorgan_jax.networks import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))

# Which form is the fastest one depends on how many channel pairs the kernel has for each
# position of the image. Measured on 2 AVX-512 cores with the layers of the full-size
# networks at batches 1, 4 and 16. At the limits two forms are about equal; far from them one
# is up to 8 times (matrix products) or 3 times (Winograd) as fast as the next.
_LEAST_PAIRS_PER_POSITION_FOR_MATRICES = 1024
_MOST_PAIRS_PER_POSITION_FOR_WINOGRAD = 512
# With fewer, the additions take longer than the multiplications that they save.
_LEAST_PAIRS_FOR_WINOGRAD = 64 * 64


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


def _blocks_to_channels(large: jax.Array) -> jax.Array:
    """Pads by 1 and makes channels of 2x2 pixels: [batch, H/2 + 1, W/2 + 1, 4 * channels].

    The four taps of the gather in each direction become two taps of two pixels each.
    """
    batch, height, width, channels = large.shape
    blocks = jnp.pad(large, ((0, 0), *_PADDING, (0, 0)))
    blocks = blocks.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)


def _gather_by_winograd(large: jax.Array, kernel: jax.Array) -> jax.Array:
    channels, features = kernel.shape[2:]
    # By row and column: [block, pixel in the block].
    taps = kernel.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    taps = taps.reshape(2, 2, 4 * channels, features)
    return winograd.convolve(_blocks_to_channels(large), taps, padding=0)


def _products_by_winograd(large: jax.Array, small: jax.Array) -> jax.Array:
    channels, features = large.shape[-1], small.shape[-1]
    taps = winograd.kernel_gradient(_blocks_to_channels(large), small, padding=0)
    taps = taps.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    return taps.reshape(4, 4, channels, features)


# The scatter as a 2x2 convolution that computes 2x2 pixels at each position: the pixels
# 2q - 1 and 2q of the large image are sums over the same two pixels of the small one, q - 1
# and q, with taps 2 and 0 for the one and 3 and 1 for the other. On a CPU 1.4 times as
# fast as the convolution of the dilated image (64 to 256 channels).


def _scatter_by_subpixels(small: jax.Array, kernel: jax.Array) -> jax.Array:
    # Copies whole rows of features; as one transposition it takes far longer.
    taps = [taps.swapaxes(2, 3) for taps in _taps_of_subpixels(kernel)]
    pixels = lax.conv_general_dilated(
        small,
        jnp.concatenate(taps, axis=3),
        (1, 1),
        _PADDING,
        dimension_numbers=_LAYOUT,
    )
    return _join_subpixels(pixels)


def _scatter_by_winograd(small: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = jnp.concatenate(_taps_of_subpixels(kernel), axis=2)
    pixels = winograd.convolve(small, taps, padding=1, exchange_channels=True)
    return _join_subpixels(pixels)


def _taps_of_subpixels(kernel: jax.Array) -> list[jax.Array]:
    """The taps [2, 2, large, small] of each of the 2x2 pixels, row by row."""
    # By row and column: [pixel of the small image, pixel of the large image].
    taps = kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])[::-1, :, ::-1]
    return [taps[:, row, :, column] for row in (0, 1) for column in (0, 1)]


def _join_subpixels(pixels: jax.Array) -> jax.Array:
    """From [batch, H + 1, W + 1, 4 * features] to the image [batch, 2H, 2W, features]."""
    batch, height, width, channels = pixels.shape
    pixels = pixels.reshape(batch, height, width, 2, 2, channels // 4)
    pixels = pixels.transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(batch, 2 * height, 2 * width, channels // 4)
    return pixels[:, 1:-1, 1:-1]


def _patches(large: jax.Array) -> jax.Array:
    """What the taps meet at each position: [batch * H/2 * W/2, 16 * channels]."""
    _, height, width, channels = large.shape
    padded = jnp.pad(large, ((0, 0), *_PADDING, (0, 0)))
    windows = [
        padded[:, row : row + height : 2, column : column + width : 2]
        for row in range(4)
        for column in range(4)
    ]
    return jnp.stack(windows, axis=3).reshape(-1, 16 * channels)


def _overlap_add(taps: jax.Array) -> jax.Array:
    """Adds up what each tap puts into the large image: the adjoint of taking windows.

    From `[4, 4, batch, height, width, channels]`.
    """

    def along_positions(taps: jax.Array) -> jax.Array:
        # [tap, a, b, position, ...] -> [a, b, 2 * position, ...]
        nothing = jnp.zeros_like(taps[0, :, :, :1])
        even = taps[1] + jnp.concatenate([nothing, taps[3, :, :, :-1]], axis=2)
        odd = taps[2] + jnp.concatenate([taps[0, :, :, 1:], nothing], axis=2)
        both = jnp.stack([even, odd], axis=3)
        return both.reshape(*even.shape[:2], 2 * even.shape[2], *even.shape[3:])

    # First the rows, then the columns.
    return along_positions(along_positions(taps))


# The kernel comes first in these two products: for the smallest images that is up to 4
# times as fast.


def _gather_by_matrices(large: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = large.shape
    features = kernel.shape[-1]
    matrix = kernel.reshape(16 * channels, features)
    small = lax.dot_general(matrix, _patches(large), (((0,), (1,)), ((), ())))
    return small.T.reshape(batch, height // 2, width // 2, features)


def _scatter_by_matrices(small: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = jnp.einsum(
        "rcls,bhws->rclbhw",
        kernel,
        small,
        preferred_element_type=jnp.promote_types(small.dtype, jnp.float32),
    )
    return _overlap_add(taps.transpose(0, 1, 3, 4, 5, 2)).astype(small.dtype)


def _products_by_matrices(large: jax.Array, small: jax.Array) -> jax.Array:
    channels, features = large.shape[-1], small.shape[-1]
    kernel = _patches(large).T @ small.reshape(-1, features)
    return kernel.reshape(4, 4, channels, features)


def _pairs_and_positions(
    small_shape: tuple[int, ...], large_channels: int
) -> tuple[int, int]:
    *positions, small_channels = small_shape
    return large_channels * small_channels, math.prod(positions)


def _matrices_are_faster(small_shape: tuple[int, ...], large_channels: int) -> bool:
    pairs, positions = _pairs_and_positions(small_shape, large_channels)
    return pairs >= _LEAST_PAIRS_PER_POSITION_FOR_MATRICES * positions


def _winograd_is_faster(small: jax.ShapeDtypeStruct, large_channels: int) -> bool:
    pairs, positions = _pairs_and_positions(small.shape, large_channels)
    return (
        small.dtype == jnp.float32
        and pairs >= _LEAST_PAIRS_FOR_WINOGRAD
        and pairs <= _MOST_PAIRS_PER_POSITION_FOR_WINOGRAD * positions
    )


# Which form runs where is decided when the platform is known, so that a function exported
# for several platforms has the right one on each. On accelerators the convolutions are
# those that cuDNN calls forward, backward data and backward filter.


def _products(large: jax.Array, small: jax.Array) -> jax.Array:
    on_cpu = _products_by_convolution
    if _matrices_are_faster(small.shape, large.shape[-1]):
        on_cpu = _products_by_matrices
    elif _winograd_is_faster(small, large.shape[-1]):
        on_cpu = _products_by_winograd
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
    if _matrices_are_faster(small.shape, channels):
        on_cpu = _gather_by_matrices
    elif _winograd_is_faster(small, channels):
        on_cpu = _gather_by_winograd
    return lax.platform_dependent(
        large, kernel, cpu=on_cpu, default=_gather_by_convolution
    )


@jax.custom_vjp
def _scatter(small: jax.Array, kernel: jax.Array) -> jax.Array:
    on_cpu = _scatter_by_subpixels
    if _matrices_are_faster(small.shape, kernel.shape[2]):
        on_cpu = _scatter_by_matrices
    elif _winograd_is_faster(small, kernel.shape[2]):
        on_cpu = _scatter_by_winograd
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
    if kernel.shape[-1] == 1 or _winograd_is_faster(y, x.shape[-1]):
        return _stride_one(x, kernel)
    return _stride_one_by_convolution(x, kernel)


def _stride_one_by_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), _PADDING, dimension_numbers=_LAYOUT
    )


def _stride_one_by_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return winograd.convolve(x, kernel, padding=1)


def _stride_one_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """To one channel: what a pixel gives to each tap, then a sum over the pixels.

    With so little to compute, the convolution that is the kernel's gradient takes as long
    as one to hundreds of channels.
    """
    size, _, channels, _ = kernel.shape
    taps = x @ kernel.reshape(size * size, channels).T
    taps = jnp.pad(taps, ((0, 0), *_PADDING, (0, 0)))
    height, width = (side - size + 1 for side in taps.shape[1:3])
    return sum(
        taps[:, row : row + height, column : column + width, tap : tap + 1]
        for tap, (row, column) in enumerate(np.ndindex(size, size))
    )


@jax.custom_vjp
def _stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    to_one = kernel.shape[-1] == 1
    return lax.platform_dependent(
        x,
        kernel,
        cpu=_stride_one_by_taps if to_one else _stride_one_by_winograd,
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
        return jax.vjp(_stride_one_by_taps, x, kernel)[1](y)

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
