"""The command line: python -m colorgan_jax COMMAND ...

Each command is a pair of functions: one adds its options to the parser, the other
runs it and returns the exit status.
"""

import argparse
import io
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from colorgan_jax import __version__
from colorgan_jax.compilation_cache import enable_compilation_cache
from colorgan_jax.inference import ParamsError, colorize_photo, load_params
from colorgan_jax.photos import (
    PHOTO_EXTENSIONS,
    PhotoError,
    find_photos,
    read_photo,
    write_photo,
)


class CommandError(Exception):
    """A command that cannot go on; the message is one sentence for users."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: the words after `python -m colorgan_jax`; by default the program's.

    Returns:
      The exit status: 0 if all went well, 1 after an error that was printed.

    Raises:
      SystemExit: with status 2, after usage errors, as argparse does.
    """
    parser = argparse.ArgumentParser(
        prog="python -m colorgan_jax", description="Colour for black-and-white photos."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_colorize(commands)
    options = parser.parse_args(arguments)

    # Without a GPU or TPU, JAX says so in a warning; users of the command know.
    logging.getLogger("jax").setLevel(logging.ERROR)
    enable_compilation_cache()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that the terminal cannot show must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return options.run(options)
    except (CommandError, ParamsError, PhotoError) as error:
        _print_error(error)
        return 1
    except KeyboardInterrupt:
        _print_error("interrupted.")
        return 130  # what shells expect of a program ended by Ctrl-C


def _print_error(error: Exception | str) -> None:
    print(f"error: {error}", file=sys.stderr)


def _add_colorize(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "colorize",
        help="colorize photos at their full resolution",
        description="Colorizes photos at their full resolution: each keeps its"
        " lightness, name and format (JPEG, PNG or WebP).",
    )
    parser.add_argument(
        "photos",
        nargs="+",
        type=Path,
        metavar="PHOTO",
        help="a photo, or a folder: all photos below it",
    )
    parser.add_argument(
        "--params",
        required=True,
        type=Path,
        metavar="PATH",
        help="the work directory of a training run, or its params.safetensors",
    )
    parser.add_argument(
        "--output",
        default=Path("colorized"),
        type=Path,
        metavar="FOLDER",
        help="where the results go (default: %(default)s)",
    )
    parser.set_defaults(run=_run_colorize)


def _run_colorize(options: argparse.Namespace) -> int:
    outputs = _plan_outputs(options.photos, options.output)
    params = load_params(options.params)
    failed = 0
    for number, (photo, output) in enumerate(outputs.items(), start=1):
        try:
            rgb = read_photo(photo)
        except PhotoError as error:
            _print_error(error)
            failed += 1
            continue
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(
                f"The folder {output.parent} cannot be made: {error.strerror}."
            ) from error
        # Not caught: what keeps one result from being written keeps all of them.
        write_photo(output, colorize_photo(params, rgb))
        progress = f"[{number}/{len(outputs)}] " if len(outputs) > 1 else ""
        print(f"{progress}{output}", flush=True)
    if failed:
        _print_error(f"{failed} of {len(outputs)} photos could not be colorized.")
    return 1 if failed else 0


def _plan_outputs(inputs: Iterable[Path], output: Path) -> dict[Path, Path]:
    """Chooses where the result of each photo goes, before any is written.

    A photo that is named goes into the folder `output`, those found in a folder into
    the same subfolders of `output`. Where the name is that of an input, or of an
    earlier result, "-2", "-3", ... is appended.

    Args:
      inputs: photos and folders of photos.
      output: the folder for the results.

    Returns:
      {photo: its result}, each photo once.

    Raises:
      CommandError: a folder holds no photos, or is the folder for the results.
      PhotoError: a folder cannot be read.
    """
    wanted: dict[Path, Path] = {}
    for path in inputs:
        if os.path.isdir(path):
            for photo in _find_inputs(path, output):
                wanted[photo] = output / photo.relative_to(path)
        elif path.suffix.lower() in PHOTO_EXTENSIONS:
            wanted[path] = output / path.name
        else:
            wanted[path] = output / f"{path.name}.png"

    photos = {}
    for photo in wanted:
        photos.setdefault(_file_key(photo), photo)
    taken = set(photos)
    outputs = {}
    for photo in photos.values():
        result = wanted[photo]
        number = 2
        while _file_key(result) in taken:
            result = wanted[photo].with_stem(f"{wanted[photo].stem}-{number}")
            number += 1
        taken.add(_file_key(result))
        outputs[photo] = result
    return outputs


def _find_inputs(folder: Path, output: Path) -> list[Path]:
    """The photos below a folder, without the results of an earlier run."""
    photos = find_photos(folder)
    results = output.resolve()
    if results == folder.resolve():
        raise CommandError(
            f"The results cannot go into the folder of the photos, {folder}; name"
            " another with --output."
        )
    if results.is_relative_to(folder.resolve()):
        photos = [
            photo for photo in photos if not photo.resolve().is_relative_to(results)
        ]
    if not photos:
        raise CommandError(f"The folder {folder} holds no JPEG, PNG or WebP photos.")
    return photos


def _file_key(path: Path) -> str:
    """Equal for two paths of one file, also where file names ignore case."""
    return str(path.resolve()).casefold()


if __name__ == "__main__":
    sys.exit(main())
