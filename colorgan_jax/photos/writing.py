"""Photos into files, with what their metadata says.

A gray photo has no color profile in its file, which means sRGB's curve; a color photo has
that of sRGB.
"""

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from colorgan_jax.errors import OutputError, PhotoError
from colorgan_jax.paths import replace_file
from colorgan_jax.photos.exif import add_to_tiff, byte_order, make_upright
from colorgan_jax.photos.formats import (
    FORMATS,
    JPEG2000_EXIF_BOX,
    JPEG2000_XMP_BOX,
    PNG_XMP_KEY,
)
from colorgan_jax.photos.photo import Photo, to_8_bits
from colorgan_jax.photos.photoshop import app13_segments
from colorgan_jax.photos.profiles import SRGB_PROFILE

# Of lossy formats: no loss that shows.
_QUALITY = 95

_EXIF_PREFIX = b"Exif\0\0"

# A classic TIFF ends at 4 GiB; some room for its tables.
_LARGEST_TIFF = 2**32 - 2**24
_XMP_TAG = 700
_IPTC_TAG = 33723
_PHOTOSHOP_TAG = 34377
_BYTE, _UNDEFINED = 1, 7

_PNG_SIGNATURE_BYTES = 8
_PNG_DATA = b"IDAT"

# Peak signal-to-noise ratio of lossy JPEG 2000, about that of the others' quality.
_JPEG2000_DECIBELS = 50


def write_photo(
    path: str | os.PathLike, photo: Photo, *, quality: int = _QUALITY
) -> None:
    """Writes a photo in the format that the extension names, replacing an older file.

    The file appears whole or not at all.

    Args:
      path: a file in a folder that exists, with an extension of a format that is written:
        JPEG, PNG, WebP, TIFF, AVIF or JPEG 2000.
      photo: what to write.
      quality: as for `encode_photo`.

    Raises:
      PhotoError: another extension, or a photo too large for the format.
      OutputError: a path that cannot be written (no such folder, no permission, disk
        full).
    """
    path = Path(path)
    for format, known in FORMATS.items():
        if path.suffix.lower() in known.extensions and format in _ENCODERS:
            break
    else:
        raise PhotoError(
            f"{path} cannot be written: name a .jpg, .png, .webp, .tif, .avif or .jp2 file."
        )
    try:
        content = encode_photo(photo, format, quality=quality)
    except PhotoError as error:
        raise PhotoError(f"{path} cannot be encoded: {error}") from error
    try:
        replace_file(path, content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def encode_photo(
    photo: Photo | Sequence[Photo], format: str, *, quality: int = _QUALITY
) -> bytes:
    """Encodes a photo with its metadata.

    What the format cannot hold is lost: 16 bits become 8 in JPEG, WebP and AVIF, and
    what was transparent becomes white in JPEG. A photo from a lossless file stays
    lossless in WebP and JPEG 2000.

    Args:
      photo: what to write; several are the pages of a TIFF file.
      format: "JPEG", "PNG", "WEBP", "TIFF", "AVIF" or "JPEG2000".
      quality: of lossy formats, from 1 to 100.

    Returns:
      The content of a file.

    Raises:
      PhotoError: the photo is too large for the format.
    """
    pages = [photo] if isinstance(photo, Photo) else list(photo)
    if format == "TIFF":
        return _encode_tiff(pages)
    (page,) = pages
    try:
        return _ENCODERS[format](page, quality)
    # Pillow raises one or the other; so does OpenCV's own error derive from Exception.
    except (OSError, ValueError, cv2.error) as error:
        raise PhotoError(f"{error}.") from error


def _exif_of(photo: Photo) -> bytes:
    height, width = photo.pixels.shape[:2]
    return make_upright(photo.metadata.exif, width=width, height=height)


def _options(photo: Photo) -> dict[str, Any]:
    """What Pillow's encoders take in common."""
    exif = _exif_of(photo)
    options: dict[str, Any] = {"exif": _EXIF_PREFIX + exif if exif else b""}
    if photo.pixels.ndim == 3:
        options["icc_profile"] = SRGB_PROFILE
    if photo.metadata.xmp:
        options["xmp"] = photo.metadata.xmp
    if photo.metadata.dpi:
        options["dpi"] = photo.metadata.dpi
    return options


def _image8(photo: Photo) -> Image.Image:
    """An image of Pillow's, of 8 bits, with alpha if there is some."""
    image = Image.fromarray(to_8_bits(photo.pixels))
    if photo.alpha is not None:
        alpha = Image.fromarray(to_8_bits(photo.alpha))
        image = Image.merge(image.mode + "A", (*image.split(), alpha))
    return image


def _save(image: Image.Image, format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format, **options)
    return encoded.getvalue()


def _encode_jpeg(photo: Photo, quality: int) -> bytes:
    metadata = photo.metadata
    return _save(
        _image8(photo.opaque()),
        "JPEG",
        quality=quality,
        subsampling="4:4:4",
        comment=metadata.comment or None,
        extra=app13_segments(metadata.photoshop),
        **_options(photo),
    )


def _encode_webp(photo: Photo, quality: int) -> bytes:
    # `exact` keeps the colors of what is transparent.
    return _save(
        _image8(photo),
        "WEBP",
        quality=quality,
        lossless=photo.lossless,
        exact=True,
        **_options(photo),
    )


def _encode_avif(photo: Photo, quality: int) -> bytes:
    return _save(
        _image8(photo), "AVIF", quality=quality, subsampling="4:4:4", **_options(photo)
    )


def _encode_png(photo: Photo, quality: int) -> bytes:
    del quality  # It is lossless.
    text = PngImagePlugin.PngInfo()
    for key, value in photo.metadata.text:
        if isinstance(value, PngImagePlugin.iTXt):
            text.add_itxt(key, value, value.lang or "", value.tkey or "")
        else:
            text.add_text(key, value)
    options = _options(photo)
    if xmp := options.pop("xmp", None):
        text.add_itxt(PNG_XMP_KEY, xmp.decode(errors="replace"))
    if photo.pixels.dtype == np.uint8:
        return _save(_image8(photo), "PNG", pnginfo=text, **options)
    # Pillow writes no colors of 16 bits and OpenCV no metadata: the chunks of metadata
    # are those of a PNG of one pixel.
    kind = Image.new("RGB" if photo.pixels.ndim == 3 else "L", (1, 1))
    small = _save(kind, "PNG", pnginfo=text, **options)
    wide = _encode_by_opencv(photo, ".png")
    start = _png_header_end(wide)
    metadata = small[_png_header_end(small) : small.index(_PNG_DATA) - 4]
    return wide[:start] + metadata + wide[start:]


def _png_header_end(content: bytes) -> int:
    """Where the first chunk of a PNG file ends, which is its header."""
    (size,) = struct.unpack_from(">I", content, _PNG_SIGNATURE_BYTES)
    return _PNG_SIGNATURE_BYTES + 12 + size


def _encode_by_opencv(
    photo: Photo, extension: str, options: Sequence[int] = ()
) -> bytes:
    """Encodes pixels of 16 bits, without metadata."""
    pixels = photo.pixels
    if photo.alpha is not None:
        colors = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
        pixels = np.dstack([colors[..., ::-1], photo.alpha])
    elif pixels.ndim == 3:
        pixels = pixels[..., ::-1]  # OpenCV's order is blue, green, red.
    done, encoded = cv2.imencode(extension, pixels, options)
    if not done:
        raise ValueError("OpenCV cannot encode it")
    return encoded.tobytes()


def _encode_jpeg2000(photo: Photo, quality: int) -> bytes:
    del quality  # Decibels instead.
    is_gray = photo.pixels.ndim == 2 and photo.alpha is None
    if photo.pixels.dtype == np.uint16 and not is_gray:
        encoded = _encode_by_opencv(
            photo, ".jp2", [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        )
    else:
        lossy = {"quality_mode": "dB", "quality_layers": [_JPEG2000_DECIBELS]}
        image = Image.fromarray(photo.pixels) if photo.alpha is None else _image8(photo)
        encoded = _save(
            image,
            "JPEG2000",
            no_jp2=False,
            irreversible=not photo.lossless,
            **({} if photo.lossless else lossy),
        )
    boxes = [
        (JPEG2000_EXIF_BOX, _exif_of(photo)),
        (JPEG2000_XMP_BOX, photo.metadata.xmp),
    ]
    for kind, content in boxes:
        if content:
            size = struct.pack(">I", 8 + len(kind) + len(content))
            encoded += size + b"uuid" + kind + content
    return encoded


def _encode_tiff(pages: Sequence[Photo]) -> bytes:
    """Encodes pages of a TIFF file, compressed without loss."""
    exif = [_exif_of(page) for page in pages]
    order = byte_order(exif[0])
    size = sum(page.pixels.nbytes for page in pages)
    encoded = io.BytesIO()
    with tifffile.TiffWriter(
        encoded, byteorder=order, bigtiff=size > _LARGEST_TIFF
    ) as writer:
        for page in pages:
            pixels = page.pixels
            if page.alpha is not None:
                pixels = np.dstack([pixels, page.alpha])
            metadata = page.metadata
            writer.write(
                pixels,
                photometric="rgb" if page.pixels.ndim == 3 else "minisblack",
                planarconfig="contig" if pixels.ndim == 3 else None,
                extrasamples=None if page.alpha is None else ["unassalpha"],
                compression="zlib",
                predictor=True,
                iccprofile=SRGB_PROFILE if page.pixels.ndim == 3 else None,
                resolution=metadata.dpi,
                resolutionunit="inch" if metadata.dpi else None,
                software=False,
                metadata=None,
                extratags=[
                    (tag, kind, len(content), content, True)
                    for tag, kind, content in (
                        (_XMP_TAG, _BYTE, metadata.xmp),
                        (_IPTC_TAG, _UNDEFINED, metadata.iptc),
                        (_PHOTOSHOP_TAG, _BYTE, metadata.photoshop),
                    )
                    if content
                ],
            )
    add_to_tiff(encoded, exif)
    return encoded.getvalue()


_ENCODERS = {
    "JPEG": _encode_jpeg,
    "PNG": _encode_png,
    "WEBP": _encode_webp,
    "AVIF": _encode_avif,
    "JPEG2000": _encode_jpeg2000,
}
