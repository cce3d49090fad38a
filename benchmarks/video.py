"""How steady the colors of films are, and how fast `colorgan video` is.

    python benchmarks/video.py PHOTOS [--films FILM ...] [--sheet FILE]

Clips are made from photos in color, so that the motion of every pixel is known: pans, zooms,
a still camera, and something that moves over a background; clean, and with grain and a lamp
that flickers. Films are real ones in color, whose motion is estimated. Each is colorized from
its lightness alone, in several ways:

- frame by frame: the network alone;
- carried: what `colorgan video` does;
- as hints: colors of the frame before, at 36 places, are hints for the network, and then
  carried;
- with a reference: carried, of what the network makes with the real colors of a frame. It is
  the first one, or, for comparison, one of another clip.

Flicker is the mean absolute change of a and b along the motion, of pixels that are seen in
both frames. Ghosts are the mean absolute error of a and b in what came out from behind
something in the last 4 frames.
"""

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import describe_machine

from colorgan_jax import load_params
from colorgan_jax.hints import DEFAULT_RADIUS, Hints, spread_hints
from colorgan_jax.inference import look_at, predict_photos_ab
from colorgan_jax.lab import AB_SCALE, lab_to_rgb, limit_chroma, rgb_to_lab
from colorgan_jax.params import Params
from colorgan_jax.photos import find_photos, read_rgb, resize_photo
from colorgan_jax.references import Reference
from colorgan_jax.video.colorize import colorize_film
from colorgan_jax.video.encoding import Encoding
from colorgan_jax.video.film import Film
from colorgan_jax.video.motion import estimate_motion, move
from colorgan_jax.video.stabilizer import Stabilizer

SIZE = 256
# Of made-up clips, and at most of films.
FRAMES = 24
FILM_FRAMES = 120
# Something is in front where its mask is more than this.
EDGE = 0.5
JUST_UNCOVERED = 4
PLACES = 6

KINDS = ("pan", "zoom", "still", "moving thing")


class Clip(NamedTuple):
    """Frames whose motion is known.

    Attributes:
      L: CIE lightness, with whatever disturbs it.
      ab: the real colors, CIE a and b.
      flow: of each frame but the first, as `motion.Motion.flow`.
      seen: which pixels are in the frame before, too.
      uncovered: which have just come out from behind something.
    """

    L: np.ndarray
    ab: np.ndarray
    flow: np.ndarray
    seen: np.ndarray
    uncovered: np.ndarray


def make_clip(kind: str, photos: Sequence[np.ndarray], seed: int, noisy: bool) -> Clip:
    """Moves a window over one photo, and a disc of another through it."""
    random = np.random.default_rng(seed)
    angle, speed = random.uniform(0, 2 * np.pi), random.uniform(0.6, 1.9)
    grows = random.choice([-1, 1])
    pixels = np.stack(np.meshgrid(*[np.arange(SIZE, dtype=np.float64)] * 2), axis=-1)
    start = np.array([random.uniform(30, 60), SIZE / 2 + random.uniform(-30, 30)])
    step = np.array([random.uniform(2.5, 5), 0])
    frames, windows, fronts = [], [], []
    for number in range(FRAMES):
        place = number - (FRAMES - 1) / 2
        scale, shift = 0.75, np.zeros(2)
        if kind in ("pan", "moving thing"):
            shift = speed * place * np.array([np.cos(angle), 0.5 * np.sin(angle)])
        elif kind == "zoom":
            scale *= np.exp(-0.008 * grows * place)
        else:
            shift = random.normal(0, 0.3, 2)
        corner = SIZE / 2 * (1 - scale) + shift
        windows.append((scale, corner))
        frame = _sample(photos[0], scale * pixels + corner)
        front = np.zeros((SIZE, SIZE))
        if kind == "moving thing":
            center = start + number * step
            radius = np.hypot(*np.moveaxis((pixels - center) / (1, 1.2), -1, 0))
            front = np.clip(0.2 * SIZE - radius + 0.5, 0, 1)
            thing = _sample(photos[1], (pixels - center) * 2.2 + SIZE / 2)
            frame += front[..., None] * (thing - frame)
        frames.append(frame)
        fronts.append(front)

    flow, seen, uncovered = [], [], []
    for number in range(1, FRAMES):
        (scale, corner), (scale_before, corner_before) = (
            windows[number],
            windows[number - 1],
        )
        before = (scale * pixels + corner - corner_before) / scale_before
        is_front = fronts[number] > EDGE
        before = np.where(is_front[..., None], pixels - step, before)
        inside = np.all((before >= 0) & (before <= SIZE - 1), axis=-1)
        same = np.abs(_sample(fronts[number - 1], before) - fronts[number]) < 0.25
        flow.append(before - pixels)
        seen.append(inside & same)
        near = cv2.GaussianBlur(fronts[number], (0, 0), 2) > 0.02
        was_front = np.max(fronts[max(number - JUST_UNCOVERED, 0) : number], axis=0)
        uncovered.append((was_front > EDGE) & ~near)
    lab = np.asarray(rgb_to_lab(np.clip(frames, 0, 1).astype(np.float32)))
    L = lab[..., 0]
    if noisy:
        lamp = 1 + 0.03 * random.normal(size=(FRAMES, 1, 1))
        grain = [
            cv2.GaussianBlur(random.normal(0, 5, (SIZE, SIZE)), (0, 0), 0.7)
            for _ in range(FRAMES)
        ]
        L = np.clip(L * lamp + grain, 0, 100).astype(np.float32)
    return Clip(
        L,
        lab[..., 1:],
        np.array(flow, np.float32),
        np.array(seen),
        np.array(uncovered),
    )


def choose_photos(folder: str, clips: int) -> list[np.ndarray]:
    """Photos for so many clips of each kind, drawn by a fixed seed."""
    files = find_photos(folder)
    chosen = np.random.default_rng(0).permutation(len(files))[: 8 * clips]
    photos = [read_rgb(files[number]) / np.float32(255) for number in chosen]
    return [cv2.resize(photo, (SIZE, SIZE)) for photo in photos]


def make_clips(photos: Sequence[np.ndarray], kind: str, noisy: bool) -> Iterator[Clip]:
    """The clips of a kind, each of two of the chosen photos."""
    clips = len(photos) // 8
    for number in range(clips):
        first = 2 * (clips * KINDS.index(kind) + number)
        yield make_clip(kind, photos[first : first + 2], number, noisy)


def _sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    x, y = cv2.split(places.astype(np.float32))
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def read_clip(path: str) -> Clip:
    """The beginning of a film in color; its motion is estimated both ways."""
    film = Film(path)
    lab = []
    for frame, _ in zip(film.frames(), range(FILM_FRAMES), strict=False):
        pixels = film.pixels(frame.picture)
        rgb = resize_photo(pixels, SIZE, SIZE) / np.float32(np.iinfo(pixels.dtype).max)
        lab.append(np.asarray(rgb_to_lab(rgb)))
    lab = np.array(lab)
    motions = [
        estimate_motion(now, before)
        for before, now in zip(lab[:-1, ..., 0], lab[1:, ..., 0], strict=True)
    ]
    seen = np.array([(m.trust > 0.5) & (not m.is_cut) for m in motions])
    flow = np.array([motion.flow for motion in motions])
    return Clip(lab[..., 0], lab[..., 1:], flow, seen, np.zeros_like(seen))


def frame_by_frame(
    params: Params, L: np.ndarray, reference: Reference | None = None
) -> np.ndarray:
    """The network's colors, CIE a and b."""
    groups = [L[first : first + 4] for first in range(0, len(L), 4)]
    return AB_SCALE * np.concatenate(
        [predict_photos_ab(params, L, reference=reference) for L in groups]
    )


def carry(L: np.ndarray, own: np.ndarray) -> np.ndarray:
    """What `colorgan video` makes of them."""
    stabilizer = Stabilizer()
    return np.array(
        [
            AB_SCALE * stabilizer.steady(*frame)
            for frame in zip(L, own / AB_SCALE, strict=True)
        ]
    )


def carry_as_hints(params: Params, L: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Besides, what is new in a frame is colored by hints of what is not."""
    axis = (np.arange(PLACES) + 0.5) / PLACES
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    rows, columns = (SIZE * places.T).astype(int)
    stabilizer = Stabilizer()
    steadied = []
    for frame, ab in zip(L, own / AB_SCALE, strict=True):
        if stabilizer.state is not None:
            motion = estimate_motion(frame, stabilizer.state.L)
            known = motion.trust[rows, columns] > 0.5
            colors = AB_SCALE * move(stabilizer.state.ab, motion.flow)[rows, columns]
            hints = Hints(
                places.astype(np.float32),
                colors,
                np.full(len(places), DEFAULT_RADIUS, np.float32),
                known & (not motion.is_cut),
            )
            ab = np.asarray(_correct(params, frame, ab, hints))
        steadied.append(AB_SCALE * stabilizer.steady(frame, ab))
    return np.array(steadied)


@jax.jit
def _correct(params: Params, L: jax.Array, ab: jax.Array, hints: Hints) -> jax.Array:
    features = [block[0] for block in look_at(params, L[None]).features]
    return spread_hints(hints, L, ab, features)[0]


@jax.jit
def _rgb(L: jax.Array, ab: jax.Array) -> jax.Array:
    lab = jax.numpy.concatenate([L[..., None], ab], axis=-1)
    return lab_to_rgb(limit_chroma(lab))


def measure(clip: Clip, ab: np.ndarray) -> list[float]:
    """Flicker, ghosts (both of ab) and PSNR in dB."""
    changes = [
        np.abs(now - move(before, flow))[seen].mean()
        for before, now, flow, seen in zip(
            ab[:-1], ab[1:], clip.flow, clip.seen, strict=True
        )
        if seen.any()
    ]
    errors = np.abs(ab - clip.ab)[1:][clip.uncovered]
    squares = (_rgb(clip.L, ab) - _rgb(clip.L, clip.ab)) ** 2
    psnr = -10 * np.log10(np.maximum(np.mean(squares, axis=(1, 2, 3)), 1e-9))
    ghosts = errors.mean() if errors.size else np.nan
    return [float(np.mean(changes)), float(ghosts), float(psnr.mean())]


def compare(params: Params, clips: Iterator[Clip]) -> dict[str, np.ndarray]:
    """The means of all measures over clips, of each way to color them."""
    found: dict[str, list[list[float]]] = {}
    others: Reference | None = None
    for clip in clips:
        own = frame_by_frame(params, clip.L)
        first = Reference(clip.L[0], clip.ab[0])

        def with_reference(
            reference: Reference | None, clip: Clip = clip
        ) -> np.ndarray:
            return carry(clip.L, frame_by_frame(params, clip.L, reference))

        ways: dict[str, Callable[[], np.ndarray]] = {
            "real colors": lambda clip=clip: clip.ab,
            "frame by frame": lambda own=own: own,
            "carried": lambda clip=clip, own=own: carry(clip.L, own),
            "as hints": lambda clip=clip, own=own: carry_as_hints(params, clip.L, own),
            "with its first frame": functools.partial(with_reference, first),
        }
        if others is not None:
            ways["with another's"] = functools.partial(with_reference, others)
        others = first
        for name, color in ways.items():
            found.setdefault(name, []).append(measure(clip, color()))
    return {name: np.mean(rows, axis=0) for name, rows in found.items()}


def print_measures(title: str, measures: dict[str, np.ndarray]) -> None:
    """A row of the table for each way."""
    for name, (flicker, ghosts, psnr) in measures.items():
        cells = [f"{flicker:.2f}", "" if np.isnan(ghosts) else f"{ghosts:.1f}"]
        cells.append("" if name == "real colors" else f"{psnr:.2f}")
        print(f"| {title} | {name} | {' | '.join(cells)} |", flush=True)


def print_cuts(photos: list[np.ndarray]) -> None:
    """How well cuts are told from what happens within shots."""
    random = np.random.default_rng(0)
    pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        name: []
        for name in ("cut", "fast pan", "grain and lamp", "flash", "dissolve", "fade")
    }
    pixels = np.stack(np.meshgrid(*[np.arange(SIZE, dtype=np.float64)] * 2), axis=-1)

    def lightness(photo: np.ndarray, x: float = 0) -> np.ndarray:
        frame = _sample(photo, 0.75 * pixels + SIZE / 8 + np.array([x, 0]))
        return np.asarray(rgb_to_lab(frame.astype(np.float32)))[..., 0]

    for one, other in zip(photos[::2], photos[1::2], strict=False):
        before, after = lightness(one), lightness(other)
        grain = [
            cv2.GaussianBlur(random.normal(0, 8, (SIZE, SIZE)), (0, 0), 0.7)
            for _ in range(2)
        ]
        pairs["cut"].append((before, after))
        pairs["fast pan"].append((before, lightness(one, 12)))
        pairs["grain and lamp"].append((before + grain[0], 1.1 * before + grain[1]))
        pairs["flash"].append((before, 1.6 * before + 10))
        # An eighth of a second each, at 25 frames a second.
        for share in np.arange(8) / 8:
            mixed = [before + (after - before) * (share + step) for step in (0, 1 / 8)]
            pairs["dissolve"].append((mixed[0], mixed[1]))
        for share in np.arange(1, 8) / 8:
            pairs["fade"].append((before * (1 - share), before * (7 / 8 - share)))
    print("\n| | frames | taken for a cut | by lightness alone | by its histogram |")
    print("|---|---|---|---|---|")
    limits = {}
    for name, frames in pairs.items():
        frames = [
            tuple(np.clip(L, 0, 100).astype(np.float32) for L in pair)
            for pair in frames
        ]
        found = np.mean([estimate_motion(now, before).is_cut for before, now in frames])
        plain = [np.abs(now - before).mean() for before, now in frames]
        bins = [
            [np.histogram(L, 32, (0, 100))[0] / L.size for L in pair] for pair in frames
        ]
        histograms = [np.abs(one - other).sum() / 2 for one, other in bins]
        if name == "cut":
            # Such that 95 % of cuts are found.
            limits = [np.quantile(values, 0.05) for values in (plain, histograms)]
        others = [
            f"{np.mean(values > limit):.1%}"
            for values, limit in zip((plain, histograms), limits, strict=True)
        ]
        print(f"| {name} | {len(frames)} | {found:.1%} | {' | '.join(others)} |")


def write_sheet(path: Path, clip: Clip, params: Params) -> None:
    """Six frames: the real colors, frame by frame, and carried."""
    own = frame_by_frame(params, clip.L)
    chosen = np.linspace(0, len(clip.L) - 1, 6).astype(int)
    rows = [
        np.hstack(list(_rgb(clip.L[chosen], ab[chosen])))
        for ab in (clip.ab, own, carry(clip.L, own))
    ]
    sheet = np.rint(255 * np.vstack(rows)).astype(np.uint8)
    cv2.imwrite(str(path), sheet[..., ::-1])


def print_speed(params: Params, film: str, folder: Path) -> None:
    """Frames a second of the command, and of the network alone."""
    source = Film(film)
    encoding = Encoding.choose(source, "film.mp4")

    def run() -> float:
        began = time.perf_counter()
        segments = colorize_film(
            params, source, folder, encoding=encoding, hints={}, end=20.0
        )
        seconds = time.perf_counter() - began
        frames = sum(len(segment.pts) for segment in segments)
        for file in folder.iterdir():
            file.unlink()
        return frames / seconds

    L = np.zeros((4, SIZE, SIZE), np.float32)
    predict = functools.partial(predict_photos_ab, params, L)
    run()
    predict()
    ours, alone = [], []
    for _ in range(3):
        ours.append(run())
        began = time.perf_counter()
        for _ in range(25):
            predict()
        alone.append(100 / (time.perf_counter() - began))
    print(
        f"{Path(film).name}, {source.width}x{source.height}: {np.median(ours):.1f}"
        f" frames/s; the network alone {np.median(alone):.1f}"
    )


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", help="folder of photos in color")
    parser.add_argument("--clips", type=int, default=6, help="of each kind")
    parser.add_argument("--films", nargs="*", default=[], help="in color")
    parser.add_argument("--sheet", type=Path, help="where to write pictures of a clip")
    parser.add_argument(
        "--speed", type=Path, help="an empty folder: measures the films' speed there"
    )
    options = parser.parse_args()
    print(describe_machine("jax", "opencv-python", "av"))
    params = load_params()
    if options.speed:
        for film in options.films:
            print_speed(params, film, options.speed)
        return

    photos = choose_photos(options.photos, options.clips)
    print("\n| clips | colors | flicker | ghosts | PSNR |\n|---|---|---|---|---|")
    for kind in KINDS:
        for noisy in (False, True):
            title = f"{kind}, noisy" if noisy else kind
            print_measures(title, compare(params, make_clips(photos, kind, noisy)))
    for film in options.films:
        print_measures(Path(film).name, compare(params, iter([read_clip(film)])))
    print_cuts(photos)
    if options.sheet:
        write_sheet(
            options.sheet, next(make_clips(photos, "moving thing", True)), params
        )


if __name__ == "__main__":
    main()
