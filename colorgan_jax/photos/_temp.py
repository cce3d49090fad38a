import dataclasses
import os
from pathlib import Path

from colorgan_jax.errors import PhotoError


@dataclasses.dataclass(frozen=True)
class Header:
    format: str
    width: int
    height: int
    bits: int
    pages: int
    xmp: bytes

    @property
    def pixels(self):
        return self.width * self.height


def read_header(file, name=None):
    from colorgan_jax.photos.reading import (
        _has_wide_colors,
        _open,
        _read_file,
        _read_metadata,
    )

    if isinstance(file, bytes):
        content = file
    else:
        name = name or os.fspath(file)
        content = _read_file(file, name)
    try:
        with _open(content, name) as im:
            m = _read_metadata(im, content, 0)
            bits = (
                16 if _has_wide_colors(im, content) or im.mode.startswith("I;16") else 8
            )
            return Header(
                im.format, im.width, im.height, bits, getattr(im, "n_frames", 1), m.xmp
            )
    except PhotoError:
        raise
    except Exception as e:
        raise PhotoError(f"{name} is damaged or cut short: {e}.") from e


def find_files(folder):
    from colorgan_jax.photos.finding import find_photos

    photos = find_photos(folder)
    others = [
        Path(d) / f
        for d, ds, fs in os.walk(folder)
        for f in fs
        if Path(d) / f not in photos and not f.startswith(".")
    ]
    return photos, others
