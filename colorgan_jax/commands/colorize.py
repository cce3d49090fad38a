"""colorgan colorize: photos in, photos in color out."""

import argparse
import contextlib
import dataclasses
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from colorgan_jax.bulk import colorize_photos
from colorgan_jax.commands.given_hints import GivenHints
from colorgan_jax.commands.options import (
    RESULT_FORMATS,
    add_params_option,
    add_reference_option,
    add_result_options,
    add_saturation_option,
    local_path,
)
from colorgan_jax.commands.outputs import (
    Plan,
    Results,
    Source,
    digest,
    find_sources,
)
from colorgan_jax.commands.progress import Progress
from colorgan_jax.commands.reference import read_reference
from colorgan_jax.commands.rendering import Rendering
from colorgan_jax.errors import CommandError, PhotoError, print_error, print_note
from colorgan_jax.hint_files import read_hints
from colorgan_jax.hints import Hints
from colorgan_jax.params import load_params
from colorgan_jax.paths import is_on_this_machine
from colorgan_jax.photos import (
    FORMATS,
    PHOTO_EXTENSIONS,
    Photo,
    read_header,
    read_photo,
)

_STANDARD_INPUT = Path("-")
_DEFAULT_OUTPUT = Path("colorized")
_FILM_EXTENSIONS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm")
# Of the files that are left out, so many are named.
_NAMES_SHOWN = 10


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "colorize",
        help="colorize photos at their full resolution",
        description="Colorizes photos at their full resolution: each keeps its"
        " lightness, name, format, bit depth, transparency and metadata. No file is"
        " replaced, and photos that were colorized before are skipped: to resume, rerun"
        " the same command.",
    )
    parser.add_argument(
        "photos",
        nargs="+",
        type=_photo_path,
        metavar="PHOTO",
        help="a photo, a folder (all photos below it), or - for standard input, whose"
        " result goes to standard output",
    )
    add_params_option(parser)
    add_saturation_option(parser)
    parser.add_argument(
        "--hints",
        type=local_path,
        metavar="PATH",
        help="a file that says what color some places of the photo are, or a folder of"
        " such files, NAME.json for each photo (docs/hints.md)",
    )
    add_reference_option(parser)
    parser.add_argument(
        "--output",
        type=local_path,
        metavar="FOLDER",
        help=f"where the results go (default: {_DEFAULT_OUTPUT})",
    )
    add_result_options(parser)
    parser.add_argument(
        "--list", action="store_true", help="only print what would be done"
    )
    parser.set_defaults(run=_run)


def _photo_path(word: str) -> Path:
    if not is_on_this_machine(word):
        raise argparse.ArgumentTypeError(
            f"{word} is not on this machine: for photos in a bucket there is colorgan bulk."
        )
    if word.lower().endswith(_FILM_EXTENSIONS):
        raise argparse.ArgumentTypeError(
            f"{word} is a film: for films there is colorgan video."
        )
    return Path(word)


def _run(options: argparse.Namespace) -> int:
    params = load_params(options.params)
    rendering = Rendering(
        params=params,
        reference=read_reference(options.reference),
        saturation=options.saturation,
        format=RESULT_FORMATS.get(options.format),
        quality=options.quality,
        side_by_side=options.side_by_side,
        has_provenance=not options.no_provenance,
    )
    if _STANDARD_INPUT in options.photos:
        if len(options.photos) > 1 or options.list or options.output:
            raise CommandError("- stands alone: the result goes to standard output.")
        return _colorize_standard_input(rendering, options.hints)

    output = options.output or _DEFAULT_OUTPUT
    _check_output(output)
    found = find_sources(options.photos, output)
    sources = found.photos
    hints = GivenHints(options.hints, sources, output)
    others = [
        path for path in found.others if path not in {*hints.files, *hints.unused}
    ]
    if hints.unused:
        print_note(
            f"{options.hints} has hints for photos that are not among these:"
            f" {_name_some(hints.unused, all_names=options.list)}."
        )
    if found.repeated:
        print_note(
            f"{_count(found.repeated)} left out, since another name of the same photo is"
            f" among these: {_name_some(found.repeated, all_names=options.list)}."
        )
    if others:
        print_note(_describe_others(others, all_names=options.list))
    for error in found.errors:
        print_error(error)
    settings = rendering.settings()
    results = Results(
        output,
        sources,
        settings=lambda source: _digest_of_settings(settings, hints.of(source)),
        result_format=rendering.result_format,
        overwrite=options.overwrite,
        has_manifest=options.no_provenance,
    )
    if options.list:
        status = _list(sources, results)
    else:
        status = _colorize(sources, results, rendering, hints)
    return 1 if found.errors else status


def _check_output(folder: Path) -> None:
    """Refuses a file, and what is most likely meant as one.

    Raises:
      CommandError: it is one.
    """
    if folder.is_dir():
        return
    if folder.exists():
        raise CommandError(f"--output {folder} is a file; name a folder.")
    if folder.suffix.lower() in PHOTO_EXTENSIONS:
        raise CommandError(
            f"--output names a folder, and {folder} looks like a photo; for one such file"
            f" there is: colorgan colorize - < PHOTO > {folder}"
        )


def _digest_of_settings(settings: dict[str, object], hints: Hints | None) -> str:
    """Stands for all that the look of one result depends on."""
    if hints is not None:
        settings = settings | {"hints": [np.asarray(array).tolist() for array in hints]}
    return digest(settings)


def _name_some(paths: list[Path], *, all_names: bool) -> str:
    """Names files, all or the first of them."""
    shown = paths if all_names else paths[:_NAMES_SHOWN]
    more = "" if len(paths) == len(shown) else ", ... (--list names them all)"
    return ", ".join(map(str, shown)) + more


def _count(paths: list[Path]) -> str:
    return "1 file is" if len(paths) == 1 else f"{len(paths)} files are"


def _describe_others(paths: list[Path], *, all_names: bool) -> str:
    """Sentences about the files that are no photos."""
    names = _name_some(paths, all_names=all_names)
    sentences = [f"{_count(paths)} left out: {names}."]
    extensions = {path.suffix.lower() for path in paths}
    sentences += [
        f"{known.name} photos need a package more: pip install"
        f" 'colorgan_jax[{known.extra}]'."
        for known in FORMATS.values()
        if extensions.intersection(known.extensions) and not known.is_readable()
    ]
    return " ".join(sentences)


def _list(sources: Iterable[Source], results: Results) -> int:
    """Prints what would be done."""
    status = 0
    for source in sources:
        try:
            plan = results.plan(source)
        except PhotoError as error:
            print_error(error)
            status = 1
            continue
        if plan.is_result:
            print(f"{source.path} is left out: it is a result of colorgan.")
        else:
            told = "is done:" if plan.finished else "->"
            print(f"{source.path} {told} {plan.result}")
    return status


@dataclasses.dataclass(frozen=True)
class _Job:
    """A photo on its way, and what is planned for it, or why nothing can be."""

    source: Source
    planned: Plan | PhotoError

    @property
    def plan(self) -> Plan:
        """Raises the `PhotoError` if there is none."""
        if isinstance(self.planned, PhotoError):
            raise self.planned
        return self.planned


def _colorize(
    sources: list[Source], results: Results, rendering: Rendering, hints: GivenHints
) -> int:
    """Colorizes photos and writes their results."""
    finished: list[Path] = []
    left_out = 0

    def jobs() -> Iterator[_Job]:
        nonlocal left_out
        for source in sources:
            try:
                plan = results.plan(source)
            except PhotoError as error:
                yield _Job(source, error)
                continue
            if plan.is_result:
                left_out += 1
            elif plan.finished:
                finished.append(plan.result)
            else:
                yield _Job(source, plan)

    def write(job: _Job, photo: Photo) -> tuple[Path, tuple[str, ...]]:
        def save(stream: io.BufferedRandom) -> tuple[str, ...]:
            return rendering.save(
                stream,
                photo,
                job.plan.format,
                name=str(job.source.path),
                read_page=lambda page: read_photo(job.source.path, page=page),
                source=job.plan.digest,
                settings=job.plan.settings,
                has_hints=hints.of(job.source) is not None,
            )

        return results.write(job.plan, save)

    outcomes = colorize_photos(
        rendering.params,
        jobs(),
        read=lambda job: read_photo(job.plan.source.path),
        write=write,
        count_pixels=lambda job: job.plan.header.pixels,
        hints=lambda job: hints.of(job.source),
        reference=rendering.reference,
        saturation=rendering.saturation,
    )
    done = failed = 0
    # Closed, so that after Ctrl-C in this loop, too, the threads stop at once.
    with Progress(len(sources)) as progress, contextlib.closing(outcomes):
        for job, outcome in outcomes:
            progress.advance(job.source.number)
            if isinstance(outcome, PhotoError):
                print_error(outcome)
                failed += 1
                continue
            result, remarks = outcome
            if job.plan.older:
                print_note(
                    f"{job.plan.older} was made with other weights or options and stays;"
                    f" the new result is {result}."
                )
            elif result != job.plan.wanted and not job.plan.replaced:
                print_note(
                    f"{job.plan.wanted} is there already, not made of this photo as it is"
                    f" now, and stays; the result is {result}."
                )
            for remark in remarks:
                print_note(f"{job.source.path}: {remark}.")
            progress.print_line(job.source.number, str(result))
            done += 1
    progress.print_summary(f"{done} photos colorized into the folder {results.folder}.")
    if finished and len(sources) == 1:
        print_note(
            f"{finished[0]} was made before and stays; --overwrite makes it anew."
        )
    elif finished:
        print_note(
            f"{len(finished)} of {len(sources)} photos were colorized before and are skipped;"
            " --overwrite colorizes them anew."
        )
    if left_out:
        print_note(
            f"{left_out} of {len(sources)} photos are left out, since they are results of"
            " colorgan; those that are named themselves are not."
        )
    if failed:
        print_error(f"{failed} of {len(sources)} photos could not be colorized.")
    return 1 if failed else 0


def _colorize_standard_input(rendering: Rendering, path: Path | None) -> int:
    """Colorizes one photo from standard input to standard output."""
    if sys.stdout.isatty():
        raise CommandError(
            "The result would go to the terminal: add > FILE, or | and a program."
        )
    hints = None if path is None else read_hints(path)
    content = sys.stdin.buffer.read()
    name = "the photo on standard input"
    photo = read_photo(content, name)
    encoded = io.BytesIO()
    remarks = rendering.save(
        encoded,
        rendering.colorize(photo, hints),
        rendering.result_format(read_header(content, name)),
        name=name,
        read_page=lambda page: read_photo(content, name, page=page),
        has_hints=hints is not None,
    )
    for remark in remarks:
        print_note(f"{name}: {remark}.")
    sys.stdout.buffer.write(encoded.getvalue())
    sys.stdout.buffer.flush()
    return 0
