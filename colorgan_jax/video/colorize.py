"""The frames of a film, in color, part by part, so that a run can be stopped and go on."""

import contextlib
import io
import itertools
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from colorgan_jax.bulk import Gray, colorize_photos
from colorgan_jax.errors import PhotoError, VideoError
from colorgan_jax.hint_files import KeyFrame
from colorgan_jax.hints import Hints
from colorgan_jax.params import Params, image_size
from colorgan_jax.paths import replace_file
from colorgan_jax.photos import Photo
from colorgan_jax.references import Reference
from colorgan_jax.video.encoding import Encoding
from colorgan_jax.video.film import Film, Frame
from colorgan_jax.video.hint_tracks import FARTHEST, SeenFrame, follow_hints
from colorgan_jax.video.segments import Segment, SegmentWriter
from colorgan_jax.video.stabilizer import Stabilizer, State

# Of a part: what is lost where a run is stopped, at most. The network sees frames by fours,
# and has to see the same ones together when a run goes on.
SEGMENT_FRAMES = 240

# Of what the network sees: smaller pictures are too small to search for motion in.
_SMALLEST = 16


def travel_hints(
    film: Film, key_frames: Sequence[KeyFrame], size: int
) -> dict[int, Hints]:
    """Moves hints through the shots of their frames.

    Args:
      film: theirs.
      key_frames: in the order of their times.
      size: that the network sees.

    Returns:
      The hints of all frames that have any, by their time stamps.

    Raises:
      VideoError: the film cannot be read.
    """
    if not key_frames:
        return {}
    reach = float(FARTHEST / film.assumed_frame_rate)
    frames = film.frames(
        start=max(0.0, key_frames[0].time - reach), end=key_frames[-1].time + reach
    )
    return follow_hints(
        (SeenFrame(frame.pts, frame.time, _see(film, frame, size)) for frame in frames),
        key_frames,
    )


def _read(film: Film, frame: Frame) -> Photo:
    return Photo(film.pixels(frame.picture))


def _see(film: Film, frame: Frame, size: int) -> np.ndarray:
    return Gray.of(_read(film, frame), size).seen


def colorize_film(
    params: Params,
    film: Film,
    folder: Path,
    *,
    encoding: Encoding,
    hints: Mapping[int, Hints],
    reference: Reference | None = None,
    saturation: float = 1.0,
    start: float = 0.0,
    end: float = math.inf,
    advance: Callable[[int], None] = lambda frames: None,
) -> list[Segment]:
    """Colorizes frames into files of `SEGMENT_FRAMES` each. Those that are there are kept.

    Args:
      params: parameters of a generator, from `load_params` or `fold_batch_norm`.
      film: to colorize.
      folder: for the files, of this film, these parameters and these options alone.
      encoding: of the frames.
      hints: of frames, by their time stamps.
      reference: as for `colorize`.
      saturation: as for `colorize`.
      start: seconds: the first frame begins then or later.
      end: seconds: frames that begin then or later are left out.
      advance: called after each frame with how many are done, earlier runs' included.

    Returns:
      All parts, in order; none if there is no frame from `start` to `end`.

    Raises:
      OSError: a file cannot be written.
      VideoError: the film cannot be read any more, or the network sees too little of it.
    """
    if (size := image_size(params)) < _SMALLEST:
        raise VideoError(
            f"These weights see {size}x{size} pixels of a frame: too few to follow what"
            f" moves ({_SMALLEST}x{_SMALLEST} are enough)."
        )
    segments, state = _finished_segments(folder)
    done = sum(len(segment.pts) for segment in segments)
    stabilizer = Stabilizer(state)
    # Frames are read, colorized and written side by side: the state after the last frame of
    # a part is there before that part is.
    states: dict[int, State] = {}
    seen = itertools.count(1)

    def refine(frame: Frame, L: np.ndarray, ab: np.ndarray) -> np.ndarray:
        ab = stabilizer.steady(L, ab)
        if next(seen) % SEGMENT_FRAMES == 0:
            assert stabilizer.state is not None
            states[frame.pts] = stabilizer.state
        return ab

    outcomes = colorize_photos(
        params,
        _frames_after(film, segments, state, start=start, end=end),
        read=lambda frame: _read(film, frame),
        write=lambda frame, photo: encoding.prepare(photo.pixels, frame.pts),
        count_pixels=lambda frame: film.height * film.width,
        hints=lambda frame: hints.get(frame.pts),
        refine=refine,
        reference=reference,
        saturation=saturation,
    )
    with contextlib.closing(outcomes):
        while (first := next(outcomes, None)) is not None:
            others = itertools.islice(outcomes, SEGMENT_FRAMES - 1)
            pts, last = [], first[0]
            with SegmentWriter(folder, encoding) as writer:
                for frame, prepared in itertools.chain([first], others):
                    if isinstance(prepared, PhotoError):
                        raise prepared
                    writer.write(prepared)
                    last = frame
                    pts.append(frame.pts)
                    done += 1
                    advance(done)
                state = states.pop(pts[-1], stabilizer.state)
                path = _segment_path(folder, len(segments))
                segment = Segment(path, np.array(pts), last.duration)
                _keep(segment, state)
                writer.finish(path)
            segments.append(segment)
    return segments


def _frames_after(
    film: Film,
    segments: Sequence[Segment],
    state: State | None,
    *,
    start: float,
    end: float,
) -> Iterator[Frame]:
    """The frames that no part has yet."""
    if not segments:
        yield from film.frames(start=start, end=end)
        return
    assert state is not None
    last = int(segments[-1].pts[-1])
    frames = film.frames(since=last, end=end)
    first = next(frames, None)
    # Some files lead to a frame from where it cannot be decoded right.
    if first is None or not np.array_equal(_see(film, first, len(state.L)), state.L):
        frames = film.frames(start=start, end=end)
    yield from (frame for frame in frames if frame.pts > last)


def _segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.mkv"


def _keep(segment: Segment, state: State | None) -> None:
    """Writes what it takes to go on after a part."""
    assert state is not None
    content = io.BytesIO()
    np.savez(content, pts=segment.pts, duration=segment.duration, **vars(state))
    replace_file(segment.path.with_suffix(".npz"), content.getvalue())


def _finished_segments(folder: Path) -> tuple[list[Segment], State | None]:
    """The parts that are there, and the state after the last of them."""
    segments: list[Segment] = []
    state = None
    while True:
        path = _segment_path(folder, len(segments))
        try:
            with np.load(path.with_suffix(".npz")) as kept:
                segment = Segment(path, kept["pts"], int(kept["duration"]))
                if not segment.is_whole():
                    break
                state = State(kept["L"], kept["ab"], kept["age"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            break
        segments.append(segment)
    return segments, state
