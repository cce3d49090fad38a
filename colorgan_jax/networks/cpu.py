"""The convolutions of `convolutions` in forms that run fast on a CPU.

Where the image is large, as in the
outermost blocks, its 2x2 blocks of pixels become channels, so that what is left is a
convolution of 2x2 taps and stride 1, which `winograd` makes cheaper. Where the kernel is
far larger than the image, as in the innermost blocks (8 million weights for 2x2 pixels),
one matrix product reads the kernel once and in its stored order: with the patches, all
that the taps meet at each position.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
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


def _blocks_to_channels(large: jax.Array) -> jax.Array:
    """Pads by 1 and makes channels of 2x2 pixels: [batch, H/2 + 1, W/2 + 1, 4 * channels].

    The four taps of the gather in each direction become two taps of two pixels each.
    """
    batch, height, width, channels = large.shape
    blocks = jnp.pad(large, ((0, 0), *_PADDING, (0, 0)))
    blocks = blocks.reshape(batch, height // 2 + 1, 2, width // 2 + 1, 2, channels)
    blocks = blocks.transpose(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, height // 2 + 1, width // 2 + 1, 4 * channels)


def gather_by_winograd(large: jax.Array, kernel: jax.Array) -> jax.Array:
    channels, features = kernel.shape[2:]
    # By row and column: [block, pixel in the block].
    taps = kernel.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    taps = taps.reshape(2, 2, 4 * channels, features)
    return winograd.convolve(_blocks_to_channels(large), taps, padding=0)


def products_by_winograd(large: jax.Array, small: jax.Array) -> jax.Array:
    channels, features = large.shape[-1], small.shape[-1]
    taps = winograd.kernel_gradient(_blocks_to_channels(large), small, padding=0)
    taps = taps.reshape(2, 2, 2, 2, channels, features).swapaxes(1, 2)
    return taps.reshape(4, 4, channels, features)


# The scatter as a 2x2 convolution that computes 2x2 pixels at each position: the pixels
# 2q - 1 and 2q of the large image are sums over the same two pixels of the small one, q - 1
# and q, with taps 2 and 0 for the one and 3 and 1 for the other. On a CPU 1.4 times as
# fast as the convolution of the dilated image (64 to 256 channels).


def scatter_by_subpixels(small: jax.Array, kernel: jax.Array) -> jax.Array:
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


def scatter_by_winograd(small: jax.Array, kernel: jax.Array) -> jax.Array:
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


def gather_by_matrices(large: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, channels = large.shape
    features = kernel.shape[-1]
    matrix = kernel.reshape(16 * channels, features)
    small = lax.dot_general(matrix, _patches(large), (((0,), (1,)), ((), ())))
    return small.T.reshape(batch, height // 2, width // 2, features)


def scatter_by_matrices(small: jax.Array, kernel: jax.Array) -> jax.Array:
    taps = jnp.einsum(
        "rcls,bhws->rclbhw",
        kernel,
        small,
        preferred_element_type=jnp.promote_types(small.dtype, jnp.float32),
    )
    return _overlap_add(taps.transpose(0, 1, 3, 4, 5, 2)).astype(small.dtype)


def products_by_matrices(large: jax.Array, small: jax.Array) -> jax.Array:
    channels, features = large.shape[-1], small.shape[-1]
    kernel = _patches(large).T @ small.reshape(-1, features)
    return kernel.reshape(4, 4, channels, features)


def _pairs_and_positions(
    small_shape: tuple[int, ...], large_channels: int
) -> tuple[int, int]:
    *positions, small_channels = small_shape
    return large_channels * small_channels, math.prod(positions)


def matrices_are_faster(small_shape: tuple[int, ...], large_channels: int) -> bool:
    pairs, positions = _pairs_and_positions(small_shape, large_channels)
    return pairs >= _LEAST_PAIRS_PER_POSITION_FOR_MATRICES * positions


def winograd_is_faster(small: jax.ShapeDtypeStruct, large_channels: int) -> bool:
    pairs, positions = _pairs_and_positions(small.shape, large_channels)
    return (
        small.dtype == jnp.float32
        and pairs >= _LEAST_PAIRS_FOR_WINOGRAD
        and pairs <= _MOST_PAIRS_PER_POSITION_FOR_WINOGRAD * positions
    )


def stride_one_by_winograd(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return winograd.convolve(x, kernel, padding=1)


def stride_one_by_taps(x: jax.Array, kernel: jax.Array) -> jax.Array:
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
