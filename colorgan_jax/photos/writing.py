"""Photos into files."""

import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from colorgan_jax.errors import OutputError, PhotoError
from colorgan_jax.paths import replace_file

_JPEG_OPTIONS = {"format": "JPEG", "quality": 95, "subsampling": "4:4:4"}
_WRITE_OPTIONS = {
    ".jpg": _JPEG_OPTIONS,
    ".jpeg": _JPEG_OPTIONS,
    ".png": {"format": "PNG"},
    ".webp": {"format": "WEBP", "quality": 95},
}
PHOTO_EXTENSIONS = tuple(_WRITE_OPTIONS)


def write_photo(path: str | os.PathLike, photo: UInt8[np.ndarray, "H W 3"]) -> None:
    """Writes a photo in the format that the extension names, replacing an older file.

    JPEG and WebP have quality 95, and JPEG keeps its colors at full resolution. The
    file appears whole or not at all.

    Args:
      path: a .jpg, .jpeg, .png or .webp file, in a folder that exists.
      photo: uint8 [H, W, 3], sRGB in [0, 255].

    Raises:
      PhotoError: another extension, or a photo too large for the format.
      OutputError: a path that cannot be written (no such folder, no permission, disk
        full).
    """
    path = Path(path)
    options = _WRITE_OPTIONS.get(path.suffix.lower())
    if options is None:
        raise PhotoError(
            f"{path} cannot be written: name a .jpg, .jpeg, .png or .webp file."
        )
    encoded = io.BytesIO()
    try:
        Image.fromarray(photo).save(encoded, **options)
    except (OSError, ValueError) as error:
        raise PhotoError(f"{path} cannot be encoded: {error}.") from error

    try:
        replace_file(path, encoded.getbuffer())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
