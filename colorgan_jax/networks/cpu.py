"""The forms of the networks' convolutions that run fast on a CPU, and which is chosen.

The operations are those of `convolutions`: gather, scatter and products, and the
convolutions of stride 1. Their plain form is a single convolution of XLA's. On a CPU,
other forms are faster:

- Matrices: where the kernel is far larger than the image, as in the innermost blocks
  (8 million weights for 2x2 pixels), one matrix product reads the kernel once and in
  its stored order: with the patches, all that the taps meet at each position.
- Winograd: where the image is large, as in the outermost blocks, its 2x2 blocks of
  pixels become channels, so that what is left is a convolution of 2x2 taps and stride
  1, which `winograd` makes cheaper.
- Subpixels: otherwise the scatter, too, is a convolution of 2x2 taps.
- Taps: a convolution to one channel, or within each channel, is a sum over the taps.

The functions `faster_...` compare sizes, so they are for operands whose sizes are known
(`sizes_are_known`).

Images `large` are `[batch, 2 * height, 2 * width, large channels]`, images `small`
`[batch, height, width, small channels]`, and a `kernel` is `[4, 4, large channels,
small channels]`.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax

from colorgan_jax.networks import winograd

# Which form is the fastest one depends on how many channel pairs the kernel has for
# each position of the small image. Measured on 2 AVX-512 cores with the layers of the
# full-size networks at batches 1, 4 and 16. At the limits two forms are about equal;
# far from them one is up to 8 times (matrices) or 3 times (Winograd) as fast as the
# next.
_LEAST_PAIRS_PER_POSITION_FOR_MATRICES = 1024
_MOST_PAIRS_PER_POSITION_FOR_WINOGRAD = 512
# With fewer, the additions take longer than the multiplications that they save.
_LEAST_PAIRS_FOR_WINOGRAD = 64 * 64


def sizes_are_known(*arrays: jax.Array) -> bool:
    """Whether no dimension is symbolic, as any batch size is in `jax.export`."""
    return not any(
        export.is_symbolic_dim(size) for array in arrays for size in array.shape
    )


def faster_gather(large: jax.Array, kernel: jax.Array) -> Callable | None:
    """Chooses a gather that is faster than the plain one; None: the plain one."""
    batch, height, width, _ = large.shape
    return _by_sizes(
        batch * (height // 2) * (width // 2),
        kernel.shape[2] * kernel.shape[3],
        large.dtype,
        by_matrices=gather_by_matrices,
        by_winograd=gather_by_winograd,
    )


def faster_scatter(small: jax.Array, kernel: jax.Array) -> Callable:
    """Chooses the fastest scatter, which the plain one never is."""
    batch, height, width, _ = small.shape
    form = _by_sizes(
        batch * height * width,
        kernel.shape[2] * kernel.shape[3],
        small.dtype,
        by_matrices=scatter_by_matrices,
        by_winograd=scatter_by_winograd,
    )
    return form or scatter_by_subpixels


def faster_products(large: jax.Array, small: jax.Array) -> Callable | None:
    """Chooses products that are faster than the plain ones; None: the plain ones."""
    batch, height, width, channels = small.shape
    return _by_sizes(
        batch * height * width,
        large.shape[3] * channels,
        small.dtype,
        by_matrices=products_by_matrices,
        by_winograd=products_by_winograd,
    )


def faster_stride_one(x: jax.Array, kernel: jax.Array) -> Callable | None:
    """Chooses the 4x4 convolution of stride 1 and padding 1; None: the plain one.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[4, 4, I, O]`.
    """
    batch, height, width, channels = x.shape
    features = kernel.shape[3]
    if features == 1:
        return stride_one_by_taps
    return _by_sizes(
        batch * (height - 1) * (width - 1),
        channels * features,
        x.dtype,
        by_winograd=stride_one_by_winograd,
    )


def faster_stride_one_gradients(
    x: jax.Array, kernel: jax.Array, y: jax.Array
) -> Callable | None:
    """Chooses the gradients that go with `faster_stride_one`; None: the plain ones.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[4, 4, I, O]`.
      y: gradient of the output, `[B, H-1, W-1, O]`.
    """
    form = faster_stride_one(x, kernel)
    if form is stride_one_by_taps:
        return stride_one_gradients_by_taps
    return stride_one_gradients_by_winograd if form else None


def _by_sizes(
    positions: int,
    pairs: int,
    dtype: jnp.dtype,
    *,
    by_winograd: Callable,
    by_matrices: Callable | None = None,
) -> Callable | None:
    """Chooses by the positions of the small image and the kernel's channel pairs."""
    if pairs >= _LEAST_PAIRS_PER_POSITION_FOR_MATRICES * positions:
        return by_matrices
    if (
        dtype == jnp.float32
        and pairs >= _LEAST_PAIRS_FOR_WINOGRAD
        and pairs <= _MOST_PAIRS_PER_POSITION_FOR_WINOGRAD * positions
    ):
        return by_winograd
    return None


# Matrices. In gather and scatter the kernel comes first in the product: for the
# smallest images that is up to 4 times as fast.


def gather_by_matrices(large: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gather: the kernel times the patches."""
    batch, height, width, channels = large.shape
    features = kernel.shape[-1]
    matrix = kernel.reshape(16 * channels, features)
    small = lax.dot_general(matrix, _patches(large), (((0,), (1,)), ((), ())))
    return small.T.reshape(batch, height // 2, width // 2, features)


def scatter_by_matrices(small: jax.Array, kernel: jax.Array) -> jax.Array:
    """Scatter: the kernel times each position, added up where the taps overlap."""
    taps = jnp.einsum(
        "rcls,bhws->rclbhw",
        kernel,
        small,
        preferred_element_type=jnp.promote_types(small.dtype, jnp.float32),
    )
    return _overlap_add(taps.transpose(0, 1, 3, 4, 5, 2)).astype(small.dtype)


def products_by_matrices(large: jax.Array, small: jax.Array) -> jax.Array:
    """Products: the patches times the small image."""
    channels, features = large.shape[-1], small.shape[-1]
    kernel = _patches(large).T @ small.reshape(-1, features)
    return kernel.reshape(4, 4, channels, features)


def _patches(large: jax.Array) -> jax.Array:
    """What the taps meet at each position: `[batch * positions, 16 * channels]`."""
    _, height, width, channels = large.shape
    padded = _pad(large)
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


# Winograd, for float32 only.


def gather_by_winograd(large: jax.Array, kernel: jax.Array) -> jax.Array:
    """Gather: a convolution of the 2x2 blocks of pixels, as channels, by 2x2 taps."""
    channels, features = kernel.shape[2:]
    # By row and column: [block, pixel in the block].
    taps = kernel.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    taps = taps.reshape(2, 2, 4 * channels, features)
    return winograd.convolve(_blocks_to_channels(large), taps, padding=0)


def scatter_by_winograd(small: jax.Array, kernel: jax.Array) -> jax.Array:
    """Scatter: a convolution by 2x2 taps to 2x2 pixels at each position."""
    taps = jnp.concatenate(_taps_of_subpixels(kernel), axis=2)
    pixels = winograd.convolve(small, taps, padding=1, exchange_channels=True)
    return _join_subpixels(pixels)


def products_by_winograd(large: jax.Array, small: jax.Array) -> jax.Array:
    """Products: the gradient of the 2x2 taps of `gather_by_winograd`."""
    channels, features = large.shape[-1], small.shape[-1]
    taps = winograd.kernel_gradient(_blocks_to_channels(large), small, padding=0)
    taps = taps.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    return taps.reshape(4, 4, channels, features)


def stride_one_by_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution 4x4 of stride 1 and padding 1."""
    return winograd.convolve(x, kernel, padding=1)


def stride_one_gradients_by_winograd(
    x: jax.Array, kernel: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients of `x` and of `kernel`, from `y`, the one of the output."""
    return (
        winograd.convolve(y, kernel[::-1, ::-1], padding=2, exchange_channels=True),
        winograd.kernel_gradient(x, y, padding=1),
    )


def _blocks_to_channels(large: jax.Array) -> jax.Array:
    """Pads by 1 and makes channels of 2x2 pixels.

    To `[batch, H/2 + 1, W/2 + 1, 4 * channels]`. The four taps of the gather in each
    direction become two taps of two pixels each.
    """
    batch, height, width, channels = large.shape
    blocks = _pad(large)
    blocks = blocks.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)


# Subpixels. The scatter is a 2x2 convolution that computes 2x2 pixels at each position:
# the pixels 2q - 1 and 2q of the large image are sums over the same two pixels of the
# small one, q - 1 and q, with taps 2 and 0 for the one and 3 and 1 for the other. It is
# 1.4 times as fast as the convolution of the dilated image (64 to 256 channels).


def scatter_by_subpixels(small: jax.Array, kernel: jax.Array) -> jax.Array:
    """Scatter: a convolution by 2x2 taps to 2x2 pixels at each position."""
    # Copies whole rows of features; as one transposition it takes far longer.
    taps = [taps.swapaxes(2, 3) for taps in _taps_of_subpixels(kernel)]
    pixels = lax.conv_general_dilated(
        small,
        jnp.concatenate(taps, axis=3),
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return _join_subpixels(pixels)


def _taps_of_subpixels(kernel: jax.Array) -> list[jax.Array]:
    """The taps `[2, 2, large, small]` of each of the 2x2 pixels, row by row."""
    # By row and column: [pixel of the small image, pixel of the large image].
    taps = kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])[::-1, :, ::-1]
    return [taps[:, row, :, column] for row in (0, 1) for column in (0, 1)]


def _join_subpixels(pixels: jax.Array) -> jax.Array:
    """From `[batch, H + 1, W + 1, 4 * features]` to `[batch, 2H, 2W, features]`."""
    batch, height, width, channels = pixels.shape
    pixels = pixels.reshape(batch, height, width, 2, 2, channels // 4)
    pixels = pixels.transpose(0, 1, 3, 2, 4, 5)
    pixels = pixels.reshape(batch, 2 * height, 2 * width, channels // 4)
    return pixels[:, 1:-1, 1:-1]


# Taps: what a pixel gives to each of them, then a sum over the pixels.


def stride_one_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution 4x4 of stride 1 and padding 1, to one channel.

    With so little to compute, the convolution that is the kernel's gradient takes as
    long as one to hundreds of channels.
    """
    size, _, channels, _ = kernel.shape
    taps = _pad(x @ kernel.reshape(size * size, channels).T)
    height, width = (side - size + 1 for side in taps.shape[1:3])
    shifted = (
        taps[:, row : row + height, column : column + width, tap : tap + 1]
        for tap, (row, column) in enumerate(np.ndindex(size, size))
    )
    return functools.reduce(operator.add, shifted)


def stride_one_gradients_by_taps(
    x: jax.Array, kernel: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The gradients of `x` and of `kernel`, from `y`, the one of the output."""
    return jax.vjp(stride_one_by_taps, x, kernel)[1](y)


def depthwise_by_taps(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """The convolution within each channel, `[K, K, 1, C]`, with the padding "SAME".

    XLA has no fast code for it on a CPU: EfficientNet's convolutions take a seventh of
    the time like this.
    """
    size, (_, height, width, _) = len(kernel), x.shape
    sides = lax.padtype_to_pads((height, width), (size, size), (stride, stride), "SAME")
    padded = jnp.pad(x, ((0, 0), *sides, (0, 0)))
    weighted = (
        padded[:, row : row + height : stride, column : column + width : stride]
        * kernel[row, column]
        for row, column in np.ndindex(size, size)
    )
    return functools.reduce(operator.add, weighted)


def _pad(images: jax.Array) -> jax.Array:
    """Zeros around each image, one pixel wide."""
    return jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
