"""Checkpoints of a training run, written by Orbax while the training goes on.

Orbax gives each checkpoint a folder named after its step, `<workdir>/checkpoints/<step>`.
It writes into a temporary folder and renames that as its last act, so a run that is
killed in between leaves its earlier checkpoints whole and the unfinished one unseen. One
that is no longer kept is renamed first, too, and deleted afterwards. In a bucket, where no
folder can be renamed, the file commit_success.txt is added as the last act.
With each goes a checksum of its arrays. Where the newest cannot be read, or is not what was
saved, the one before it is used.
"""

import functools
import json
import logging as python_logging
import math
import os
import re
import shutil
import sys
import time
import zlib
from typing import Any, SupportsFloat

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN
from orbax.checkpoint.metadata import get_step_metadata

from colorgan_jax.errors import CheckpointError
from colorgan_jax.paths import (
    AnyPath,
    in_bucket,
    is_file,
    list_bucket,
    read_file,
    user_path,
)
from colorgan_jax.training.hosts import gather

State = Any  # A pytree of jax.Arrays with a property `step`, such as gan.GANState.

# In a bucket, what Orbax adds to the folder of a checkpoint when all else is there.
_FINISHED = "/commit_success.txt"

# On this machine, where Orbax moves those that are no longer kept.
_DELETED = "deleted"

# The name of the checksum in what Orbax calls custom metadata.
_CHECKSUM = "crc32"


def has_checkpoint(workdir: str | os.PathLike) -> bool:
    """Whether there is a state to resume from, damaged or not.

    Raises:
      OSError: if a bucket cannot be asked.
    """
    return bool(_finished_steps(_folder(workdir)))


def _folder(workdir: str | os.PathLike) -> AnyPath:
    return user_path(workdir) / "checkpoints"


def _finished_steps(folder: AnyPath) -> list[int]:
    """The steps of all checkpoints in a folder but those that a kill left unfinished."""
    if in_bucket(folder):
        names = [
            name.removesuffix(_FINISHED)
            for name in list_bucket(folder)
            if name.endswith(_FINISHED)
        ]
    else:
        names = [file.name for file in folder.glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


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
          workdir: the run's work directory, on this machine or in a bucket.
          newest: how many of the newest checkpoints to keep, besides the best.

        Raises:
          CheckpointError: if a bucket refuses it.
          OSError: if the folder cannot be read or made.
          ValueError: if `newest` is less than 1.
        """
        if newest < 1:
            raise ValueError(f"newest is {newest}: it must be 1 or more.")
        self._folder = _folder(workdir)
        self._saved_at = time.monotonic()
        self._delete_those_not_kept()
        self._set_aside_those_without_records()
        options = ocp.CheckpointManagerOptions(
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
            # A kill in the middle of a deletion would leave what looks like damage.
            todelete_subdir=_DELETED,
        )
        is_remote = in_bucket(self._folder)
        try:
            self._manager = ocp.CheckpointManager(
                self._folder if is_remote else self._folder.absolute(),
                item_handlers=ocp.StandardCheckpointHandler(),
                options=options,
            )
        except Exception as error:  # A client of buckets may raise anything.
            if not is_remote:
                raise
            raise CheckpointError(
                f"{self._folder} cannot be opened ({_reason(error)})."
            ) from error

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
        self.wait()
        try:
            # When to save is the caller's decision: `force` asks Orbax for no opinion.
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics=metrics,
                force=True,
                custom_metadata={_CHECKSUM: _checksum(state)},
            )
        except Exception as error:
            raise self._not_written(error) from error

    def minutes_since_save(self) -> float:
        """How long ago `save` was last called or, before that, this was opened."""
        return (time.monotonic() - self._saved_at) / 60

    def restore(self, abstract_state: State, step: int | None = None) -> State:
        """Reads a checkpoint, bit by bit what was saved, onto the devices.

        By default it is the newest that is undamaged. Newer ones are set aside, under a
        name that begins with "damaged", and named in the log.

        Args:
          abstract_state: the state to build, with a `jax.ShapeDtypeStruct` with sharding
            for each array: `jax.eval_shape` of a jitted function with `out_shardings`
            returns it. The devices may be others than those it was saved from.
          step: which checkpoint; by default the newest.

        Raises:
          CheckpointError: if there is no such checkpoint, if it is damaged and so are
            all before it, or if it holds other arrays than `abstract_state`, which are
            then named.
        """
        self.wait()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step is not None:
            steps = [step] if step in steps else []
        if not steps:
            raise CheckpointError(
                f"{self._folder} holds no checkpoint{'' if step is None else f' {step}'}."
            )
        problems: dict[int, str] = {}
        for candidate in steps:
            state, problem = self._try_to_restore(candidate, abstract_state)
            # A file system may show one host what it does not show another.
            if not any(found := gather(problem)):
                for damaged, reason in problems.items():
                    _set_aside(self._folder, damaged, reason)
                if problems:
                    self._manager.reload()
                return state
            problems[candidate] = next(filter(None, found))
        raise CheckpointError(
            f"The checkpoint {self._folder / str(steps[0])} {problems[steps[0]]}, nor is"
            " there another that can be used: choose another --workdir, or put back the"
            " config that the run was started with, or the folder of the checkpoint."
        )

    def _try_to_restore(self, step: int, abstract_state: State) -> tuple[State, str]:
        """The state of a checkpoint, and what is wrong with it, if anything is."""
        try:
            metadata = self._manager.item_metadata(step)
            if metadata is None:
                raise ValueError("its metadata is missing")
            if differences := _differences(metadata.tree, abstract_state):
                more = len(differences) - 3
                return None, (
                    f"does not fit this config ({', '.join(differences[:3])}"
                    f"{f' and {more} more' if more > 0 else ''})"
                )
            state = self._manager.restore(
                step, args=ocp.args.StandardRestore(abstract_state)
            )
            # Version 0.1 wrote none.
            expected = self._manager.metadata(step).custom_metadata.get(_CHECKSUM)
            if expected is not None and _checksum(state) != expected:
                raise ValueError("its arrays are not those that were saved")
        except jax.errors.JaxRuntimeError:
            raise  # Such as a device without enough memory: the file is not at fault.
        except Exception as error:  # A damaged file may raise anything.
            return None, f"cannot be read ({_reason(error)})"
        return state, ""

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
        self._delete_those_not_kept()

    def close(self) -> None:
        """Waits, then releases Orbax's threads. Raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _delete_those_not_kept(self) -> None:
        if not in_bucket(self._folder) and jax.process_index() == 0:
            # What cannot be deleted now will be tried again.
            shutil.rmtree(self._folder / _DELETED, ignore_errors=True)

    def _set_aside_those_without_records(self) -> None:
        """Orbax reads the records of all checkpoints when it starts, or fails."""
        for step in _finished_steps(self._folder):
            folder = self._folder / str(step)
            metrics = folder / "metrics" / "metrics"
            try:
                get_step_metadata(folder)
                if is_file(metrics):
                    _validation_psnr(json.loads(read_file(metrics)))
            except (ValueError, TypeError, KeyError) as error:
                problem = f"cannot be read ({_reason(error)})"
                _set_aside(self._folder, step, problem)

    def _not_written(self, error: Exception) -> CheckpointError:
        """What to raise where a checkpoint cannot be written for want of room.

        Raises:
          JaxRuntimeError: the disk is not at fault, such as where another host is gone.
        """
        cause = _cause(error)
        if isinstance(cause, jax.errors.JaxRuntimeError):
            raise cause from None
        # Orbax has already struck off its list what it would have deleted afterwards.
        self._manager.reload()
        return CheckpointError(
            f"The last checkpoint could not be written to {self._folder}"
            f" ({_reason(error)}): make room for it and rerun the command, which resumes"
            " from the one before it."
        )


def _set_aside(folder: AnyPath, step: int, problem: str) -> None:
    """Renames a damaged checkpoint, and says so in the log."""
    name = f"damaged_{step}"
    number = 1
    while (folder / name).exists():
        number += 1
        name = f"damaged_{step}_{number}"
    gather(name)  # All hosts have found the same name by now.
    if jax.process_index() == 0:
        (folder / str(step)).rename(folder / name)
    gather(name)
    logging.warning(
        "The checkpoint %s %s. It is %s now, and is not used.",
        folder / str(step),
        problem,
        name,
    )


def _validation_psnr(metrics: dict[str, float]) -> float:
    return metrics["validation_psnr"]


def _checksum(state: State) -> int:
    """Of the bits of all arrays, wherever they are."""
    checksum = 0
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        # Of a copy on each device one is enough. (And no array remembers its NumPy form,
        # which would keep its buffer from being donated.)
        shard = leaf.addressable_data(0) if leaf.is_fully_replicated else leaf
        content = np.ascontiguousarray(shard).reshape(-1).view(np.uint8)
        checksum = zlib.crc32(content.data, checksum)
    return checksum


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


def _cause(error: BaseException) -> BaseException:
    """The innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    error = _cause(error)
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
        if logging.vlog_is_on(1) or not _is_aftermath(unraisable.exc_value):
            report(unraisable)

    sys.unraisablehook = report_if_wanted
    logging.get_absl_logger().addFilter(_is_wanted)
    python_logging.getLogger("asyncio").addFilter(_is_wanted)


def _is_wanted(record: python_logging.LogRecord) -> bool:
    if logging.vlog_is_on(1):
        return True
    if record.name == "asyncio":
        return not (record.exc_info and _is_aftermath(record.exc_info[1]))
    return not record.pathname.startswith(tuple(ocp.__path__))


def _is_aftermath(error: BaseException | None) -> bool:
    """Whether this is about an array that Orbax gave up because another one failed.

    A full disk fails hundreds at once, and Python reports each in many lines.
    """
    return re.search("Event loop is closed|OCDBT|TensorStore", str(error)) is not None
