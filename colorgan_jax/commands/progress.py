"""How far a command is: a bar on a terminal, lines elsewhere."""

import sys
import threading
import time
from typing import Any

from colorgan_jax.errors import print_note

# One photo has no bar. If it takes longer than this, something is said.
_PATIENCE_SECONDS = 3.0


class Progress:
    """Tells of photos, or frames, as they are done. Used in a `with` statement."""

    def __init__(self, total: int | None, unit: str = "photos"):
        """Begins.

        Args:
          total: how many there are, those that need nothing included; None if unknown.
          unit: what they are.
        """
        self._total = total
        self._unit = unit
        self._done = 0
        self._start = time.monotonic()
        self._bar: Any = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "Progress":
        if self._total == 1 and sys.stderr.isatty():
            self._timer = threading.Timer(_PATIENCE_SECONDS, _ask_for_patience)
            self._timer.daemon = True
            self._timer.start()
        elif sys.stderr.isatty():
            # Imported for it alone.
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{self._unit}  {{task.fields[rate]}}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, rate="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._bar:
            self._bar.stop()

    def advance(self, number: int) -> None:
        """One is done, well or not.

        Args:
          number: its place among all, from 1.
        """
        self._done += 1
        if self._bar:
            self._bar.update(self._task, completed=number, rate=f"{self.rate():.1f}/s")

    def rate(self) -> float:
        """How many are done a second, since the beginning."""
        return self._done / (time.monotonic() - self._start)

    def print_line(self, number: int, text: str) -> None:
        """Prints what a program can read; on a terminal the bar takes its place.

        Args:
          number: as for `advance`.
          text: of the line.
        """
        if self._has_terminal():
            return
        total = "" if self._total is None else f"/{self._total}"
        place = f"[{number}{total}] " if self._total != 1 else ""
        print(f"{place}{text}", flush=True)

    def print_summary(self, text: str) -> None:
        """Prints what the lines would have told, where a bar took their place."""
        if self._has_terminal():
            print(text)

    def _has_terminal(self) -> bool:
        return self._bar is not None and sys.stdout.isatty()


def _ask_for_patience() -> None:
    print_note(
        "still at it. The first run on a machine compiles the network and takes longer than"
        " later ones."
    )
