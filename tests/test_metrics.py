"""Metrics against independent implementations."""

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from colorgan_jax.metrics import psnr


def test_psnr_is_scikit_images_and_opencvs_less_its_peak():
    random = np.random.default_rng(0)
    photos, references = random.random((2, 5, 12, 16, 3), np.float32)
    photos[1] = references[1] + 0.01
    result = psnr(photos, references)
    assert result.shape == (5,)
    for value, photo, reference in zip(result, photos, references, strict=True):
        expected = peak_signal_noise_ratio(reference, photo, data_range=1)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        # OpenCV takes the peak for 255: 20 log10(255) = 48.13 dB more.
        np.testing.assert_allclose(
            value, cv2.PSNR(photo, reference) - 48.1308, atol=1e-3
        )
    # An error of 0.01 everywhere is 40 dB by hand.
    np.testing.assert_allclose(result[1], 40, rtol=1e-4)
