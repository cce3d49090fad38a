"""How the picture moved since the frame before, and whether it is still the same shot."""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

# Distances are in pixels of a frame of this size, whatever size a network sees.
_SIZE = 256
# How far a pixel may be from itself after it went to the frame before and back again: this
# far, and a part of the way. A Gaussian's standard deviation.
_RETURN = 2.0
_RETURN_OF_WAY = 0.1
# How much lighter or darker the same thing may be in the next frame: the same, in CIE L.
_LIGHTNESS = 6.0
# Film grain is blurred away before lightness is compared: a standard deviation.
_GRAIN = 1.5
# Where the frame before, moved along, correlates less with this one, there was a cut. On
# made-up clips it is above 0.97 within shots, and below 0.6 across cuts (docs/video.md).
_LEAST_CORRELATION = 0.8
# Variances of lightness below it are none: of frames that are black, say.
_NO_VARIANCE = 0.1


class Motion(NamedTuple):
    """What became of the frame before.

    Attributes:
      flow: from each pixel to where it was in the frame before, (x, y) in pixels.
      trust: in [0, 1], how sure that is; 0 for what was hidden or outside.
      is_cut: whether this frame begins another shot. Nothing is to be trusted then.
    """

    flow: Float[np.ndarray, "S S 2"]
    trust: Float[np.ndarray, "S S"]
    is_cut: bool


def estimate_motion(
    L: Float[np.ndarray, "S S"], before: Float[np.ndarray, "S S"]
) -> Motion:
    """Compares a frame with the one before.

    The flow is by dense inverse search (Kroeger et al. 2016, "Fast Optical Flow using Dense
    Inverse Search"). What does not come back to where it started, by the flow there and
    the flow back, was hidden in one of the frames (Sundaram et al. 2010).

    Args:
      L: CIE lightness in [0, 100], as the network sees the frame.
      before: of the frame before.
    """
    now, then = (np.rint(image * 2.55).astype(np.uint8) for image in (L, before))
    flow = _flow(now, then)
    back = move(_flow(then, now), flow)
    scale = _SIZE / len(L)
    astray = scale * np.linalg.norm(flow + back, axis=-1)
    way = scale * (np.linalg.norm(flow, axis=-1) + np.linalg.norm(back, axis=-1))

    grain = (0, 0), _GRAIN / scale
    smooth = cv2.GaussianBlur(L, *grain)
    moved = cv2.GaussianBlur(move(before, flow), *grain)
    # Of the whole frame, the lamp of a projector may flicker.
    lighter = smooth - moved
    lighter -= np.median(lighter)

    places = _pixels(len(L)) + flow
    inside = np.all((places >= -0.5) & (places <= len(L) - 0.5), axis=-1)
    trust = inside * np.exp(
        -0.5 * (astray / (_RETURN + _RETURN_OF_WAY * way)) ** 2
        - 0.5 * (lighter / _LIGHTNESS) ** 2
    )
    return Motion(flow, trust, _correlation(smooth, moved) < _LEAST_CORRELATION)


def move(
    image: Float[np.ndarray, "S S *C"], flow: Float[np.ndarray, "S S 2"]
) -> Float[np.ndarray, "S S *C"]:
    """Takes each pixel from where the flow says that it was, or from the nearest border."""
    x, y = cv2.split(_pixels(len(flow)) + flow)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _flow(
    now: UInt8[np.ndarray, "S S"], then: UInt8[np.ndarray, "S S"]
) -> Float[np.ndarray, "S S 2"]:
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # Where the search begins: without motion.
    return search.calc(now, then, np.zeros((*now.shape, 2), np.float32))


@functools.lru_cache(maxsize=2)
def _pixels(size: int) -> Float[np.ndarray, "S S 2"]:
    """The (x, y) of all pixels."""
    axis = np.arange(size, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    variances = np.mean(first**2), np.mean(second**2)
    return float(np.mean(first * second) / (np.sqrt(np.prod(variances)) + _NO_VARIANCE))
