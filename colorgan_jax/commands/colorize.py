"""colorgan colorize: photos in, photos in color out."""

import argparse
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from colorgan_jax.bulk import colorize_photos
from colorgan_jax.commands.options import add_params_option, add_saturation_option
from colorgan_jax.errors import CommandError, print_error
from colorgan_jax.params import load_params
from colorgan_jax.photos import PHOTO_EXTENSIONS, Photo, find_photos, write_photo


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
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
    add_params_option(parser)
    add_saturation_option(parser)
    parser.add_argument(
        "--output",
        default=Path("colorized"),
        type=Path,
        metavar="FOLDER",
        help="where the results go (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    outputs = _plan_outputs(options.photos, options.output)
    params = load_params(options.params)
    results = colorize_photos(
        params,
        outputs,
        write=lambda path, photo: _write(outputs[path], photo),
        saturation=options.saturation,
    )
    failed = 0
    # Closed, so that after Ctrl-C in this loop, too, the threads stop at once.
    with contextlib.closing(results):
        for number, (photo, error) in enumerate(results, start=1):
            if error:
                print_error(error)
                failed += 1
                continue
            progress = f"[{number}/{len(outputs)}] " if len(outputs) > 1 else ""
            print(f"{progress}{outputs[photo]}", flush=True)
    if failed:
        print_error(f"{failed} of {len(outputs)} photos could not be colorized.")
    return 1 if failed else 0


def _write(output: Path, photo: Photo) -> None:
    """Writes a result into its folder, made if need be."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"The folder {output.parent} cannot be made: {error.strerror}."
        ) from error
    write_photo(output, photo)


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
