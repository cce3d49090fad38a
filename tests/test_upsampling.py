"""colorgan_jax.upsampling against OpenCV and arithmetic by hand."""

import cv2
import jax
import numpy as np
import pytest

from colorgan_jax.upsampling import resize, resize_weights, upsample, upsample_parts


def pixels(*shape):
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("old", "new"), [(12, 4), (100, 16), (17, 16), (16, 16)])
def test_shrinking_is_opencvs_average_over_areas(old, new):
    image = pixels(old, 3)
    expected = cv2.resize(image, (3, new), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(resize_weights(old, new) @ image, expected, atol=1e-5)


@pytest.mark.parametrize(("old", "new"), [(4, 12), (16, 100), (16, 17), (1, 5)])
def test_enlarging_is_opencvs_cubic_interpolation(old, new):
    image = pixels(old, 3)
    expected = cv2.resize(image, (3, new), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_allclose(resize_weights(old, new) @ image, expected, atol=2e-3)


def test_weights_by_hand():
    np.testing.assert_allclose(
        resize_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]
    )
    # A pixel that lies halfway between two; at a border the outermost one is repeated.
    np.testing.assert_allclose(
        resize_weights(6, 9)[4], np.array([0, -3, 19, 19, -3, 0]) / 32, atol=1e-7
    )
    np.testing.assert_allclose(resize_weights(2, 3)[1], [0.5, 0.5])


@pytest.mark.parametrize("size", [(40, 30), (8, 30), (40, 5), (3, 4), (16, 16)])
def test_the_result_stays_within_the_range_of_the_colors(size):
    ab = np.where(pixels(2, 16, 16, 2) > 0, 1, -1).astype(np.float32)
    result = np.asarray(upsample(ab, np.zeros((2, *size))))
    assert result.shape == (2, *size, 2)
    assert np.abs(result).max() <= 1


@pytest.mark.parametrize("size", [(40, 30), (8, 30), (40, 5), (3, 4), (16, 16)])
# Less than a row, a row and a bit, a few rows, and more than all.
@pytest.mark.parametrize("pixels_at_a_time", [7, 37, 100, 5000])
def test_parts_on_the_host_are_those_of_the_whole(size, pixels_at_a_time):
    ab, L = pixels(16, 16, 2), pixels(*size)
    whole = np.asarray(upsample(ab, L)).reshape(-1, 2)
    joined = np.full(whole.shape, np.nan)
    out = np.empty((2, pixels_at_a_time), np.float32)
    for part in upsample_parts(ab, L, out):
        joined[part] = out[:, : part.stop - part.start].T
    np.testing.assert_allclose(joined, whole, atol=2e-3)


def test_gradients_go_through():
    image = pixels(1, 6, 7, 1)
    gradient = jax.grad(lambda x: resize(x, 3, 3).sum())(image)
    # Each pixel counts by its area: 9 pixels take in all 42.
    np.testing.assert_allclose(gradient, np.full_like(image, 9 / 42), rtol=1e-5)
