"""Checkpoints of a training run, written by Orbax while the training goes on.

Orbax gives each checkpoint a folder named after its step, `<workdir>/checkpoints/<step>`.
It writes into a temporary folder and renames that as its last act, so a run that is
killed in between leaves its earlier checkpoints whole and the unfinished one unseen.
"""

import functools
import json
import logging
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, SupportsFloat

import absl.logging
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from colorgan_jax.errors import CheckpointError

State = Any  # A pytree of jax.Arrays with a property `step`, such as gan.GANState.


def has_checkpoint(workdir: str | os.PathLike) -> bool:
    """Whether there is a state to resume from, damaged or not."""
    return any(file.name.isdecimal() for file in _folder(workdir).glob("*"))


def _folder(workdir: str | os.PathLike) -> Path:
    return Path(workdir) / "checkpoints"


class Checkpoints:
    """The checkpoints of one work directory: the newest, and the best by validation PSNR.

    One run at a time may use a work directory: opening it clears away what a killed run
    left unfinished. With several hosts each of them makes the same calls, on a file
    system that they share.

    Use it as a context manager: leaving the block, by an exception too, completes the
    checkpoint that is being written. A program that ends without `close` may lose it.
    """

    def __init__(self, workdir: str | os.PathLike, newest: int = 2):
        """Opens or creates `<workdir>/checkpoints`.

        Args:
          workdir: the run's work directory.
          newest: how many of the newest checkpoints to keep, besides the best.

        Raises:
          CheckpointError: if a checkpoint in there is damaged.
          ValueError: if `newest` is less than 1.
        """
        if newest < 1:
            raise ValueError(f"newest is {newest}: it must be 1 or more.")
        self._folder = _folder(workdir)
        self._saved_at = time.monotonic()
        self._check_metrics()
        self._manager = ocp.CheckpointManager(
            self._folder.absolute(),
            item_handlers=ocp.StandardCheckpointHandler(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(
                    [
                        LatestN(newest),
                        BestN(
                            get_metric_fn=_validation_psnr,
                            n=1,
                            # By default Orbax would keep all that have no PSNR.
                            keep_checkpoints_without_metrics=False,
                        ),
                    ]
                ),
                # Without this Orbax forgets the metrics when the run stops.
                best_fn=_validation_psnr,
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the checkpoint with the highest validation PSNR, or None."""
        return self._manager.best_step()

    def save(self, state: State, validation_psnr: SupportsFloat | None = None) -> None:
        """Starts to write a checkpoint of `state`, named after its step.

        Returns when `state` may be donated or changed, long before the file is
        complete. (On the CPU that takes no copy: Orbax refers to the arrays' own
        buffers, and XLA does not reuse a donated buffer that is referred to.) Waits for
        the checkpoint before, if that is still being written. Does nothing where the
        step has a checkpoint already.

        Args:
          state: a pytree of jax.Arrays (random keys included) with a property `step`.
          validation_psnr: dB; None between validations.

        Raises:
          CheckpointError: if this or the previous checkpoint cannot be written, for
            example because the disk is full. Earlier ones remain.
        """
        self._saved_at = time.monotonic()
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        metrics = None
        if validation_psnr is not None and not math.isnan(validation_psnr):
            metrics = {"validation_psnr": float(validation_psnr)}
        try:
            # When to save is the caller's decision: `force` asks Orbax for no opinion.
            self._manager.save(
                step, args=ocp.args.StandardSave(state), metrics=metrics, force=True
            )
        except Exception as error:
            raise self._not_written(error) from error

    def minutes_since_save(self) -> float:
        """How long ago `save` was last called or, before that, this was opened."""
        return (time.monotonic() - self._saved_at) / 60

    def restore(self, abstract_state: State, step: int | None = None) -> State:
        """Reads a checkpoint, bit by bit what was saved, onto the devices.

        Args:
          abstract_state: the state to build, with a `jax.ShapeDtypeStruct` with sharding
            for each array: `jax.eval_shape` of a jitted function with `out_shardings`
            returns it. The devices may be others than those it was saved from.
          step: which checkpoint; by default the newest.

        Raises:
          CheckpointError: if there is no such checkpoint, if it is damaged, or if it
            holds other arrays than `abstract_state`, which are then named.
        """
        self.wait()
        step = self.latest_step() if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise CheckpointError(
                f"{self._folder} holds no checkpoint{'' if step is None else f' {step}'}."
            )
        try:
            metadata = self._manager.item_metadata(step)
            if metadata is None:
                raise ValueError("its metadata is missing")
            differences = _differences(metadata.tree, abstract_state)
            if not differences:
                return self._manager.restore(
                    step, args=ocp.args.StandardRestore(abstract_state)
                )
        except jax.errors.JaxRuntimeError:
            raise  # Such as a device without enough memory: the file is not at fault.
        except Exception as error:  # A damaged file may raise anything.
            raise self._not_readable(step, error) from error
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise CheckpointError(
            f"{self._folder / str(step)} does not fit this config:"
            f" {', '.join(differences[:3])}{more}; choose another --workdir, or the"
            " config that it was started with."
        )

    def reached_preemption(self, step: int) -> bool:
        """Whether all hosts should save now, as one of them is about to be taken away.

        With several hosts call it after every step, on each. SIGTERM on any of them
        makes it return True on all of them, at one and the same step, some steps later;
        for this `jax.distributed.initialize` installs its own handler of SIGTERM, which
        must stay in place. In a run without it the answer is always False.

        Args:
          step: how many steps have been taken.
        """
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Waits until the checkpoint that is being written is complete.

        Raises:
          CheckpointError: if it cannot be written. Earlier ones remain.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error

    def close(self) -> None:
        """Waits, then releases Orbax's threads. Raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _check_metrics(self) -> None:
        """Orbax reads all metrics when it starts, and does not name a damaged file."""
        for file in self._folder.glob("*/metrics/metrics"):
            step = file.parent.parent.name
            try:
                if step.isdecimal():
                    json.loads(file.read_text())
            except ValueError as error:
                raise self._not_readable(step, error) from error

    def _not_written(self, error: Exception) -> CheckpointError:
        # Orbax has already struck off its list what it would have deleted afterwards.
        self._manager.reload()
        return CheckpointError(
            f"The last checkpoint could not be written to {self._folder}"
            f" ({_reason(error)}): make room for it and rerun the command, which resumes"
            " from the one before it."
        )

    def _not_readable(self, step: int | str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The checkpoint {self._folder / str(step)} cannot be read"
            f" ({_reason(error)}): delete that folder and rerun the command, which resumes"
            " from the one before it."
        )


def _validation_psnr(metrics: dict[str, float]) -> float:
    return metrics["validation_psnr"]


def _differences(saved: Any, wanted: Any) -> list[str]:
    """Names the arrays that two trees of shapes do not share, as text for people."""
    saved, wanted = _describe(saved), _describe(wanted)
    return [
        f"{name} is {saved.get(name, 'missing')} there and"
        f" {wanted.get(name, 'missing')} here"
        for name in wanted | saved
        if saved.get(name) != wanted.get(name)
    ]


def _describe(tree: Any) -> dict[str, str]:
    """{"generator.params.encoder_1.conv.kernel": "float32[4, 4, 1, 64]", ...}."""
    descriptions = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)  # What Orbax stores.
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        descriptions[name] = f"{leaf.dtype}{list(leaf.shape)}"
    return descriptions


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = str(error)
    if re.match("[A-Z_]+: ", message):
        # TensorStore, which reads and writes for Orbax, says "STATUS: outermost cause:
        # ...: innermost cause [settings=...] [...]".
        message = re.split(r" \[\w+=", message)[0].rsplit(": ", 1)[-1]
    return message


@functools.cache
def silence_orbax() -> None:
    """Leaves Orbax's log lines out: whatever goes wrong is raised, in one sentence.

    For programs only: it changes loggers and a hook of the whole process. With
    `--verbosity=1` all is shown.
    """
    report = sys.unraisablehook

    def report_if_wanted(unraisable: "sys.UnraisableHookArgs") -> None:
        if absl.logging.vlog_is_on(1) or not _is_aftermath(unraisable.exc_value):
            report(unraisable)

    sys.unraisablehook = report_if_wanted
    absl.logging.get_absl_logger().addFilter(_is_wanted)
    logging.getLogger("asyncio").addFilter(_is_wanted)


def _is_wanted(record: logging.LogRecord) -> bool:
    if absl.logging.vlog_is_on(1):
        return True
    if record.name == "asyncio":
        return not (record.exc_info and _is_aftermath(record.exc_info[1]))
    return not record.pathname.startswith(tuple(ocp.__path__))


def _is_aftermath(error: BaseException | None) -> bool:
    """Whether this is about an array that Orbax gave up because another one failed.

    A full disk fails hundreds at once, and Python reports each in many lines.
    """
    return re.search("Event loop is closed|OCDBT|TensorStore", str(error)) is not None
