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


def draw_hints(
    ab: Float[np.ndarray, "B H W 2"], numbers: Sequence[int], count: int
) -> Hints:
    """Draws hints at random points, with the photos' own colors.

    Args:
      ab: CIE ab of the photos.
      numbers: [B], with `SEED` the seeds of the points: a photo gets the same in whatever
        batch it is, and of more hints the first are those of fewer.
      count: of hints for each photo.

    Returns:
      Of each photo, `count` hints whose color is the mean of a square as wide as the
      usual spot: 7x7 pixels of 256x256. With the leading dimension B.
    """
    height, width = ab.shape[1:3]
    reaches = [int(DEFAULT_RADIUS * side) for side in (height, width)]
    of_each = []
    for photo, number in zip(ab, numbers, strict=True):
        random = np.random.default_rng([SEED, number])
        centers = [
            [
                random.integers(reach, side - reach)
                for reach, side in zip(reaches, (height, width), strict=True)
            ]
            for _ in range(count)
        ]
        colors = [
            photo[
                y - reaches[0] : y + reaches[0] + 1, x - reaches[1] : x + reaches[1] + 1
            ].mean(axis=(0, 1))
            for y, x in centers
        ]
        positions = (np.array(centers).reshape(-1, 2) + 0.5) / (height, width)
        of_each.append(make_hints(positions, colors))
    return Hints(*map(np.stack, zip(*of_each, strict=True)))
