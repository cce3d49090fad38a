"""Winograd convolutions against sums written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from colorgan_jax.networks import winograd


def direct(images, kernel, padding):
    """The definition of the convolution, in float64."""
    sides = (padding, padding)
    images = np.pad(np.float64(images), ((0, 0), sides, sides, (0, 0)))
    windows = sliding_window_view(images, kernel.shape[:2], axis=(1, 2))
    return np.einsum("bhwirc,rcio->bhwo", windows, np.float64(kernel))


def direct_kernel_gradient(images, gradient, padding):
    sides = (padding, padding)
    images = np.pad(np.float64(images), ((0, 0), sides, sides, (0, 0)))
    windows = sliding_window_view(images, gradient.shape[1:3], axis=(1, 2))
    return np.einsum("brcihw,bhwo->rcio", windows, np.float64(gradient))


def assert_close(actual, expected):
    # The bounds that the module states: rounding grows with the largest values.
    np.testing.assert_allclose(
        actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
    )


def normal(*shape):
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


# Even and odd sizes of outputs; more padding than an image has pixels on a side.
SHAPES = [
    (2, 8, 10, 0),
    (2, 7, 8, 1),
    (2, 1, 3, 1),
    (4, 9, 11, 0),
    (4, 8, 8, 1),
    (4, 7, 7, 2),
]


@pytest.mark.parametrize(("taps", "height", "width", "padding"), SHAPES)
def test_convolve_is_the_sum_over_the_taps(taps, height, width, padding):
    images, kernel = normal(3, height, width, 5), normal(taps, taps, 5, 7)

    actual = winograd.convolve(images, kernel, padding=padding)

    assert_close(actual, direct(images, kernel, padding))


@pytest.mark.parametrize("taps", [2, 4])
def test_convolve_takes_a_kernel_with_its_channels_exchanged(taps):
    images, kernel = normal(2, 8, 8, 5), normal(taps, taps, 5, 7)

    actual = winograd.convolve(
        images, kernel.swapaxes(2, 3), padding=1, exchange_channels=True
    )

    assert_close(actual, direct(images, kernel, 1))


@pytest.mark.parametrize(("taps", "height", "width", "padding"), SHAPES)
def test_kernel_gradient_is_the_sum_over_positions(taps, height, width, padding):
    images = normal(3, height, width, 5)
    outputs = [size + 2 * padding - taps + 1 for size in (height, width)]
    gradient = normal(3, *outputs, 7)

    actual = winograd.kernel_gradient(images, gradient, padding=padding)

    assert_close(actual, direct_kernel_gradient(images, gradient, padding))


@pytest.mark.parametrize("batch", [6, 5])
def test_groups_of_images_make_no_difference(monkeypatch, batch):
    """Images so large that the six are taken by threes, and the five one by one."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    images, kernel, gradient = (
        normal(batch, 1001, 601, 1),
        normal(2, 2, 1, 1),
        normal(batch, 1000, 600, 1),
    )

    convolved = winograd.convolve(images, kernel, padding=0)
    kernel_gradient = winograd.kernel_gradient(images, gradient, padding=0)

    assert_close(convolved, direct(images, kernel, 0))
    assert_close(kernel_gradient, direct_kernel_gradient(images, gradient, 0))


@pytest.mark.parametrize(("taps", "rounding"), [(2, 2e-6), (4, 1e-5)])
def test_rounding_stays_as_small_as_stated(taps, rounding):
    images, kernel = normal(2, 16, 16, 512), normal(taps, taps, 512, 64)
    expected = direct(images, kernel, 1)

    actual = jax.jit(winograd.convolve, static_argnames="padding")(
        jnp.asarray(images), kernel, padding=1
    )

    assert np.abs(actual - expected).max() < rounding * np.abs(expected).max()
