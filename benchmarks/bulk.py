"""Photos per second and memory of `colorgan bulk`, beside `colorgan colorize`.

    python benchmarks/bulk.py PHOTOS

PHOTOS is a folder. Each command colorizes the same photos into an empty folder, in processes
of its own, which are the whole measurement: starting them, loading the weights and, for bulk,
the manifest. Memory is that of all processes of a command together, where what they share
counts once (proportional set size), looked at every half second; Linux tells it. It needs
`pip install '.[bulk]'`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import describe_machine

from colorgan_jax.photos import find_photos

_SECONDS_BETWEEN_LOOKS = 0.5


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("photos", type=Path, metavar="PHOTOS")
    parser.add_argument("--count", type=int, default=2000, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[1, 2], help="default: %(default)s"
    )
    parser.add_argument("--params", help="weights (default: the released ones)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()

    more = ["--params", options.params] if options.params else []
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder, "photos")
        photos.mkdir()
        found = find_photos(options.photos)[: options.count]
        for number, photo in enumerate(found):
            (photos / f"{number:06}{photo.suffix}").symlink_to(photo.resolve())
        commands = {"colorize": ["colorize", str(photos), *more]}
        for workers in options.workers:
            commands[f"bulk, --direct_num_workers={workers}"] = [
                *("bulk", "--input", str(photos), *more),
                f"--direct_num_workers={workers}",
            ]
        # Whatever has to be compiled is compiled before.
        warm = str(Path(folder, "warm"))
        one = ["colorize", *map(str, found[:5]), "--output", warm, *more]
        measure(one)
        results = {}
        for number, (name, words) in enumerate(commands.items()):
            results[name] = measure([*words, "--output", f"{folder}/{number}"])
            results[name]["photos_per_second"] = len(found) / results[name]["seconds"]
    machine = describe_machine("jax", "apache-beam")
    if options.json:
        print(json.dumps({"photos": len(found), **machine, "results": results}))
        return
    print(machine)
    for name, result in results.items():
        print(
            f"{name}: {len(found)} photos in {result['seconds']:.1f} s,"
            f" {result['photos_per_second']:.1f}/s; {result['bytes'] / 1e9:.2f} GB at the"
            f" peak; {result['busy_cores']:.2f} cores busy"
        )


def measure(words: list[str]) -> dict[str, Any]:
    """Runs a command of colorgan.

    Returns:
      Its wall-clock seconds, the most bytes that its processes had together, and how many
      cores they kept busy.
    """
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "colorgan_jax", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    peak = 0

    def look() -> None:
        nonlocal peak
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_bytes, family(process.pid))))
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    looking = threading.Thread(target=look)
    looking.start()
    status = process.wait()
    seconds, after = time.perf_counter() - start, os.times()
    looking.join()
    if status:
        sys.exit(f"colorgan {words[0]} failed.")
    spent = sum(after[2:4]) - sum(before[2:4])  # Of all processes that have ended.
    return {"seconds": seconds, "bytes": peak, "busy_cores": spent / seconds}


def family(parent: int) -> list[int]:
    """A process and all that it started."""
    members = [parent]
    for member in members:
        try:
            for children in Path(f"/proc/{member}/task").glob("*/children"):
                members += map(int, children.read_text().split())
        except OSError:  # It has ended.
            continue
    return members


def proportional_bytes(process: int) -> int:
    """Memory of a process, with its part of what it shares with others."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    lines = (line.split() for line in text.splitlines())
    return next((1024 * int(words[1]) for words in lines if words[0] == "Pss:"), 0)


if __name__ == "__main__":
    main()
