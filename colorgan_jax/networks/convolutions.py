"""The networks' convolutions: what they compute, and their gradients.

They equal Flax's. In one dimension, for a large image x of 2n pixels and a small one y
of n, the *gather* is the convolution of four taps with stride 2 and padding 1,

    y[p] = sum over t of K[t] x[2p + t - 1],   t = 0, 1, 2, 3,   x = 0 outside;

its adjoint, the *scatter*, adds K[t] y[p] to x[2p + t - 1]: the transposed convolution.
Each is made of the other's parts, so that three operations serve for both convolutions
and all their gradients:

                    value           gradient of the image    gradient of K
    gather      y = gather(x, K)    scatter(dy, K)           products(x, dy)
    scatter     x = scatter(y, K)   gather(dx, K)            products(dx, y)

with products(x, y)[t] = sum over p of x[2p + t - 1] y[p]. `K` is `[4, 4, large, small]`
by its channels, in both convolutions.

JAX's own gradients are equal, but the one of a transposed convolution's kernel comes
out as the convolution of a dilated image. XLA has no fast code for that on a CPU: it
took two thirds of a full-size training step.

Here each operation has its plain form, a convolution of XLA's; `cpu` has the forms that
are faster on a CPU. Image and kernel are of the same type. `conv_down`, `conv_up` and
`conv_stride_one` are differentiable in reverse mode only.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from colorgan_jax.networks import cpu

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))


def _fastest(plain: Callable, faster_on_cpu: Callable, *operands: jax.Array) -> Any:
    """Runs an operation in its plain form or, on a CPU, in a faster one.

    Which form runs where is decided when the platform is known, so that a function
    exported for several platforms has the right one on each. On accelerators the plain
    forms are those that cuDNN calls forward, backward data and backward filter. With a
    symbolic dimension, as `jax.export` takes for any batch size, no form can be chosen:
    the plain one runs everywhere.

    Args:
      plain: the plain form.
      faster_on_cpu: takes the operands and chooses a faster form, or None.
      *operands: what each form takes.

    Returns:
      What each form returns.
    """
    form = faster_on_cpu(*operands) if cpu.sizes_are_known(*operands) else None
    if form is None:
        return plain(*operands)
    return lax.platform_dependent(*operands, cpu=form, default=plain)


def _plain_gather(large: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        large, kernel, (2, 2), _PADDING, dimension_numbers=_LAYOUT
    )


def _plain_scatter(small: jax.Array, kernel: jax.Array) -> jax.Array:
    batch, height, width, _ = small.shape
    large = jax.ShapeDtypeStruct(
        (batch, 2 * height, 2 * width, kernel.shape[2]), small.dtype
    )
    gather = jax.linear_transpose(lambda x: _plain_gather(x, kernel), large)
    return gather(small)[0]


def _plain_products(large: jax.Array, small: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((4, 4, large.shape[-1], small.shape[-1]), small.dtype)
    gather = jax.linear_transpose(lambda k: _plain_gather(large, k), kernel)
    return gather(small)[0]


@jax.custom_vjp
def _gather(large: jax.Array, kernel: jax.Array) -> jax.Array:
    return _fastest(_plain_gather, cpu.faster_gather, large, kernel)


@jax.custom_vjp
def _scatter(small: jax.Array, kernel: jax.Array) -> jax.Array:
    return _fastest(_plain_scatter, cpu.faster_scatter, small, kernel)


def _products(large: jax.Array, small: jax.Array) -> jax.Array:
    return _fastest(_plain_products, cpu.faster_products, large, small)


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

    Equal to `flax.linen.Conv(features, (4, 4), (2, 2), padding=1)`.

    Args:
      x: images `[B, H, W, I]`; H and W even.
      kernel: `[4, 4, I, O]`.

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
      kernel: `[4, 4, O, I]`.

    Returns:
      `[B, 2H, 2W, O]`.
    """
    return _scatter(x, kernel)


def _plain_stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), _PADDING, dimension_numbers=_LAYOUT
    )


def _plain_stride_one_gradients(
    x: jax.Array, kernel: jax.Array, y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    return jax.vjp(_plain_stride_one, x, kernel)[1](y)


@jax.custom_vjp
def conv_stride_one(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution 4x4 with stride 1 and padding 1.

    Equal to `flax.linen.Conv(features, (4, 4), padding=1)`.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[4, 4, I, O]`.

    Returns:
      `[B, H-1, W-1, O]`.
    """
    return _fastest(_plain_stride_one, cpu.faster_stride_one, x, kernel)


conv_stride_one.defvjp(
    lambda x, kernel: (conv_stride_one(x, kernel), (x, kernel)),
    lambda saved, y: _fastest(
        _plain_stride_one_gradients, cpu.faster_stride_one_gradients, *saved, y
    ),
)


def conv_same(x: jax.Array, kernel: jax.Array, *, stride: int = 1) -> jax.Array:
    """Convolution padded so that `stride` alone divides height and width.

    Equal to `flax.linen.Conv(features, (K, K), stride, feature_group_count=G)`.

    Args:
      x: images `[B, H, W, I]`.
      kernel: `[K, K, I/G, O]`.
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
      x: images `[B, H, W, C]`.
      kernel: `[K, K, 1, C]`.
      stride: in both directions.

    Returns:
      `[B, ceil(H/stride), ceil(W/stride), C]`.
    """
    plain = functools.partial(conv_same, stride=stride)
    by_taps = functools.partial(cpu.depthwise_by_taps, stride=stride)
    return _fastest(plain, lambda *_: by_taps, x, kernel)
