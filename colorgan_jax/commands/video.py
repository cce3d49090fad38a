"""colorgan video: a film in, the film in color out."""

import argparse
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from colorgan_jax import __version__
from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import (
    add_params_option,
    add_provenance_option,
    add_reference_option,
    add_saturation_option,
    local_path,
    number,
)
from colorgan_jax.commands.outputs import digest, digest_of_file
from colorgan_jax.commands.progress import Progress
from colorgan_jax.commands.reference import read_reference
from colorgan_jax.commands.rendering import color_settings
from colorgan_jax.errors import CommandError, print_note
from colorgan_jax.hint_files import KeyFrame, read_film_hints
from colorgan_jax.params import image_size, load_params
from colorgan_jax.paths import replace_file

if TYPE_CHECKING:
    from colorgan_jax.video.film import Film

# In the folder of parts: stands for all that they depend on.
_SETTINGS = "settings"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "video",
        help="colorize a film",
        description="Colorizes a film: its colors are steady within a shot, and its sound,"
        " subtitles, chapters and times stay as they are. To resume, rerun the same"
        " command (docs/video.md).",
    )
    parser.add_argument("input", type=local_path, metavar="FILM", help="to colorize")
    parser.add_argument(
        "output",
        type=local_path,
        metavar="RESULT",
        help="the file to write: .mp4, .mkv, .mov or .webm",
    )
    add_params_option(parser)
    add_saturation_option(parser)
    parser.add_argument(
        "--hints",
        type=local_path,
        metavar="FILE",
        help="a file that says what color some places of some frames are; the colors"
        " travel through their shots (docs/video.md)",
    )
    add_reference_option(parser)
    parser.add_argument(
        "--codec",
        metavar="NAME",
        help="h264, h265, vp9, av1, ffv1 (lossless) or prores (default: h264, in .webm vp9)",
    )
    parser.add_argument(
        "--crf",
        type=number(int, 0, 63),
        metavar="NUMBER",
        help="the quality: less is better and larger (default: that of the codec, which"
        " looks like the film)",
    )
    parser.add_argument(
        "--start",
        default=0.0,
        type=_time,
        metavar="TIME",
        help="begin there: seconds, or H:MM:SS",
    )
    parser.add_argument(
        "--end", default=math.inf, type=_time, metavar="TIME", help="end there"
    )
    parser.add_argument(
        "--preview",
        type=number(float, 0),
        metavar="SECONDS",
        help="only so much, from --start on",
    )
    add_provenance_option(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the result if there is one"
    )
    parser.set_defaults(run=_run)


def _time(word: str) -> float:
    """Reads a time of a film in seconds, minutes and seconds, or hours as well."""
    parts = word.split(":")
    try:
        if len(parts) > 3 or any(float(part) >= 60 for part in parts[1:]):
            raise ValueError
        seconds = sum(
            float(part) * 60**place for place, part in enumerate(reversed(parts))
        )
        if not 0 <= seconds < math.inf or any(part.startswith("-") for part in parts):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{word} is no time: seconds such as 12.5, or H:MM:SS."
        ) from None
    return seconds


def _run(options: argparse.Namespace) -> int:
    output = options.output
    if output.exists() and options.input.exists() and output.samefile(options.input):
        raise CommandError(f"{output} is the film itself: name another file.")
    if output.exists() and not options.overwrite:
        raise CommandError(
            f"{output} is there already: --overwrite replaces it, or name another file."
        )
    # AV1's encoder tells of itself otherwise.
    os.environ.setdefault("SVT_LOG", "1")
    with extra("video", "colorgan video"):
        from colorgan_jax.video.colorize import (
            SEGMENT_FRAMES,
            colorize_film,
            travel_hints,
        )
        from colorgan_jax.video.encoding import Encoding
        from colorgan_jax.video.film import Film, clock
        from colorgan_jax.video.segments import join_segments

    film = Film(options.input)
    encoding = Encoding.choose(film, output, options.codec, options.crf)
    start, end = _choose_part(film, options)
    key_frames = _read_hints(film, options.hints)
    reference = read_reference(options.reference)
    params = load_params(options.params)

    parts = output.with_name(f"{output.name}.parts")
    settings = color_settings(params, reference, options.saturation) | {
        "film": digest_of_file(film.path),
        "hints": digest(
            [
                [frame.time, *(array.tolist() for array in frame.hints)]
                for frame in key_frames
            ]
        ),
        "codec": [encoding.codec, encoding.crf],
        "times": [start, end],
    }
    try:
        _open_parts(parts, digest(settings))
        total = _count_frames(film, start, end)
        with Progress(total, "frames") as progress:

            def advance(done: int) -> None:
                progress.advance(done)
                if done % SEGMENT_FRAMES == 0:
                    rate = progress.rate()
                    text = f"{rate:.1f} frames/s"
                    if total is not None:
                        text += f", {clock(max(0, total - done) / rate)} left"
                    progress.print_line(done, text)

            segments = colorize_film(
                params,
                film,
                parts,
                encoding=encoding,
                hints=travel_hints(film, key_frames, image_size(params)),
                reference=reference,
                saturation=options.saturation,
                start=start,
                end=end,
                advance=advance,
            )
    except OSError as error:
        raise CommandError(
            f"{parts} cannot be written: {error.strerror or error}. Where that is mended,"
            " the same command goes on."
        ) from error
    except KeyboardInterrupt:
        print_note(f"{parts} keeps what is finished: to go on, rerun the same command.")
        raise
    if not segments:
        raise CommandError(
            f"{film.path} has no frame there (--start, --end, --preview)."
        )
    remarks = join_segments(
        film,
        segments,
        parts,
        output,
        start=start,
        end=end,
        comment=(
            None
            if options.no_provenance
            else f"Colors generated by colorgan_jax {__version__}."
        ),
        overwrite=options.overwrite,
    )
    shutil.rmtree(parts, ignore_errors=True)
    for remark in [*encoding.remarks, *film.remarks, *remarks]:
        print_note(f"{film.path}: {remark}.")
    print(output)
    return 0


def _choose_part(film: "Film", options: argparse.Namespace) -> tuple[float, float]:
    """From where to where, in seconds.

    Raises:
      CommandError: there is nothing between them.
    """
    start, end = options.start, options.end
    if options.preview is not None:
        end = min(end, start + options.preview)
    if start >= end:
        raise CommandError(
            f"There is no frame from {start:g} s to {end:g} s (--start, --end, --preview)."
        )
    if film.duration is not None and start >= film.duration:
        raise CommandError(
            f"{film.path} has {film.duration:.1f} s: there is no frame at {start:g} s"
            " (--start)."
        )
    return start, end


def _read_hints(film: "Film", path: Path | None) -> list[KeyFrame]:
    """Reads --hints, if there are any.

    Raises:
      CommandError: the film has no such frame.
      HintsError: as `read_film_hints`.
    """
    key_frames = [] if path is None else read_film_hints(path)
    if key_frames and film.duration is not None:
        last = key_frames[-1].time
        if last > film.duration:
            raise CommandError(
                f"{path} has hints at {last:g} s, but {film.path} has {film.duration:.1f} s."
            )
    return key_frames


def _count_frames(film: "Film", start: float, end: float) -> int | None:
    """About how many frames there are to colorize; None if the file does not say."""
    if film.duration is None or film.frame_rate is None:
        return None
    return max(1, round((min(end, film.duration) - start) * film.frame_rate))


def _open_parts(folder: Path, settings: str) -> None:
    """Makes the folder for the parts of a film, or goes on with those that are in it.

    Raises:
      CommandError: it is of another film or of other options, or something else.
      OSError: it cannot be made or read.
    """
    note = folder / _SETTINGS
    if folder.exists() and any(folder.iterdir()):
        if not note.is_file():
            raise CommandError(
                f"{folder} is in the way: parts of the result would be in it. Move it away,"
                " or name another file."
            )
        unfinished = set(folder.glob(".*.partial"))
        has_parts = bool({*folder.iterdir()} - {note, *unfinished})
        is_of_others = note.read_text(errors="replace").strip() != settings
        if has_parts and is_of_others:
            raise CommandError(
                f"{folder} has parts that were made of another film, or with other weights"
                " or options: go on with those, delete the folder, or name another file."
            )
        # What a killed run left.
        for file in unfinished:
            file.unlink()
        if not is_of_others:
            return
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(note, f"{settings}\n".encode())
