"""Metrics against independent implementations."""

import cv2
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import skimage.color
from skimage.metrics import peak_signal_noise_ratio

from colorgan_jax.metrics.scores import ab_error, colorfulness, psnr, report_psnr, ssim
from colorgan_jax.photos import find_photos, read_rgb


def random_photos(*shape):
    """Smooth photos and the same with noise, float32 [*shape, 3] in [0, 1]."""
    random = np.random.default_rng(0)
    photos = random.random((*shape, 3), np.float32)
    axes = tuple(range(len(shape) - 2, len(shape)))
    photos = scipy.ndimage.gaussian_filter(photos, 3, axes=axes)
    photos = (photos - photos.min()) / np.ptp(photos)
    noise = 0.05 * random.standard_normal(photos.shape)
    return photos, np.clip(photos + noise, 0, 1).astype(np.float32)


def test_psnr_is_scikit_images_and_the_reports_is_opencvs():
    random = np.random.default_rng(0)
    photos, references = random.random((2, 5, 12, 16, 3), np.float32)
    photos[1] = references[1] + 0.01
    result, report = psnr(photos, references), report_psnr(photos, references)
    assert result.shape == report.shape == (5,)
    for index, (photo, reference) in enumerate(zip(photos, references, strict=True)):
        expected = peak_signal_noise_ratio(reference, photo, data_range=1)
        np.testing.assert_allclose(result[index], expected, rtol=1e-5)
        np.testing.assert_allclose(report[index], cv2.PSNR(photo, reference), rtol=1e-5)
    # An error of 0.01 everywhere is 40 dB by hand.
    np.testing.assert_allclose(result[1], 40, rtol=1e-4)
    np.testing.assert_allclose(report[1], 88.13, rtol=1e-4)


def wang_ssim(x, y):
    """Wang et al. 2004, equations 13 to 17, of one channel [H, W]."""
    distances = np.arange(-5, 6)
    window = np.exp(-(distances**2 + distances[:, None] ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def average(values):
        return scipy.signal.convolve2d(values, window, mode="valid")

    mean_x, mean_y = average(x), average(y)
    variance_x = average(x * x) - mean_x**2
    variance_y = average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return np.mean(
        (2 * mean_x * mean_y + c1)
        * (2 * covariance + c2)
        / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    )


def test_ssim_is_wangs_formula_averaged_over_channels():
    references, photos = random_photos(2, 3, 24, 32)
    result = ssim(photos, references)
    assert result.shape == (2, 3)
    for index in np.ndindex(2, 3):
        channels = [
            wang_ssim(*(a[index][..., c].astype(float) for a in (photos, references)))
            for c in range(3)
        ]
        assert 0.3 < np.mean(channels) < 0.9
        np.testing.assert_allclose(result[index], np.mean(channels), atol=1e-5)


@pytest.mark.usefixtures("unchecked")
def test_ssim_of_equal_photos_is_one_and_of_unequal_shapes_an_error():
    photos, _ = random_photos(2, 16, 16)
    np.testing.assert_array_equal(ssim(photos, photos), [1, 1])
    with pytest.raises(ValueError, match="one shape"):
        ssim(photos, photos[0])
    with pytest.raises(ValueError):
        ssim(photos[:, :10], photos[:, :10])


def test_colorfulness_by_hand():
    gray, red, half_red = np.zeros((3, 2, 2, 3), np.float32)
    gray[:] = 0.4
    red[..., 0] = 1
    half_red[0, :, 0] = 1
    # Red has rg = 255 and yb = 127.5, a vector 285.10 long; black has 0 of both. Half of
    # each has half that length as its mean and as its standard deviation.
    expected = [0, 0.3 * 285.0987, 1.3 * 142.5493]
    result = colorfulness(np.stack([gray, red, half_red]))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)


def test_colorfulness_of_the_test_photos(real_photos):
    values = [
        float(colorfulness(read_rgb(path).astype(np.float32) / 255))
        for path in find_photos(real_photos / "test")
    ]
    # Measured by whoever put the photos together.
    np.testing.assert_allclose(np.mean(values), 39.3, atol=0.05)


def test_ab_error_is_the_distance_in_scikit_images_lab():
    references, photos = random_photos(3, 16, 24)
    difference = skimage.color.rgb2lab(photos) - skimage.color.rgb2lab(references)
    expected = np.hypot(difference[..., 1], difference[..., 2]).mean(axis=(1, 2))
    assert expected.min() > 5
    result = ab_error(photos, references)
    assert result.shape == (3,)
    np.testing.assert_allclose(result, expected, rtol=1e-3)
