"""Where the places of hints are in the other frames of their shot."""

import collections
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from colorgan_jax.hint_files import KeyFrame
from colorgan_jax.hints import Hints, make_hints
from colorgan_jax.video.motion import Motion, estimate_motion

# So many frames hints travel, before and after their own: 20 s at 25 frames a second.
FARTHEST = 500
# A place that the motion is less sure of was hidden, or left the picture.
_LEAST_TRUST = 0.3
# A place moves as most of so many pixels do, to each side of it, of 256.
_REACH = 3 / 256


class SeenFrame(NamedTuple):
    """A frame of a film, as the network sees it.

    Attributes:
      pts: its name: the time stamp.
      time: seconds from the film's beginning.
      L: CIE lightness in [0, 100].
    """

    pts: int
    time: float
    L: Float[np.ndarray, "S S"]


class _Spots(NamedTuple):
    """Hints without padding, as they are in one frame."""

    positions: Float[np.ndarray, "K 2"]
    ab: Float[np.ndarray, "K 2"]
    radius: Float[np.ndarray, " K"]


def follow_hints(
    frames: Iterable[SeenFrame], key_frames: Sequence[KeyFrame]
) -> dict[int, Hints]:
    """Moves hints along with what they are on, through the shot of their frame.

    Args:
      frames: those of a film, or a part of it with all that the hints may reach.
      key_frames: the hints, in the order of their times.

    Returns:
      For the pts of each frame that has hints: all that reach it. In those of the key
      frames they are where they were put.
    """
    found: dict[int, list[_Spots]] = collections.defaultdict(list)
    earlier: collections.deque[SeenFrame] = collections.deque(maxlen=FARTHEST + 1)
    # Hints on their way, and how many frames they may still go.
    traveling: list[tuple[_Spots, int]] = []
    waiting = collections.deque(key_frames)

    def begin(key_frame: KeyFrame) -> None:
        """The last of the frames so far is the one that is meant."""
        hints = key_frame.hints
        spots = _Spots(*(np.asarray(array)[hints.mask] for array in hints[:3]))
        found[earlier[-1].pts].append(spots)
        traveling.append((spots, FARTHEST))
        after = earlier[-1]
        for before in list(earlier)[-2::-1]:
            spots = _follow(spots, _motion(after, before))
            if not len(spots.radius):
                break
            found[before.pts].append(spots)
            after = before

    for frame in frames:
        while waiting and earlier and waiting[0].time < frame.time:
            begin(waiting.popleft())
        if traveling:
            motion = _motion(earlier[-1], frame)
            moved = [
                (_follow(spots, motion), left - 1) for spots, left in traveling if left
            ]
            traveling[:] = [(spots, left) for spots, left in moved if len(spots.radius)]
        for spots, _ in traveling:
            found[frame.pts].append(spots)
        # In half precision, for there may be many.
        earlier.append(frame._replace(L=frame.L.astype(np.float16)))
        if not (waiting or traveling):
            break
    while waiting and earlier:
        begin(waiting.popleft())
    return {
        pts: make_hints(*map(np.concatenate, zip(*spots, strict=True)))
        for pts, spots in found.items()
    }


def _motion(here: SeenFrame, there: SeenFrame) -> Motion:
    """From a frame to its neighbor."""
    return estimate_motion(*(frame.L.astype(np.float32) for frame in (here, there)))


def _follow(spots: _Spots, motion: Motion) -> _Spots:
    """Where spots of a frame are in its neighbor, but for those that are gone."""
    if motion.is_cut:
        return _Spots(*(array[:0] for array in spots))
    size = len(motion.flow)
    reach = round(_REACH * size)
    positions, stays = [], []
    for position in spots.positions:
        y, x = np.clip((position * size).astype(int), 0, size - 1)
        near = (
            slice(max(y - reach, 0), y + reach + 1),
            slice(max(x - reach, 0), x + reach + 1),
        )
        flow = np.median(motion.flow[near].reshape(-1, 2), axis=0)
        positions.append(position + flow[::-1] / size)
        stays.append(np.median(motion.trust[near]) >= _LEAST_TRUST)
    moved = np.array(positions, np.float32).reshape(-1, 2)
    stays = np.array(stays, bool) & np.all((moved >= 0) & (moved <= 1), axis=-1)
    return _Spots(*(array[stays] for array in spots._replace(positions=moved)))
