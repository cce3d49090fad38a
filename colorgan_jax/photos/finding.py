"""Which files below a folder are photos."""

import os
from pathlib import Path

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.formats import PHOTO_EXTENSIONS


def find_photos(folder: str | os.PathLike) -> list[Path]:
    """Finds every photo file below a folder, by extension in any case.

    Hidden files and folders (a name that begins with a dot, such as macOS's
    `._photo.jpg`) are left out, and links to folders are not followed.

    Args:
      folder: where to look, at any depth; `~` stands for the home folder.

    Returns:
      The paths, each beginning with `folder`, sorted by their part below it: the same
      order on every machine. Empty where there is none.

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

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).as_posix()
        found.extend(
            f"{below}/{name}" if below != "." else name
            for name in files
            if not name.startswith(".") and name.lower().endswith(PHOTO_EXTENSIONS)
        )
    return [folder / relative for relative in sorted(found)]
