"""When a run stops, and when it saves."""

import math
import signal
import time
from typing import Any

import jax
import ml_collections
from absl import logging

from colorgan_jax.training.checkpoint import Checkpoints
from colorgan_jax.training.hosts import gather


class StopSignals:
    """Notes Ctrl-C and SIGTERM, so that the run saves its state before it stops.

    Until `heed` is called, after the first step, there is nothing to save, and they end
    the process at once: compiling would make them wait. So does a second Ctrl-C later,
    which leaves earlier checkpoints intact. With several hosts SIGTERM is left to JAX,
    which makes all of them stop at the same step (see `Checkpoints.reached_preemption`).

    Attributes:
      received: name of the signal, or None.
    """

    def __init__(self):
        self.received: str | None = None
        self._previous: dict[signal.Signals, Any] = {}  # What handled them before.
        self._is_heeding = False

    def __enter__(self) -> "StopSignals":
        numbers = [signal.SIGINT]
        if jax.process_count() == 1:
            numbers.append(signal.SIGTERM)
        for number in numbers:
            self._previous[number] = signal.signal(number, signal.SIG_DFL)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def heed(self) -> None:
        """From now on there is something to save. May be called again."""
        if self._is_heeding:
            return
        self._is_heeding = True
        for number in self._previous:
            signal.signal(number, self._note)

    def _note(self, number: int, _) -> None:
        self.received = signal.Signals(number).name
        logging.warning(
            "%s: saving after this step, then stopping. Ctrl-C now stops at once and loses"
            " the steps since the last checkpoint.",
            self.received,
        )
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def what_is_due(
    config: ml_collections.ConfigDict,
    step: int,
    signals: StopSignals,
    saved: Checkpoints,
    *,
    started: float,
) -> tuple[str | None, bool]:
    """Whether to stop after a step, and whether to save its state.

    With several hosts call it after every step, on each: all get the same answer.

    Args:
      config: of the run; reads `time_limit_minutes`, `checkpoint_every_minutes` and
        `log_every_steps`.
      step: how many steps have been taken.
      signals: those received so far.
      saved: the run's checkpoints.
      started: `time.monotonic()` as the run started.

    Returns:
      What stops the run, as of `train.train`, or None; and whether to save. A run that
      stops saves in any case.
    """
    if saved.reached_preemption(step):
        return "preemption", True
    minutes = (time.monotonic() - started) / 60
    if jax.process_count() > 1 and step % config.log_every_steps:
        return None, False
    reasons = [
        signals.received is not None,
        minutes >= (config.time_limit_minutes or math.inf),
        saved.minutes_since_save() >= config.checkpoint_every_minutes,
    ]
    # Clocks differ, and all hosts must save at the same step: the first decides.
    signalled, timed_out, save_is_due = gather(reasons)[0]
    if signalled:
        return signals.received or "SIGINT", True
    return ("the time limit" if timed_out else None), save_is_due
