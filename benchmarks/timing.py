"""What the benchmarks share: functions timed in turns, and the machine they ran on."""

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Wall-clock seconds of each call, and how many cores they kept busy."""

    seconds: list[float]
    busy_cores: float

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)


def time_in_turns(
    functions: dict[str, Callable[[], None]], calls: int
) -> dict[str, Timing]:
    """Times several functions in one process, a call of each in every round.

    So whatever else the machine does falls on all alike. The first call of each warms
    up and is not counted. Between calls the process rests: the threads of some libraries
    wait for a while in busy loops, and would take time from the next function.

    Args:
      functions: by name; each call returns when its result is there.
      calls: how many calls of each count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    cpu_seconds = dict.fromkeys(functions, 0.0)
    for counted in range(calls + 1):
        for name, call in functions.items():
            time.sleep(0.05)
            start, cpu_start = time.perf_counter(), time.process_time()
            call()
            if counted:
                seconds[name].append(time.perf_counter() - start)
                cpu_seconds[name] += time.process_time() - cpu_start
    return {
        name: Timing(seconds[name], cpu_seconds[name] / sum(seconds[name]))
        for name in functions
    }


def describe_machine(*packages: str) -> dict[str, Any]:
    """Hardware, JAX's device, and the versions of Python and of these packages."""
    return {
        "processor": processor(),
        "cores": cores(),
        "device": jax.devices()[0].device_kind,
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def processor() -> str:
    """The processor's name, where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
