"""Seconds that a click takes: hints spread anew, and a preview painted.

    python benchmarks/hints.py

The network has seen the photo once. A click adds a hint: the hints are spread over what it
predicted at 256x256, and the colors are brought to the size of the preview.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import describe_machine

from colorgan_jax import Generator, load_params, make_hints
from colorgan_jax.hints import Hints, spread_hints
from colorgan_jax.inference import paint_photo, photo_lightness, what_the_network_sees
from colorgan_jax.lab import L_SCALE


def seconds_of_clicks(
    *, size: tuple[int, int], hints: Sequence[int], clicks: int
) -> dict[int, list[float]]:
    """Times clicks on a made-up photo.

    Args:
      size: height and width of the preview.
      hints: how many there are.
      clicks: how many are timed for each.

    Returns:
      Number of hints -> seconds of each click.
    """
    random = np.random.default_rng(0)
    height, width = size
    gray = cv2.resize(
        random.integers(0, 256, (40, 60), np.uint8),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    L = photo_lightness(gray)
    params = load_params()
    generator = Generator.from_params(params)
    seen = what_the_network_sees(L, None, generator.image_size)

    @jax.jit
    def look(seen: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """The network's ab and features."""
        variables = {"params": params}
        scaled = seen[None, ..., None] / L_SCALE - 1
        features = generator.apply(variables, scaled, train=False, method="encode")
        ab = generator.apply(variables, features, train=False, method="decode")
        return ab[0], [block[0] for block in features]

    @jax.jit
    def spread(hints: Hints) -> jax.Array:
        return spread_hints(hints, seen, ab, features)[0]

    ab, features = look(seen)
    seconds: dict[int, list[float]] = {}
    for count in hints:
        seconds[count] = []
        for click in range(1 + clicks):
            spots = make_hints(
                random.uniform(0, 1, (count, 2)), random.uniform(-50, 50, (count, 2))
            )
            start = time.perf_counter()
            paint_photo(L, np.asarray(spread(spots)))
            if click:  # The first compiles.
                seconds[count].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(800, 1200),
        help="height and width of the preview",
    )
    parser.add_argument(
        "--hints",
        type=int,
        nargs="+",
        default=[1, 10, 20, 50],
        help="how many there are",
    )
    parser.add_argument(
        "--clicks", type=int, default=10, help="how many are timed, for the median"
    )
    options = parser.parse_args()
    print(describe_machine("jax"))
    timed = seconds_of_clicks(
        size=options.size, hints=options.hints, clicks=options.clicks
    )
    for count, seconds in timed.items():
        print(f"{count} hints: {statistics.median(seconds):.3f} s")


if __name__ == "__main__":
    main()
