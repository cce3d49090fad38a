"""Hints as a person would give them who knows the photo: for evaluation."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from colorgan_jax.hints import DEFAULT_RADIUS, Hints, make_hints

SEED = 16

# The peer that was trained for hints, siggraph17: PSNR in dB with so many, as published
# (Zhang et al. 2017, "Real-Time User-Guided Image Colorization with Learned Deep Priors":
# the mean colors of patches 6 pixels wide at random points of 1,000 photos of ImageNet).
PEER = "Zhang et al. 2017, on ImageNet"
PEER_PSNR = {0: 24.43, 1: 25.37, 5: 27.39, 10: 28.42, 20: 29.34, 50: 30.42}


def random_places(
    numbers: Sequence[int], count: int
) -> Float[np.ndarray, "B {count} 2"]:
    """Draws random points in photos.

    Args:
      numbers: [B], with `SEED` the seeds of the points: a photo gets the same in whatever
        batch it is, and of more points the first are those of fewer.
      count: of points in each photo.

    Returns:
      Positions (y, x), as fractions of the height and the width.
    """
    return np.stack(
        [
            np.random.default_rng([SEED, number]).uniform(size=(count, 2))
            for number in numbers
        ]
    )


def true_hints(
    ab: Float[np.ndarray, "B H W 2"], positions: Float[np.ndarray, "B K 2"]
) -> Hints:
    """Hints with the photos' own colors.

    Args:
      ab: CIE ab of the photos.
      positions: (y, x), as fractions of the height and the width.

    Returns:
      Of each photo, K hints whose color is the mean of a square as wide as the usual spot,
      7x7 pixels of 256x256, that lies within the photo. With the leading dimension B.
    """
    size = np.array(ab.shape[1:3])
    reach = (DEFAULT_RADIUS * size).astype(int)
    of_each = []
    for photo, places in zip(ab, positions, strict=True):
        centers = np.clip((places * size).astype(int), reach, size - reach - 1)
        colors = [
            photo[slice(*rows), slice(*columns)].mean(axis=(0, 1))
            for rows, columns in np.stack([centers - reach, centers + reach + 1], -1)
        ]
        of_each.append(make_hints((centers + 0.5) / size, colors))
    return Hints(*map(np.stack, zip(*of_each, strict=True)))
