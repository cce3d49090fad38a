"""How far a command is: a bar on a terminal, lines elsewhere."""

import sys
import time
from typing import Any


class Progress:
    """Tells of photos as they are done. Used in a `with` statement."""

    def __init__(self, total: int):
        """`total` is the number of photos, those that need nothing included."""
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> "Progress":
        if self._total > 1 and sys.stderr.isatty():
            # Imported for it alone: one photo has no bar.
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
                TextColumn("photos  {task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("left"),
                console=Console(stderr=True),
                redirect_stdout=sys.stdout.isatty(),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, rate="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, number: int) -> None:
        """A photo is done, well or not.

        Args:
          number: its place among all, from 1.
        """
        self._done += 1
        if self._bar:
            rate = self._done / (time.monotonic() - self._start)
            self._bar.update(self._task, completed=number, rate=f"{rate:.1f}/s")

    def print_line(self, number: int, text: str) -> None:
        """Prints what a program can read; on a terminal the bar takes its place.

        Args:
          number: as for `advance`.
          text: of the line.
        """
        if self._has_terminal():
            return
        place = f"[{number}/{self._total}] " if self._total > 1 else ""
        print(f"{place}{text}", flush=True)

    def print_summary(self, text: str) -> None:
        """Prints what the lines would have told, where a bar took their place."""
        if self._has_terminal():
            print(text)

    def _has_terminal(self) -> bool:
        return self._bar is not None and sys.stdout.isatty()
