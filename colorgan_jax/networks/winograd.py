"""Convolutions of stride 1 with fewer multiplications: faster on CPUs for large images.

In one dimension, the two outputs that a kernel of r taps makes of r + 1 neighboring
inputs take 2 r multiplications. Winograd's minimal filtering takes r + 1:

    y = A^T ((G k) * (B^T x)),    A [r + 1, 2],  G [r + 1, r],  B [r + 1, r + 1],

with constant matrices; by rows and by columns, (r + 1)^2 in place of 4 r^2: 9 instead
of 16 for 2x2 taps, 25 instead of 64 for 4x4. Each of them is a product of matrices over
all tiles (of 2x2 outputs) and all channels; all else is additions. See Lavin and Gray
2016, "Fast Algorithms for Convolutional Neural Networks".

The results differ from those of direct convolution by rounding: by 2e-6 of the largest
value for 2x2 taps, by 1e-5 for 4x4 (float32, up to 512 channels).

Images are `[batch, height, width, channels]`, kernels `[r, r, channels, features]` with
r = 2 or 4, all in float32. `padding` zeros p on each side of an image of H rows leave
H + 2 p - r + 1 rows. All sizes must be known: none may be a symbolic dimension.
"""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# As polynomials, kernel and outputs are multiplied by their values at these points and
# at infinity (Toom and Cook): as many as there are coefficients in the product. Small
# numbers keep the rounding small.
_POINTS = {2: (0, 1), 4: (0, 1, -1, 2)}

# A group of images and their outputs should stay in the cache while it is worked on.
# Measured at batches 4 and 16 on 2 cores with the layers of the full-size networks.
_FLOATS_PER_GROUP = 2**22

# A matrix in the sense of the formula, of arrays.
_Matrix = list[list[jax.Array]]


def convolve(
    images: jax.Array,
    kernel: jax.Array,
    *,
    padding: int,
    exchange_channels: bool = False,
) -> jax.Array:
    """Convolution as deep learning calls it: the kernel is not flipped.

    Args:
      images: `[B, H, W, I]`.
      kernel: `[r, r, I, O]`.
      padding: zeros on each side.
      exchange_channels: the kernel is `[r, r, O, I]`.

    Returns:
      `[B, H + 2 * padding - r + 1, W + 2 * padding - r + 1, O]`.
    """
    taps = len(kernel)
    A_T, G, B_T = _matrices(taps)
    kernels = _combine_both_ways(G, [list(row) for row in kernel])
    input_axis, output_axis = (1, 0) if exchange_channels else (0, 1)
    features = kernel.shape[2 + output_axis]
    batch, *sizes, _ = images.shape
    height, width = (size + 2 * padding - taps + 1 for size in sizes)
    down, across = (height + 1) // 2, (width + 1) // 2  # Tiles.

    def convolve_group(images: jax.Array) -> jax.Array:
        tiles = _combine_tiles(B_T, _pad(images, padding, height, width))
        products = _multiply(tiles, kernels, contracting=(1, input_axis))
        shape = (len(images), down, across, features)
        rows = [
            jnp.stack([pixel.reshape(shape) for pixel in row], axis=3)
            for row in _combine_both_ways(A_T, products)
        ]
        outputs = jnp.stack(rows, axis=2).reshape(-1, 2 * down, 2 * across, features)
        return outputs[:, :height, :width]

    group_size = _group_size(batch, images[0].size + height * width * features)
    outputs = lax.map(convolve_group, _split(images, group_size))
    return outputs.reshape(batch, height, width, features)


def kernel_gradient(
    images: jax.Array, gradient: jax.Array, *, padding: int
) -> jax.Array:
    """Gradient of `convolve` with respect to the kernel.

    Args:
      images: `[B, H, W, I]`.
      gradient: of the outputs, `[B, H + 2 * padding - r + 1,
        W + 2 * padding - r + 1, O]`.
      padding: zeros on each side of the images.

    Returns:
      `[r, r, I, O]`.
    """
    _, height, width, features = gradient.shape
    taps = images.shape[1] + 2 * padding - height + 1
    A_T, G, B_T = _matrices(taps)

    def add_group(sums: _Matrix, group: tuple[jax.Array, jax.Array]):
        images, gradient = group
        tiles = _combine_tiles(B_T, _pad(images, padding, height, width))
        gradients = _combine_tiles(A_T.T, _pad(gradient, 0, height, width))
        products = _multiply(tiles, gradients, contracting=(0, 0))
        return jax.tree.map(jnp.add, sums, products), None

    group_size = _group_size(len(images), images[0].size + gradient[0].size)
    zeros = jnp.zeros((images.shape[-1], features))
    sums, _ = lax.scan(
        add_group,
        [[zeros] * (taps + 1)] * (taps + 1),
        (_split(images, group_size), _split(gradient, group_size)),
    )
    return jnp.stack([jnp.stack(row) for row in _combine_both_ways(G.T, sums)])


def _matrices(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A^T, G and B^T for a kernel of that many taps."""

    def values(coefficients: int) -> np.ndarray:
        """From a polynomial to its values; at infinity, its highest coefficient."""
        powers = np.vander(_POINTS[taps], coefficients, increasing=True)
        return np.vstack([powers, np.eye(coefficients)[-1]])

    return values(2).T, values(taps), np.linalg.inv(values(taps + 1)).T


def _combine(weights: np.ndarray, arrays: list[jax.Array]) -> list[jax.Array]:
    """A matrix times a vector of arrays, without the terms that are zero."""
    return [
        functools.reduce(
            operator.add,
            (
                float(weight) * array
                for weight, array in zip(row, arrays, strict=True)
                if abs(weight) > 1e-9
            ),
        )
        for row in weights
    ]


def _combine_both_ways(weights: np.ndarray, arrays: _Matrix) -> _Matrix:
    """W X W^T for a matrix X of arrays."""
    columns = [_combine(weights, row) for row in arrays]
    rows = [_combine(weights, list(column)) for column in zip(*columns, strict=True)]
    return [list(row) for row in zip(*rows, strict=True)]


def _pad(images: jax.Array, padding: int, height: int, width: int) -> jax.Array:
    """Pads for outputs of this size, by one more where it is odd."""
    sides = [(padding, padding + size % 2) for size in (height, width)]
    return jnp.pad(images, ((0, 0), *sides, (0, 0)))


def _combine_tiles(weights: np.ndarray, images: jax.Array) -> _Matrix:
    """W X W^T for each tile X: as many pixels as W has columns, two from the next tile.

    Returns:
      Matrices `[batch * tiles, channels]`.
    """
    window = range(weights.shape[1])
    _, height, width, channels = images.shape
    down, across = ((size - len(window)) // 2 + 1 for size in (height, width))
    rows = _combine(weights, [images[:, p : p + 2 * down - 1 : 2] for p in window])
    tiles = [
        _combine(weights, [row[:, :, p : p + 2 * across - 1 : 2] for p in window])
        for row in rows
    ]
    return jax.tree.map(lambda tile: tile.reshape(-1, channels), tiles)


def _multiply(one: _Matrix, other: _Matrix, contracting: tuple[int, int]) -> _Matrix:
    """Products of each two entries, which are matrices, over these axes of them."""
    axes = (((contracting[0],), (contracting[1],)), ((), ()))
    return jax.tree.map(lambda a, b: lax.dot_general(a, b, axes), one, other)


def _group_size(batch: int, floats_per_image: int) -> int:
    """The largest part of a batch, or one image, that stays in the cache."""
    if jax.device_count() > 1:
        # The batch may be split over them; a loop over groups would collect it again.
        return batch
    most = max(1, _FLOATS_PER_GROUP // floats_per_image)
    return max(size for size in range(1, min(most, batch) + 1) if batch % size == 0)


def _split(images: jax.Array, group_size: int) -> jax.Array:
    """`[groups, images, height, width, channels]`."""
    return images.reshape(-1, group_size, *images.shape[1:])
