"""What a run shows and writes down as it goes: progress, metrics.csv, TensorBoard."""

import csv
import io
import math
import os
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import logging
from tensorboardX import SummaryWriter
from tqdm import tqdm

from colorgan_jax.errors import NonFiniteError
from colorgan_jax.metrics import baselines
from colorgan_jax.paths import (
    AnyPath,
    in_bucket,
    read_file,
    replace_file,
    user_path,
)
from colorgan_jax.training.gan import Metrics

COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "discriminator_loss",
    "generator_loss",
    "adversarial_loss",
    "l1_loss",
    "discriminator_gradient_norm",
    "generator_gradient_norm",
    "photos_per_second",
    "validation_psnr",
    "validation_psnr_gray",
    "validation_psnr_random",
)

# Columns of a metrics.csv that version 0.1 began, and what they are called now.
_RENAMED_COLUMNS = {"validation_psnr_grey": "validation_psnr_gray"}

# How many steps the device is given ahead of the one awaited: enough that it never
# idles, few enough that what is shown is current and a run stops within moments.
STEPS_AHEAD = 2

# How often the files of a record are written anew in a bucket, where nothing can be
# appended to an object, nor an object be replaced more than once a second.
UPLOAD_SECONDS = 15


class MetricLog:
    """The record of a run.

    Losses stay on the device until they are written, so that no step waits for them.
    Only the first host writes files and shows progress. In a bucket they lag behind by up
    to `UPLOAD_SECONDS`, until `flush` or `close`.

    Attributes:
      step: number of steps noted so far.
      rows: all rows of metrics.csv so far, as {column: value} without empty cells.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        step: int,
        last_step: int,
        steps_per_epoch: int,
        batch_size: int,
    ):
        """Opens the record of a run that stands at `step`.

        Rows of later steps are removed: the run was cut off after it wrote them, and
        takes those steps again.
        """
        self.step = step
        self._last_step = last_step
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._pending: list[Metrics] = []
        self._is_lead = jax.process_index() == 0
        self._file = user_path(workdir) / "metrics.csv"
        self._events_folder = user_path(workdir) / "tensorboard"
        self.rows = [row for row in read_metrics(self._file) if row["step"] <= step]
        if self._is_lead:
            _write_rows(self._file, self.rows)
            self._uploaded_at = time.monotonic()
            local_folder = os.fspath(self._events_folder)
            if in_bucket(local_folder):
                self._temporary = tempfile.TemporaryDirectory()
                local_folder = self._temporary.name
            self._events = SummaryWriter(local_folder, purge_step=step + 1)
        self._bar = tqdm(
            total=last_step * batch_size,
            initial=step * batch_size,
            desc="Training",
            unit="photo",
            # Where there is no terminal, log lines take its place.
            disable=not (self._is_lead and sys.stderr.isatty()),
        )
        self._compiled: set[str] = set()  # Names of the metrics of such a step.
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves the time up to now out of the throughput."""
        self._clock = time.monotonic()
        self._clocked_steps = 0

    def add_step(self, metrics: Metrics) -> None:
        """Notes the metrics of the next step, which may still be computed."""
        if self._pending and set(metrics) != set(self._pending[0]):
            self.write_losses()  # A row is of steps of one kind.
        self.step += 1
        self._clocked_steps += 1
        self._pending.append(metrics)
        if self._compiled != set(metrics):  # The step was compiled just now.
            self._compiled = set(metrics)
            jax.block_until_ready(metrics)
            self.restart_clock()
        if len(self._pending) > STEPS_AHEAD:
            jax.block_until_ready(self._pending[-1 - STEPS_AHEAD])
        self._bar.update(self._batch_size)

    def write_losses(self) -> None:
        """Writes the mean of the steps added since the last call.

        Raises:
          NonFiniteError: if any value of any of them is infinite or not a number.
        """
        if not self._pending:
            return
        steps = jax.device_get(self._pending)
        first_step = self.step - len(steps) + 1
        for step, metrics in enumerate(steps, start=first_step):
            for name, value in metrics.items():
                if not math.isfinite(value):
                    raise NonFiniteError(
                        f"{name} became {value} at step {step} (epoch"
                        f" {self._epoch(step):.2f}); no later state was saved. Lower"
                        " --config.optimizer.learning_rate and rerun the command:"
                        " it resumes from the last checkpoint."
                    )
        self._pending = []
        means = {
            name: float(np.mean([metrics[name] for metrics in steps]))
            for name in steps[0]
        }
        values, speed = means, ""
        if self._clocked_steps:  # else only the first step, which was compiled
            seconds = (time.monotonic() - self._clock) / self._clocked_steps
            photos_per_second = self._batch_size / seconds
            left = tqdm.format_interval(seconds * (self._last_step - self.step))
            values = {**means, "photos_per_second": photos_per_second}
            speed = f"; {photos_per_second:.3g} photos/s, {left} left"
        self.restart_clock()
        self._write(values)
        losses = f"G {means['generator_loss']:.2f}, L1 {means['l1_loss']:.4f}"
        if "discriminator_loss" in means:
            losses = f"D {means['discriminator_loss']:.3f}, {losses}"
        epoch = f"epoch {self._epoch(self.step):.2f}"
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{epoch}, {losses}")
        elif self._is_lead:
            logging.info(
                "Step %d of %d, %s: %s%s.",
                self.step,
                self._last_step,
                epoch,
                losses,
                speed,
            )

    def write_scores(self, scores: dict[str, float]) -> None:
        """Writes what `validation.score` returned for the validation photos."""
        self._write(
            {
                "validation_psnr": scores["generated"],
                "validation_psnr_gray": scores[baselines.GRAY],
                "validation_psnr_random": scores[baselines.RANDOM_AB],
            }
        )
        text = ", ".join(f"{name} {value:.2f}" for name, value in scores.items())
        if self._is_lead:
            with tqdm.external_write_mode():
                logging.info("Step %d, validation PSNR in dB: %s.", self.step, text)

    def flush(self) -> None:
        """Writes what a bucket lacks of the files.

        Called before a state is saved, so that a run that resumes from it has all rows up
        to there.
        """
        if not (self._is_lead and in_bucket(self._file)):
            return
        self._uploaded_at = time.monotonic()
        _write_rows(self._file, self.rows)
        for file in Path(self._temporary.name).iterdir():
            replace_file(self._events_folder / file.name, file.read_bytes())

    def close(self) -> None:
        """Ends the progress bar and the TensorBoard events."""
        self._bar.close()
        if self._is_lead:
            self._events.close()
            self.flush()
            if in_bucket(self._file):
                self._temporary.cleanup()

    def _epoch(self, step: int) -> float:
        return step / self._steps_per_epoch

    def _write(self, values: dict[str, float]) -> None:
        row = {"step": self.step, "epoch": self._epoch(self.step), **values}
        self.rows.append(row)
        if not self._is_lead:
            return
        for name, value in values.items():
            self._events.add_scalar(name, value, global_step=self.step)
        self._events.flush()
        if not in_bucket(self._file):
            with self._file.open("a", newline="") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)
        elif time.monotonic() - self._uploaded_at >= UPLOAD_SECONDS:
            self.flush()


def read_metrics(file: AnyPath) -> list[dict[str, float]]:
    """The rows of a metrics.csv as {column: value} without empty cells.

    Rows that a kill cut off are left out, and a file that does not exist has none.
    """
    try:
        text = read_file(file).decode()
    except (FileNotFoundError, NotADirectoryError):
        return []
    # DictReader fills up a line that a kill cut off with None.
    return [
        {
            _RENAMED_COLUMNS.get(name, name): (
                int(cell) if name == "step" else float(cell)
            )
            for name, cell in row.items()
            if cell
        }
        for row in csv.DictReader(io.StringIO(text, newline=""))
        if None not in row.values()
    ]


def _write_rows(file: AnyPath, rows: list[dict[str, float]]) -> None:
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    replace_file(file, lines.getvalue().encode())
