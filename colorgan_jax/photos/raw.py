"""RAW photos, as the sensors of cameras saw them, by the optional package rawpy (LibRaw)."""

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.directories import DamagedError, TiffReader
from colorgan_jax.photos.exif import block_of_tiff
from colorgan_jax.photos.formats import FORMATS
from colorgan_jax.photos.header import MAXIMUM_PIXELS, Header, too_large
from colorgan_jax.photos.photo import Metadata, Photo
from colorgan_jax.photos.tiff import read_tiff_xmp

# What files begin with: Fujifilm, Panasonic, Olympus. Canon's have a mark farther on.
_STARTS = (b"FUJIFILMCCD-RAW", b"IIU\0", b"IIRO", b"IIRS", b"MMOR")
_CR2_MARK, _CR2_MARK_AT = b"CR", 8
_CR3_START, _CR3_START_AT = b"ftypcrx ", 4

# Tags of TIFF files and their values (TIFF 6.0, DNG 1.7).
_PHOTOMETRIC = 262
_CHILDREN = 330
_DNG_VERSION = 50706
_MOSAIC, _LINEAR = 32803, 34892

# The curve of sRGB, as LibRaw takes it: the power, and the slope near black.
_SRGB_CURVE = (2.4, 12.92)

# How LibRaw says that a photo lies on its side.
_ON_ITS_SIDE = (5, 6)


def is_raw(stream: io.BufferedIOBase, name: str) -> bool:
    """Whether a file is a RAW photo.

    Many look like TIFF files of one small picture, which is a preview. They are told by
    the sensor's pixels in them, and where these are hidden by the name of the file.
    """
    stream.seek(0)
    start = stream.read(16)
    if start.startswith(_STARTS):
        return True
    if start.startswith(_CR3_START, _CR3_START_AT):
        return True
    try:
        tiff = TiffReader(stream)
    except DamagedError:
        return False
    if start.startswith(_CR2_MARK, _CR2_MARK_AT):
        return True
    extension = os.path.splitext(name)[1].lower()
    return extension in FORMATS["RAW"].extensions or _has_sensor_pixels(tiff)


def _has_sensor_pixels(tiff: TiffReader) -> bool:
    """Whether the first directory of a TIFF file, or one below it, is of a sensor."""
    try:
        main = tiff.table(tiff.first)
    except DamagedError:
        return False
    offsets = tiff.numbers(main.find(_CHILDREN))
    if main.find(_DNG_VERSION) and offsets:
        return True
    tables = [main]
    for offset in offsets:
        try:
            tables.append(tiff.table(offset))
        except DamagedError:
            continue
    kinds = {
        kind for table in tables for kind in tiff.numbers(table.find(_PHOTOMETRIC))
    }
    return bool(kinds & {_MOSAIC, _LINEAR})


def read_raw_header(stream: io.BufferedIOBase, name: str) -> Header:
    """Reads the header.

    Raises:
      PhotoError: rawpy is not installed, or the file is damaged.
    """
    with _open(stream, name) as raw:
        return _header(raw, read_tiff_xmp(stream))


def read_raw(content: bytes, name: str) -> Photo:
    """Develops a photo as LibRaw does, by the camera's white balance.

    Raises:
      PhotoError: rawpy is not installed, the file is damaged, or the photo too large.
    """
    stream = io.BytesIO(content)
    with _open(stream, name) as raw:
        header = _header(raw, read_tiff_xmp(stream))
        if header.pixels > MAXIMUM_PIXELS:
            raise too_large(name)
        pixels = raw.postprocess(  # It turns the photo upright.
            use_camera_wb=True,
            output_bps=header.bits,
            gamma=_SRGB_CURVE,
            output_color=FORMATS["RAW"].load_package(name).ColorSpace.sRGB,
        )
    if pixels.shape[2] == 1:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return Photo(
        pixels,
        format="RAW",
        metadata=Metadata(exif=block_of_tiff(content), xmp=header.xmp),
    )


@contextlib.contextmanager
def _open(stream: io.BufferedIOBase, name: str) -> Iterator[Any]:
    """Reads the header, and turns what LibRaw raises then and later into sentences.

    Yields:
      A `rawpy.RawPy`.
    """
    rawpy = FORMATS["RAW"].load_package(name)
    stream.seek(0)
    try:
        with rawpy.RawPy() as raw:
            raw.open_buffer(stream)
            yield raw
    except rawpy.LibRawFileUnsupportedError as error:
        raise PhotoError(
            f"{name} is damaged, or a kind of RAW that is not read."
        ) from error
    except rawpy.LibRawError as error:
        problem = error.args[0].decode()
        raise PhotoError(f"{name} is damaged or cut short: {problem}.") from error


def _header(raw: Any, xmp: bytes) -> Header:
    width, height = raw.sizes.width, raw.sizes.height
    if raw.sizes.flip in _ON_ITS_SIDE:
        width, height = height, width
    return Header(format="RAW", width=width, height=height, bits=16, xmp=xmp)
