"""Each form that a CPU may run equals XLA's convolution, whichever would be chosen."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from colorgan_jax.networks import cpu


def convolution(x, kernel, stride=2, padding=((1, 1), (1, 1)), groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def transposed_convolution(x, kernel):
    layer = nn.ConvTranspose(
        kernel.shape[2],
        (4, 4),
        (2, 2),
        padding="SAME",
        transpose_kernel=True,
        use_bias=False,
    )
    return layer.apply({"params": {"kernel": kernel}}, x)


def kernel_gradient(large, small):
    kernel = np.zeros((4, 4, large.shape[-1], small.shape[-1]), np.float32)
    return jax.vjp(lambda k: convolution(large, k), kernel)[1](small)[0]


def gradients(x, kernel, y):
    return jax.vjp(lambda x, k: convolution(x, k, stride=1), x, kernel)[1](y)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def check(form, truth, *operands, dtype="float32", relative=1e-5):
    narrow = [jnp.asarray(operand, dtype) for operand in operands]
    # What a narrow type rounds off at the input is no error of the form.
    wide = [np.asarray(operand, np.float32) for operand in narrow]
    results, expected = (
        jax.tree.leaves(values) for values in (jax.jit(form)(*narrow), truth(*wide))
    )
    for actual, value in zip(results, expected, strict=True):
        assert (actual.shape, actual.dtype) == (value.shape, dtype)
        np.testing.assert_allclose(
            np.asarray(actual, np.float32),
            value,
            rtol=0,
            atol=relative * np.abs(value).max(),
        )


TYPES = [("float32", 1e-5), ("bfloat16", 2e-2)]


# `large` is the image of twice the height and width, whichever goes in.
@pytest.mark.parametrize("shape", [(1, 2, 2, 3, 5), (3, 4, 6, 1, 2), (2, 8, 4, 48, 1)])
@pytest.mark.parametrize(
    ("form", "truth", "dtype", "relative"),
    [
        (form, truth, *of_type)
        for form, truth in [
            (cpu.gather_by_matrices, convolution),
            (cpu.gather_by_winograd, convolution),
            (cpu.scatter_by_matrices, transposed_convolution),
            (cpu.scatter_by_subpixels, transposed_convolution),
            (cpu.scatter_by_winograd, transposed_convolution),
            (cpu.products_by_matrices, kernel_gradient),
            (cpu.products_by_winograd, kernel_gradient),
        ]
        for of_type in TYPES
        # Winograd's is for float32 only.
        if of_type[0] == "float32" or "winograd" not in form.__name__
    ],
)
def test_forms_of_stride_two(form, truth, dtype, relative, shape):
    batch, height, width, large_channels, small_channels = shape
    large = normal(batch, height, width, large_channels)
    small = normal(batch, height // 2, width // 2, small_channels, seed=1)
    kernel = normal(4, 4, large_channels, small_channels, seed=2)
    operands = {
        convolution: (large, kernel),
        transposed_convolution: (small, kernel),
        kernel_gradient: (large, small),
    }[truth]
    check(form, truth, *operands, dtype=dtype, relative=relative)


# Winograd's is the one of `winograd`, which has tests of its own.
@pytest.mark.parametrize(("dtype", "relative"), TYPES)
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 7, 6, 3)])
def test_forms_of_stride_one(shape, dtype, relative):
    batch, height, width, channels = shape
    x, kernel = normal(*shape), normal(4, 4, channels, 1, seed=1)
    y = normal(batch, height - 1, width - 1, 1, seed=2)
    kinds = {"dtype": dtype, "relative": relative}
    truth = functools.partial(convolution, stride=1)
    check(cpu.stride_one_by_taps, truth, x, kernel, **kinds)
    check(cpu.stride_one_gradients_by_taps, gradients, x, kernel, y, **kinds)


@pytest.mark.parametrize(("dtype", "relative"), TYPES)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_forms_within_each_channel(size, stride, dtype, relative):
    x, kernel = normal(2, 6, 7, 3), normal(size, size, 1, 3, seed=1)
    form = functools.partial(cpu.depthwise_by_taps, stride=stride)
    truth = functools.partial(convolution, stride=stride, padding="SAME", groups=3)
    check(form, truth, x, kernel, dtype=dtype, relative=relative)
