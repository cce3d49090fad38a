"""Which files below a folder are photos."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from colorgan_jax.errors import PathError, PhotoError
from colorgan_jax.paths import AnyPath, in_bucket, is_file, list_bucket, user_path
from colorgan_jax.photos.formats import readable_extensions


class Found(NamedTuple):
    """The files below a folder that are not hidden.

    Each path begins with the folder. They are sorted by their part below it: the same
    order on every machine.

    Attributes:
      photos: those whose extension is that of a format that can be read.
      others: the rest, links to folders among them.
    """

    photos: list[AnyPath]
    others: list[AnyPath]


def find_photos(folder: str | os.PathLike) -> list[AnyPath]:
    """Finds every photo file below a folder: the photos of `find_files`.

    Raises:
      MissingPackageError, PhotoError: as `find_files`.
    """
    return find_files(folder).photos


def find_files(
    folder: str | os.PathLike,
    *,
    on_error: Callable[[PhotoError], None] | None = None,
) -> Found:
    """Finds every file below a folder, and tells photos by extension in any case.

    Hidden files and folders (a name that begins with a dot, such as macOS's
    `._photo.jpg`) are left out, and links to folders are not followed. HEIC and RAW
    photos are others where the package that reads them is not installed.

    Args:
      folder: where to look, at any depth, on this machine or in a bucket,
        gs://BUCKET/NAME; `~` stands for the home folder.
      on_error: called for each folder below it that may not be read, and the others go
        on; by default the error is raised.

    Returns:
      Photos and others; both are empty where there are none.

    Raises:
      MissingPackageError: a bucket needs the packages of the extra `gcs`.
      PhotoError: the folder does not exist, is a file, or may not be read.
    """
    try:
        folder = user_path(folder).expanduser()
    except PathError as error:
        raise PhotoError(str(error)) from error
    if in_bucket(folder):
        names = _in_bucket(folder)
    else:
        names = _on_this_machine(folder, on_error)
    extensions = readable_extensions()
    photos, others = [], []
    for name, is_link in names:
        is_photo = not is_link and name.lower().endswith(extensions)
        (photos if is_photo else others).append(name)
    return Found(
        *([folder / path for path in sorted(paths)] for paths in (photos, others))
    )


def _on_this_machine(
    folder: AnyPath, on_error: Callable[[PhotoError], None] | None
) -> Iterator[tuple[str, bool]]:
    """The names of files below a folder, and whether they are links to folders."""

    def refuse(error: OSError) -> None:
        problem = _unreadable(error)
        if on_error is None or Path(error.filename) == folder:
            raise problem from error
        on_error(problem)

    if not folder.exists():
        raise PhotoError(f"The folder {folder} does not exist.")
    if not folder.is_dir():
        raise PhotoError(f"{folder} is a file, not a folder of photos.")
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                yield prefix + name, True
        for name in files:
            if not name.startswith("."):
                yield prefix + name, False


def _in_bucket(folder: AnyPath) -> Iterator[tuple[str, bool]]:
    """The same of a folder in a bucket, where there are no links."""
    try:
        names = list_bucket(folder)
        if not names and is_file(folder):
            raise PhotoError(f"{folder} is a file, not a folder of photos.")
    except OSError as error:
        raise _unreadable(error) from error
    if not names:
        raise PhotoError(f"The folder {folder} does not exist.")
    for name in names:
        if not any(part.startswith(".") for part in name.split("/")):
            yield name, False


def _unreadable(error: OSError) -> PhotoError:
    return PhotoError(f"The folder {error.filename} cannot be read: {error.strerror}.")
