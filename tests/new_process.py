"""Programs of a few lines in a process of their own, which nothing was imported into."""

import os
import subprocess
import sys
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]


def run_program(code, *words, folder=None):
    """Runs a program with this package in a folder, and returns the process at its end."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
