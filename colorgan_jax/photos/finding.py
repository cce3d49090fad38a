"""Which files below a folder are photos."""

import os
from pathlib import Path
from typing import NamedTuple

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.formats import readable_extensions


class Found(NamedTuple):
    """The files below a folder that are not hidden.

    Each path begins with the folder. They are sorted by their part below it: the same
    order on every machine.

    Attributes:
      photos: those whose extension is that of a format that can be read.
      others: the rest, links to folders among them.
    """

    photos: list[Path]
    others: list[Path]


def find_photos(folder: str | os.PathLike) -> list[Path]:
    """Finds every photo file below a folder: the photos of `find_files`.

    Raises:
      PhotoError: as `find_files`.
    """
    return find_files(folder).photos


def find_files(folder: str | os.PathLike) -> Found:
    """Finds every file below a folder, and tells photos by extension in any case.

    Hidden files and folders (a name that begins with a dot, such as macOS's
    `._photo.jpg`) are left out, and links to folders are not followed. HEIC and RAW
    photos are others where the package that reads them is not installed.

    Args:
      folder: where to look, at any depth; `~` stands for the home folder.

    Returns:
      Photos and others; both are empty where there are none.

    Raises:
      PhotoError: the folder does not exist, is a file, or holds a folder that may not
        be read.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise PhotoError(f"The folder {folder} does not exist.")
    if not folder.is_dir():
        raise PhotoError(f"{folder} is a file, not a folder of photos.")

    def refuse(error: OSError) -> None:
        raise PhotoError(
            f"The folder {error.filename} cannot be read: {error.strerror}."
        )

    extensions = readable_extensions()
    photos, others = [], []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        others += [prefix + name for name in links]
        for name in files:
            if not name.startswith("."):
                is_photo = name.lower().endswith(extensions)
                (photos if is_photo else others).append(prefix + name)
    return Found(
        *([folder / path for path in sorted(paths)] for paths in (photos, others))
    )
