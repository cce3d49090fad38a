"""Colors that stay from frame to frame: those before are carried along the motion.

Frame by frame, the network's colors flicker: grain and small changes of light are enough.
So each pixel takes the running mean of the colors that it had in the frames before,
wherever it was in them, as far as that is known; what is new in the picture takes the
colors of its own frame, and nothing is carried over a cut.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from colorgan_jax.video.motion import estimate_motion, move

# Of how many frames a color is the mean, at most.
_FRAMES = 20


@dataclasses.dataclass(frozen=True)
class State:
    """What the next frame needs of the one before.

    Attributes:
      L: CIE lightness in [0, 100], as the network sees the frame.
      ab: its colors, scaled to [-1, 1].
      age: of how many frames each pixel's color is the mean.
    """

    L: Float[np.ndarray, "S S"]
    ab: Float[np.ndarray, "S S 2"]
    age: Float[np.ndarray, "S S"]


class Stabilizer:
    """Steadies the colors of a film's frames, one after the other.

    Attributes:
      state: after the last frame; None before the first.
    """

    def __init__(self, state: State | None = None):
        """Begins anew, or after a frame whose state was kept."""
        self.state = state

    def steady(
        self, L: Float[np.ndarray, "S S"], ab: Float[np.ndarray, "S S 2"]
    ) -> Float[np.ndarray, "S S 2"]:
        """The colors of the next frame.

        Args:
          L: CIE lightness in [0, 100], as the network sees the frame.
          ab: what the network makes of this frame alone, scaled to [-1, 1].

        Returns:
          ab, scaled as given.
        """
        age = np.zeros_like(L)
        if self.state is not None:
            motion = estimate_motion(L, self.state.L)
            if not motion.is_cut:
                age = motion.trust * move(self.state.age, motion.flow)
                before = move(self.state.ab, motion.flow)
                ab = before + (ab - before) / (age + 1)[..., None]
        age = np.minimum(age + 1, _FRAMES)
        self.state = State(L, ab.astype(np.float32), age.astype(np.float32))
        return self.state.ab
