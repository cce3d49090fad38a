"""Which photos the raters see: as many real as generated, brought to one form."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

from colorgan_jax.errors import PhotoError, SurveyError
from colorgan_jax.photos import find_photos, read_rgb, resize_photo
from colorgan_jax.survey.database import SurveyPhoto

# In pixels. What is larger loads slowly and is shrunk by the browser anyway.
MAXIMUM_SIZE = 640


def choose_photos(
    real: Path, generated: Path, *, count: int, seed: int, report: Callable[[str], None]
) -> list[SurveyPhoto]:
    """Chooses photos at random and brings them to one size.

    Where both folders hold a photo of one name (but for the extension), it is taken to
    be the same scene, and as far as there are enough others, shown only once.

    Args:
      real: the folder of photos as the camera took them.
      generated: the folder of photos with generated colors.
      count: how many of each.
      seed: another one chooses other photos.
      report: is given a sentence about each photo left out and each compromise.

    Returns:
      `count` real photos, then `count` generated ones, all of one size with sides of at
      most `MAXIMUM_SIZE` pixels: untouched where they are already, else cropped to their
      central square and resized to the smallest.

    Raises:
      PhotoError: a folder does not exist or cannot be read.
      SurveyError: a folder holds too few photos, or lies within the other.
    """
    real, generated = real.expanduser(), generated.expanduser()
    found = {"real": find_photos(real), "generated": find_photos(generated)}
    places = real.resolve(), generated.resolve()
    if places[0].is_relative_to(places[1]) or places[1].is_relative_to(places[0]):
        raise SurveyError(
            f"The folders of real and of generated photos must lie apart: {real} and"
            f" {generated} do not."
        )

    def scene(path: Path, folder: Path) -> str:
        return path.relative_to(folder).with_suffix("").as_posix()

    shuffled = random.Random(seed)
    for paths in found.values():
        shuffled.shuffle(paths)
    # First the scenes that only this folder has, so that the other has more left.
    in_generated = {scene(path, generated) for path in found["generated"]}
    found["real"].sort(key=lambda path: scene(path, real) in in_generated)
    photos = _read_photos(found["real"], real, "real", count, report)

    shown = {scene(Path(photo.name), Path()) for photo in photos}
    found["generated"].sort(key=lambda path: scene(path, generated) in shown)
    photos += _read_photos(found["generated"], generated, "generated", count, report)
    again = shown.intersection(
        scene(Path(photo.name), Path()) for photo in photos[count:]
    )
    if again:
        report(
            "Scenes that are shown twice, real and generated, because there are too few"
            f" others: {len(again)}."
        )
    return _make_equal_in_size(photos)


def _read_photos(
    paths: list[Path],
    folder: Path,
    kind: str,
    count: int,
    report: Callable[[str], None],
) -> list[SurveyPhoto]:
    """Reads the first `count` photos that can be read, none larger than needed."""
    photos = []
    for path in paths:
        if len(photos) == count:
            break
        try:
            pixels = read_rgb(path)
        except PhotoError as error:
            report(f"Left out: {error}")
            continue
        height, width = pixels.shape[:2]
        if max(height, width) > MAXIMUM_SIZE:
            pixels = _square(pixels, min(height, width, MAXIMUM_SIZE))
        name = path.relative_to(folder).as_posix()
        # Not every file name is Unicode, but what SQLite and JSON hold is.
        name = name.encode(errors="replace").decode()
        photos.append(SurveyPhoto(name, kind, pixels))
    if len(photos) < count:
        raise SurveyError(
            f"--count asks for {count} photos of each folder, but {folder} holds"
            f" {len(photos)} that can be read."
        )
    return photos


def _make_equal_in_size(photos: list[SurveyPhoto]) -> list[SurveyPhoto]:
    if len({photo.pixels.shape for photo in photos}) == 1:
        return photos
    size = min(min(photo.pixels.shape[:2]) for photo in photos)
    return [
        SurveyPhoto(photo.name, photo.kind, _square(photo.pixels, size))
        for photo in photos
    ]


def _square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The central square of a photo, resized."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize_photo(pixels[top : top + side, left : left + side], size, size)
