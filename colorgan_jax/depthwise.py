"""A convolution within each channel, in the form that runs fastest.

In one dimension, with `before` pixels of padding on the left, K taps and a stride of s,

    y[p] = sum over t of kernel[t] x[s p + t - before].

XLA has no fast code for it on a CPU, nor for its gradients. There, each of the three is
written out as sums of shifted products, which takes a seventh of the time or less.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def conv_depthwise(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    """Convolution of each channel by itself; `stride` divides height and width.

    Equal to `flax.linen.Conv(C, (K, K), stride, feature_group_count=C)`. Differentiable
    in reverse mode only.

    Args:
      x: images `[B, H, W, C]`; H and W multiples of `stride`.
      kernel: `[K, K, 1, C]`, of the same type as `x`.
      stride: in both directions.

    Returns:
      `[B, H/stride, W/stride, C]`.
    """
    return _convolve(x, kernel, stride)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_by_taps, stride=stride),
        default=functools.partial(_by_convolution, stride=stride),
    )


def _gradients(
    stride: int, saved: tuple[jax.Array, jax.Array], y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def by_taps(x: jax.Array, kernel: jax.Array, y: jax.Array):
        return (
            _image_gradient_by_taps(kernel, y, stride),
            _kernel_gradient_by_taps(x, y, len(kernel), stride),
        )

    def by_convolution(x: jax.Array, kernel: jax.Array, y: jax.Array):
        convolve = functools.partial(_by_convolution, stride=stride)
        return jax.vjp(convolve, x, kernel)[1](y)

    return lax.platform_dependent(*saved, y, cpu=by_taps, default=by_convolution)


_convolve.defvjp(
    lambda x, kernel, stride: (_convolve(x, kernel, stride), (x, kernel)), _gradients
)


def _by_convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _by_taps(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    _, height, width, _ = x.shape
    size = len(kernel)
    padded = _pad(x, size, stride)
    return sum(
        padded[:, row : row + height : stride, column : column + width : stride]
        * kernel[row, column]
        for row, column in np.ndindex(size, size)
    )


def _image_gradient_by_taps(kernel: jax.Array, y: jax.Array, stride: int) -> jax.Array:
    """What y gives back to the pixels of x.

    To pixel s q + r by the taps t for which p = q + (r + before - t) / s is whole.
    """
    batch, height, width, channels = y.shape
    size = len(kernel)
    before, _ = _padding(size, stride)
    margin = size // 2
    padded = jnp.pad(y, ((0, 0), (margin, margin), (margin, margin), (0, 0)))

    def taps(r: int) -> list[tuple[int, int]]:
        """Each with where `padded` begins for it."""
        return [
            (t, margin + (r + before - t) // stride)
            for t in range(size)
            if (r + before - t) % stride == 0
        ]

    def pixels(row: int, column: int) -> jax.Array:
        return sum(
            padded[:, top : top + height, left : left + width] * kernel[i, j]
            for i, top in taps(row)
            for j, left in taps(column)
        )

    rows = [
        jnp.stack([pixels(row, column) for column in range(stride)], axis=3)
        for row in range(stride)
    ]
    x = jnp.stack(rows, axis=2)
    return x.reshape(batch, stride * height, stride * width, channels)


def _kernel_gradient_by_taps(
    x: jax.Array, y: jax.Array, size: int, stride: int
) -> jax.Array:
    """For each tap, the sum of the products of y with what the tap met.

    Image by image, so that what all taps read stays in the cache. Up to 16 rows are added
    up in one expression: as XLA's own sum over positions it takes 4 to 10 times as long.
    """
    _, height, width, channels = y.shape
    strip = math.gcd(height, 16)

    def add_image(total: jax.Array, image: tuple[jax.Array, jax.Array]):
        x, y = (array.astype(jnp.float32) for array in image)
        taps = [
            sum(
                x[
                    top + stride * row : top + stride * height : stride * strip,
                    left : left + stride * width : stride,
                ]
                * y[row::strip]
                for row in range(strip)
            )
            for top, left in np.ndindex(size, size)
        ]
        return total + jnp.stack(taps), None

    nothing = jnp.zeros((size * size, height // strip, width, channels))
    total, _ = lax.scan(add_image, nothing, (_pad(x, size, stride), y))
    return total.sum(axis=(1, 2)).reshape(size, size, 1, channels).astype(y.dtype)


def _padding(size: int, stride: int) -> tuple[int, int]:
    before = (size - stride) // 2
    return before, size - stride - before


def _pad(x: jax.Array, size: int, stride: int) -> jax.Array:
    padding = _padding(size, stride)
    return jnp.pad(x, ((0, 0), padding, padding, (0, 0)))
