"""python -m colorgan_jax colorize: photos in, photos in color out."""

import argparse
import contextlib
import dataclasses
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from colorgan_jax.commands.options import add_params_option, add_saturation_option
from colorgan_jax.errors import CommandError, PhotoError, print_error
from colorgan_jax.inference import predict_photos_ab, recolor_photo
from colorgan_jax.params import Params, image_size, load_params
from colorgan_jax.photos import (
    PHOTO_EXTENSIONS,
    count_pixels,
    find_photos,
    read_photo,
    resize_photo,
    write_photo,
)

# So many photos go through the network together: on a CPU that takes a fifth less time
# than one by one, and more of them gain nothing.
_BATCH_PHOTOS = 4
# Larger photos go alone, so that one is written while the next is read.
_PIXELS_IN_BATCH = 12_000_000
# Bounds the memory, at about 20 bytes a pixel: two photos of 24 megapixels, or one that
# is still larger.
_PIXELS_IN_FLIGHT = 50_000_000
# What a photo counts at least, so that small ones are not read long before their turn.
_LEAST_PIXELS = 1_000_000


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
    failed = 0
    # Closed, so that after Ctrl-C in this loop, too, the threads stop at once.
    with contextlib.closing(
        _colorize_all(params, outputs, options.saturation)
    ) as results:
        for number, (output, error) in enumerate(results, start=1):
            if error:
                print_error(error)
                failed += 1
                continue
            progress = f"[{number}/{len(outputs)}] " if len(outputs) > 1 else ""
            print(f"{progress}{output}", flush=True)
    if failed:
        print_error(f"{failed} of {len(outputs)} photos could not be colorized.")
    return 1 if failed else 0


@dataclasses.dataclass
class _Batch:
    """Photos on their way together.

    Attributes:
      photos: their paths.
      pixels: that they count for, all together.
      reads: what `_read` returns of each, or raises.
      writes: for each photo the end of `_finish`, or why it could not be read.
    """

    photos: list[Path]
    pixels: int
    reads: list[Future] = dataclasses.field(default_factory=list)
    writes: list[Future | PhotoError] = dataclasses.field(default_factory=list)

    def is_written(self) -> bool:
        return all(isinstance(end, PhotoError) or end.done() for end in self.writes)


def _colorize_all(
    params: Params, outputs: Mapping[Path, Path], saturation: float
) -> Iterator[tuple[Path, PhotoError | None]]:
    """Colorizes photos: threads read and write some while the network sees others.

    Args:
      params: parameters of a generator.
      outputs: {photo: its result}.
      saturation: as for `inference.colorize`.

    Yields:
      For each photo, in order, its result and None when that is written, or else why
      the photo could not be read.

    Raises:
      CommandError: a folder cannot be made. PhotoError: a result cannot be written.
        What keeps one result from being written keeps all of them.
    """
    size = image_size(params)
    batches = _batches(outputs)
    upcoming = next(batches, None)
    reading: deque[_Batch] = deque()
    writing: deque[_Batch] = deque()

    def is_room() -> bool:
        pixels = sum(batch.pixels for batch in (*reading, *writing))
        return pixels == 0 or pixels + upcoming.pixels <= _PIXELS_IN_FLIGHT

    threads = ThreadPoolExecutor(os.cpu_count())
    try:
        while upcoming or reading or writing:
            while upcoming and is_room():
                upcoming.reads = [
                    threads.submit(_read, photo, size) for photo in upcoming.photos
                ]
                reading.append(upcoming)
                upcoming = next(batches, None)
            if reading:
                batch = reading.popleft()
                for photo, colored in zip(batch.photos, _predict(params, batch.reads)):
                    if not isinstance(colored, PhotoError):
                        colored = threads.submit(
                            _finish, outputs[photo], *colored, saturation
                        )
                    batch.writes.append(colored)
                batch.reads.clear()
                writing.append(batch)
            # The oldest is waited for only where nothing else can go on.
            while writing and (
                writing[0].is_written() or not (reading or (upcoming and is_room()))
            ):
                batch = writing.popleft()
                for photo, end in zip(batch.photos, batch.writes):
                    if isinstance(end, PhotoError):
                        yield outputs[photo], end
                    else:
                        end.result()
                        yield outputs[photo], None
    finally:
        # After Ctrl-C and errors, too: what is being written is finished, no more.
        threads.shutdown(cancel_futures=True)


def _batches(photos: Iterable[Path]) -> Iterator[_Batch]:
    """Groups photos, in order, small ones by `_BATCH_PHOTOS`."""
    batch = _Batch([], 0)
    for photo in photos:
        try:
            pixels = max(count_pixels(photo), _LEAST_PIXELS)
        except PhotoError:  # `read_photo` will say why.
            pixels = _LEAST_PIXELS
        if batch.photos and (
            len(batch.photos) == _BATCH_PHOTOS
            or batch.pixels + pixels > _PIXELS_IN_BATCH
        ):
            yield batch
            batch = _Batch([], 0)
        batch.photos.append(photo)
        batch.pixels += pixels
    if batch.photos:
        yield batch


def _read(photo: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo, and what the network sees of it."""
    rgb = read_photo(photo)
    return rgb, resize_photo(rgb, size, size)


def _predict(
    params: Params, reads: list[Future]
) -> list[tuple[np.ndarray, np.ndarray] | PhotoError]:
    """For each photo that is being read, it and the network's ab; or why not."""
    photos = []
    for read in reads:
        try:
            photos.append(read.result())
        except PhotoError as error:
            photos.append(error)
    seen = [photo[1] for photo in photos if not isinstance(photo, PhotoError)]
    if len(seen) == _BATCH_PHOTOS:
        colors = iter(predict_photos_ab(params, np.stack(seen)))
    else:
        # One by one, so that no other batch size is ever compiled.
        colors = (predict_photos_ab(params, photo[None])[0] for photo in seen)
    return [
        photo if isinstance(photo, PhotoError) else (photo[0], next(colors))
        for photo in photos
    ]


def _finish(output: Path, rgb: np.ndarray, ab: np.ndarray, saturation: float) -> None:
    """Writes a photo in the colors that the network gave it."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"The folder {output.parent} cannot be made: {error.strerror}."
        ) from error
    write_photo(output, recolor_photo(rgb, ab, saturation=saturation))


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
