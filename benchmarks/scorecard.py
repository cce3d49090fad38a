"""The scorecard: everything that is measured of colorgan_jax, on one page.

    python benchmarks/scorecard.py TEST_PHOTOS [--output docs/scorecard.md]

measures how good the colors of the released weights are, by themselves and with hints; whether
they keep within outlines; how steady they are in films; how fast the commands are and what
memory they take, in processes of their own; how large all is; and whether anything asks the
network. Beside each figure stands what others have published.
It takes an otherwise idle machine for a quarter of an hour, and `pip install
'.[evaluate,video]'`.
"""

import argparse
import datetime
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import hints
import video
from peers import PEERS
from timing import describe_machine

import colorgan_jax
from colorgan_jax import load_params
from colorgan_jax.evaluation.evaluate import bootstrap_interval, row_with_hints
from colorgan_jax.evaluation.report import format_interval
from colorgan_jax.lab import rgb_to_lab
from colorgan_jax.metrics.baselines import GRAY
from colorgan_jax.paths import replace_file
from colorgan_jax.photos import find_photos, read_square

SIZE = 256
HINTS = (1, 5, 10, 20)
SUGGESTED = (5,)
EVALUATE = (
    *("evaluate", "--hints", *map(str, HINTS)),
    *("--suggested-hints", *map(str, SUGGESTED), "--photos"),
)
PHOTOS = 200  # Of a folder whose colorizing is timed.
LARGE = (6000, 4000)  # Width and height.
FILM_FRAMES = 250

# Runs a command of colorgan. Its last line says how often it looked up a host or connected to
# anything, and how many kilobytes were resident at the most: what the system tells a parent of
# its child begins with what the parent itself had.
PROGRAM = """
import runpy, sys
asked = 0
def note(event, details):
    global asked
    asked += event in ("socket.getaddrinfo", "socket.connect")
sys.addaudithook(note)
try:
    runpy.run_module("colorgan_jax", run_name="__main__")
finally:
    status = open("/proc/self/status").read().split()
    print(asked, status[status.index("VmHWM:") + 1], file=sys.stderr)
"""


class Row(NamedTuple):
    """A line of the scorecard.

    Attributes:
      measure: its name, by which `PEERS` knows it.
      figure: ours.
    """

    measure: str
    figure: str


def interval(values: Sequence[float] | np.ndarray, form: str = ".2f") -> str:
    """The mean and its 95% bootstrap interval, as in 23.27 (22.95 to 23.58)."""
    return format_interval(bootstrap_interval(np.asarray(values, np.float64)), form)


def spread(seconds: Sequence[float], form: str) -> str:
    """The median, the fastest and the slowest."""
    low, high = min(seconds), max(seconds)
    return f"{statistics.median(seconds):{form}} s ({low:{form}} to {high:{form}})"


def colors_of_photos(photos: Path, folder: Path) -> Iterator[Row]:
    """How good the colors are, by themselves and with hints."""
    run(*EVALUATE, str(photos), "--output", str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    name = next(iter(summary["models"]))
    ours, gray = summary["rows"][name], summary["rows"][GRAY]
    above_gray = summary["differences"][GRAY][name]
    yield Row("PSNR", f"{format_interval(ours['psnr'], '.2f')} dB")
    yield Row("above gray", f"{format_interval(above_gray['psnr'], '+.2f')} dB")
    lpips = format_interval(ours["lpips"], ".3f")
    yield Row("LPIPS", f"{lpips}; gray {gray['lpips']['mean']:.3f}")
    colorfulness = format_interval(ours["colorfulness"], ".1f")
    share = f"{ours['colorfulness_ratio']:.0%} of the real photos'"
    yield Row("colorfulness", f"{colorfulness}, {share}")
    if "frechet_vgg16" in ours:  # Few photos have none.
        frechet = f"{ours['frechet_vgg16']:.2f}; gray {gray['frechet_vgg16']:.2f}"
        yield Row("Fréchet distance", frechet)
    gained = summary["differences"][name]
    for kind, counts in (("", HINTS), ("suggested", SUGGESTED)):
        for count in counts:
            row = row_with_hints(name, count, kind)
            gain = format_interval(gained[row]["psnr"], "+.2f")
            yield Row(f"{row.removeprefix(f'{name}, ')}, gain", f"{gain} dB")


def stray_edges(L: np.ndarray, ab: np.ndarray) -> float:
    """How much of the edges of the colors lies where the lightness has none.

    Args:
      L: CIE lightness [H, W].
      ab: CIE a and b [H, W, 2].

    Returns:
      Of the twentieth of the pixels where the colors change most, the share that is
      more than 2 pixels away from the fifth where the lightness changes most.
    """

    def changes(channels: np.ndarray) -> np.ndarray:
        x, y = (cv2.Sobel(channels, cv2.CV_32F, *by) for by in ((1, 0), (0, 1)))
        squares = x**2 + y**2
        return squares if squares.ndim == 2 else squares.sum(axis=-1)

    of_color, of_lightness = changes(ab), changes(L)
    edges = of_color > np.quantile(of_color, 0.95)
    outlines = of_lightness > np.quantile(of_lightness, 0.8)
    near = cv2.dilate(outlines.astype(np.uint8), np.ones((5, 5), np.uint8))
    return float(np.mean(near[edges] == 0)) if edges.any() else 0.0


def colors_within_outlines(photos: Path) -> Iterator[Row]:
    """Bleeding: the edges of the colors that are no edges of the photo."""
    params = load_params()
    ours, real, another = [], [], []
    before: np.ndarray | None = None
    for file in find_photos(photos):
        lab = np.asarray(rgb_to_lab(read_square(file, SIZE) / np.float32(255)))
        L, ab = lab[..., 0], lab[..., 1:]
        ours.append(stray_edges(L, video.frame_by_frame(params, L[None])[0]))
        real.append(stray_edges(L, ab))
        if before is not None:
            another.append(stray_edges(L, before))
        before = ab
    ours, real, another = (
        f"{interval(100 * np.array(shares), '.1f')} %"
        for shares in (ours, real, another)
    )
    yield Row("bleeding", f"{ours}; real colors {real}, another photo's {another}")


def steadiness(photos: Path, clips: int) -> Iterator[Row]:
    """Flicker of films."""
    params = load_params()
    chosen = video.choose_photos(str(photos), clips)
    real, alone, carried = [], [], []
    for kind in video.KINDS:
        for clip in video.make_clips(chosen, kind, noisy=True):
            own = video.frame_by_frame(params, clip.L)
            real.append(video.measure(clip, clip.ab))
            alone.append(video.measure(clip, own))
            carried.append(video.measure(clip, video.carry(clip.L, own)))
    flickers = [
        interval([flicker for flicker, _, _ in measures])
        for measures in (carried, alone, real)
    ]
    yield Row(
        "flicker",
        f"{flickers[0]}; frame by frame {flickers[1]}, real colors {flickers[2]}",
    )
    gains = [
        ours - before for (*_, ours), (*_, before) in zip(carried, alone, strict=True)
    ]
    yield Row("PSNR beyond frame by frame", f"{interval(gains, '+.2f')} dB")


class Run(NamedTuple):
    """What a command took: seconds, bytes resident at the most, and hosts asked for."""

    seconds: float
    bytes: int
    asked: int


def run(*words: str, **environment: str) -> Run:
    """Runs a command of colorgan in a process of its own."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"colorgan {' '.join(words)} failed: {done.stderr}")
    asked, kilobytes = done.stderr.split()[-2:]
    return Run(seconds, 1024 * int(kilobytes), int(asked))


def speed(photos: Path, folder: Path, runs: int) -> Iterator[Row]:
    """Seconds and memory of commands, start included, and what they ask the network."""
    files = find_photos(photos)[:PHOTOS]
    photo, album, large, film = (
        folder / name for name in ("photo.jpg", "album", "large.jpg", "film.mkv")
    )
    photo.symlink_to(files[0].resolve())
    album.mkdir()
    for file in files:
        (album / file.name).symlink_to(file.resolve())
    gray = cv2.imread(str(photo), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(large), cv2.resize(gray, LARGE))
    write_film(film, gray)

    # How the table names a command, its words, and how many photos or frames it colors.
    one = ["colorize", str(photo), "--output"]
    first = "`colorgan colorize PHOTO`, the first time"
    commands = {
        first: (one, 1),
        "`colorgan colorize PHOTO`": (one, 1),
        "the same, 24 megapixels": (["colorize", str(large), "--output"], 1),
        f"`colorgan colorize FOLDER`, {len(files)} photos of 256x256": (
            ["colorize", str(album), "--output"],
            len(files),
        ),
        f"`colorgan video FILM`, {FILM_FRAMES} frames of 1280x720": (
            ["video", str(film)],
            FILM_FRAMES,
        ),
    }
    asked = 0
    for number, (measure, (words, count)) in enumerate(commands.items()):
        done = []
        for turn in range(runs if measure == first else runs + 1):
            output = str(folder / f"{number}-{turn}.mkv")
            # What XLA has compiled is kept for the next run, but here.
            cache = {"JAX_COMPILATION_CACHE_DIR": f"{output}-cache"}
            done.append(run(*words, output, **(cache if measure == first else {})))
        timed = done[-runs:]  # The others' first one compiled.
        figure = spread([each.seconds for each in timed], ".1f")
        if count > 1:
            rate = count / statistics.median(each.seconds for each in timed)
            figure += f", {rate:.1f} a second"
        memory = max(each.bytes for each in timed) / 1e9
        yield Row(measure, f"{figure}; {memory:.2f} GB")
        asked += sum(each.asked for each in done)
    ((_, clicks),) = hints.seconds_of_clicks(
        size=(800, 1200), hints=[10], clicks=2 * runs
    ).items()
    yield Row("a click, with 10 hints, on a preview of 1200x800", spread(clicks, ".3f"))
    starts = [run("--help").seconds for _ in range(runs)]
    yield Row("`colorgan --help`", spread(starts, ".2f"))
    yield Row("asking the network", f"{asked} times in all these commands")


def write_film(path: Path, gray: np.ndarray) -> None:
    """A pan over a photo, of 1280x720."""
    height, width = 720, 1280
    wide = cv2.resize(gray, (width + FILM_FRAMES, height))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = height, width
        for first in range(FILM_FRAMES):
            view = np.ascontiguousarray(wide[:, first : first + width])
            frame = av.VideoFrame.from_ndarray(view, "gray")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def sizes() -> Iterator[Row]:
    """What has to be there."""
    package = Path(colorgan_jax.__file__).parent
    weights = (package / "weights" / "params.safetensors").stat().st_size
    count = sum(leaf.size for leaf in jax.tree.leaves(load_params()))
    parameters = f"{count / 1e6:.1f} million parameters in half precision"
    yield Row("weights", f"{weights / 1e6:.1f} MB, {parameters}")
    files = [path for path in package.rglob("*") if "__pycache__" not in path.parts]
    total = sum(path.stat().st_size for path in files if path.is_file())
    yield Row("the package, with its weights and its page", f"{total / 1e6:.1f} MB")


def format_scorecard(sections: dict[str, list[Row]], photos: int) -> str:
    """The page."""
    machine = describe_machine("jax", "opencv-python", "av")
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    lines = [
        INTRODUCTION,
        f"Last made with {photos} photos on {machine['cores']} cores"
        f" ({machine['processor']}), {versions}, {datetime.date.today()}.",
    ]
    for title, rows in sections.items():
        lines += ["", f"## {title}", "", "| | colorgan_jax | published by others |"]
        lines += ["|---|---|---|"]
        lines += [
            f"| {row.measure} | {row.figure} | {PEERS.get(row.measure, '')} |"
            for row in rows
        ]
    return "\n".join([*lines, "", MEANINGS])


INTRODUCTION = """\
# The scorecard

What is measured of colorgan_jax with its released weights, made by one command on an
otherwise idle machine:

```sh
pip install '.[evaluate,video]' && python benchmarks/scorecard.py TEST_PHOTOS
```

Brackets hold 95% bootstrap intervals over photos or clips; with seconds, which are medians,
the fastest and the slowest run. **What others have published was measured on other photos
and other machines, and by measures that differ**: it shows how large such figures are, and
is no comparison.
"""

MEANINGS = """\
## What the measures mean

- **Colors** are those of 256x256 pixels, as `colorgan evaluate --photos TEST_PHOTOS --hints
  1 5 10 20 --suggested-hints 5` scores them. PSNR rewards pale colors, so gray, the photo
  left as it is, stands beside it. LPIPS is AlexNet's, colorfulness Hasler's and
  Suesstrunk's, and the Fréchet distance over VGG16's features, which is not FID. Hints tell
  the true mean color of 7x7 pixels at random places or at those that `where_to_ask`
  suggests; gains are over no hints.
- **Bleeding**: of the twentieth of the pixels where the colors change most, the share that
  is more than 2 pixels away from the fifth where the lightness changes most.
- **Flicker**: the mean absolute change of a and b from frame to frame along the true
  motion, on clips made of test photos with grain and a lamp that flickers (as in `python
  benchmarks/video.py TEST_PHOTOS`).
- **Seconds** are those of whole commands, from start to end; memory is the most that was
  resident. The first time, XLA compiles the network; later it finds it compiled. A click is
  that of `python benchmarks/hints.py`.
- **Asking the network**: how often Python looked up a host or connected to anything (its
  audit events `socket.getaddrinfo` and `socket.connect`).
"""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path, help="folder of photos in color")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "scorecard.md")
    parser.add_argument("--clips", type=int, default=6, help="of each kind")
    parser.add_argument("--runs", type=int, default=5, help="of each timed command")
    options = parser.parse_args()
    photos = len(find_photos(options.photos))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sections = {
            "Colors": itertools.chain(
                colors_of_photos(options.photos, folder / "evaluation"),
                colors_within_outlines(options.photos),
            ),
            "Films": steadiness(options.photos, options.clips),
            "Speed and memory": speed(options.photos, folder, options.runs),
            "Size": sizes(),
        }
        measured: dict[str, list[Row]] = {}
        for title, rows in sections.items():
            measured[title] = []
            for row in rows:
                print(f"{row.measure}: {row.figure}", flush=True)
                measured[title].append(row)
    replace_file(options.output, format_scorecard(measured, photos).encode())


if __name__ == "__main__":
    main()
