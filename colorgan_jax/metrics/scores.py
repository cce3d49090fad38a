"""Measures of a colorized photo against the real one: pure functions.

Photos are sRGB floats [..., H, W, 3] in [0, 1]; each has its own value in the result
[...]. All are in JAX but `ssim`, which is scikit-image's.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from skimage.metrics import structural_similarity

from colorgan_jax.lab import rgb_to_lab

# What the report's PSNR has too much, in dB: its peak was 255 in place of 1.
REPORT_OFFSET = 20 * math.log10(255)


def psnr(
    photo: Float[Array | np.ndarray, "*batch H W 3"],
    reference: Float[Array | np.ndarray, "*batch H W 3"],
) -> Float[Array, "*batch"]:
    """Peak signal-to-noise ratio of each photo, over pixels and channels.

    10 log10(1 / mean squared error): the peak is 1.0, that of the floats compared
    (Gonzalez and Woods, Digital Image Processing, section 8.1). `cv2.PSNR` assumes a
    peak of 255; on such floats its result is 48.13 dB higher (`report_psnr`).

    Args:
      photo: [..., H, W, 3].
      reference: of the same shape.

    Returns:
      Decibels [...]; infinite where both are equal.
    """
    error = jnp.mean(jnp.square(photo - reference), axis=(-3, -2, -1))
    return -10 * jnp.log10(error)


def report_psnr(
    photo: Float[Array | np.ndarray, "*batch H W 3"],
    reference: Float[Array | np.ndarray, "*batch H W 3"],
) -> Float[Array, "*batch"]:
    """PSNR as in the report: that of `psnr`, inflated by 20 log10(255) = 48.13 dB.

    The report called `cv2.PSNR` on floats in [0, 1] and left its peak at 255. Only for
    a comparison with the report's figures.

    Args:
      photo: [..., H, W, 3].
      reference: of the same shape.

    Returns:
      Decibels [...]; infinite where both are equal (OpenCV gives 361.20 there).
    """
    return psnr(photo, reference) + REPORT_OFFSET


def ssim(
    photo: Float[Array | np.ndarray, "*batch H W 3"],
    reference: Float[Array | np.ndarray, "*batch H W 3"],
) -> Float[np.ndarray, "*batch"]:
    """Structural similarity of each photo, mean over pixels and channels.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural
    Similarity": Gaussian windows of 11x11 pixels with a standard deviation of 1.5,
    K1 = 0.01, K2 = 0.03, wherever a window fits into the photo. They measure one
    channel; here each of R, G and B is measured, as is usual for color.

    Color has little weight in it: a photo without any has most of its structure.

    Args:
      photo: [..., H, W, 3], 11 pixels or more high and wide. Copied to the host.
      reference: of the same shape.

    Returns:
      Similarities [...], at most 1, which is that of equal photos.

    Raises:
      ValueError: if the photos are smaller or their shapes differ.
    """
    # In float32 it is twice as fast, and within 1e-5 of float64.
    photo, reference = np.asarray(photo, np.float32), np.asarray(reference, np.float32)
    if photo.shape != reference.shape:
        raise ValueError(
            f"ssim compares photos of one shape, not {photo.shape} and"
            f" {reference.shape}."
        )
    pairs = zip(
        photo.reshape(-1, *photo.shape[-3:]),
        reference.reshape(-1, *photo.shape[-3:]),
        strict=True,
    )
    similarities = [
        structural_similarity(
            *pair,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
        )
        for pair in pairs
    ]
    return np.reshape(np.array(similarities, np.float32), photo.shape[:-3])


def colorfulness(
    photo: Float[Array | np.ndarray, "*batch H W 3"],
) -> Float[Array, "*batch"]:
    """How colorful each photo is: 0 for gray, 33 "moderately", 109 "extremely".

    M = sigma_rgyb + 0.3 mu_rgyb over the opponent colors rg = R - G and
    yb = (R + G) / 2 - B, on the scale of 0 to 255 (Hasler and Suesstrunk 2003,
    "Measuring Colorfulness in Natural Images", equation for M^(3)).

    Args:
      photo: [..., H, W, 3].

    Returns:
      Colorfulness [...].
    """
    red, green, blue = jnp.moveaxis(255 * jnp.asarray(photo), -1, 0)
    opponents = jnp.stack([red - green, (red + green) / 2 - blue])
    # The lengths of the vectors of both standard deviations and of both means.
    deviation = jnp.linalg.norm(jnp.std(opponents, axis=(-2, -1)), axis=0)
    mean = jnp.linalg.norm(jnp.mean(opponents, axis=(-2, -1)), axis=0)
    return deviation + 0.3 * mean


def ab_error(
    photo: Float[Array | np.ndarray, "*batch H W 3"],
    reference: Float[Array | np.ndarray, "*batch H W 3"],
) -> Float[Array, "*batch"]:
    """Mean over pixels of the Euclidean distance in CIE ab.

    The color difference Delta E*ab (CIE 15:2004, CIE76) without its lightness.

    Args:
      photo: [..., H, W, 3].
      reference: of the same shape.

    Returns:
      Distances [...], in units of ab.
    """
    difference = rgb_to_lab(photo)[..., 1:] - rgb_to_lab(reference)[..., 1:]
    return jnp.mean(jnp.linalg.norm(difference, axis=-1), axis=(-2, -1))
