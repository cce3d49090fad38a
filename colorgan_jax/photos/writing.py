"""Photos into files, with what their metadata says.

A gray photo has no color profile in its file, which means sRGB's curve; a color photo has
that of sRGB.
"""

import dataclasses
import io
import itertools
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from colorgan_jax.errors import OutputError, PhotoError
from colorgan_jax.paths import replace_file
from colorgan_jax.photos import exif, xmp
from colorgan_jax.photos.formats import (
    FORMATS,
    JPEG2000_EXIF_BOX,
    JPEG2000_XMP_BOX,
    PNG_XMP_KEY,
)
from colorgan_jax.photos.jpeg import segment
from colorgan_jax.photos.photo import Metadata, Photo, check_pixels, to_8_bits
from colorgan_jax.photos.photoshop import app13_segments, resource_of_iptc
from colorgan_jax.photos.profiles import SRGB_PROFILE
from colorgan_jax.photos.tiff import IPTC, PHOTOSHOP, XMP

# Of lossy formats: no loss that shows.
DEFAULT_QUALITY = 95

_FORMATS_OF_8_BITS = ("JPEG", "WEBP", "AVIF")

# The metadata that no format but some has, for people, and who has it.
_METADATA = {
    "exif": "EXIF data",
    "xmp": "XMP",
    "photoshop": "Photoshop and IPTC data",
    "iptc": "IPTC data",
    "text": "text",
    "comment": "comment",
    "extended_xmp": "extended XMP",
}
_HELD = {
    "JPEG": ("exif", "xmp", "photoshop", "comment", "extended_xmp"),
    "PNG": ("exif", "xmp", "text"),
    "WEBP": ("exif", "xmp"),
    "TIFF": ("exif", "xmp", "photoshop", "iptc"),
    "AVIF": ("exif", "xmp"),
    "JPEG2000": ("exif", "xmp"),
}

# Those that say the resolution themselves; the others do so in EXIF data, if there are any.
_WITH_RESOLUTION = ("JPEG", "PNG", "TIFF")

WRITTEN_FORMATS = tuple(_HELD)

_APP1 = b"\xff\xe1"
# What a segment of a JPEG file has room for.
_LARGEST_JPEG_EXIF = 65_527
_LARGEST_JPEG_XMP = 65_502

# A classic TIFF ends at 4 GiB; some room for its tables.
_LARGEST_TIFF = 2**32 - 2**24
# Of 1 to 9. The usual 6 takes three times as long and saves a tenth.
_DEFLATE_LEVEL = 3
_BYTE, _UNDEFINED = 1, 7

_PNG_SIGNATURE_BYTES = 8
_PNG_DATA = b"IDAT"

# OpenCV always writes so many halvings of JPEG 2000 that each side needs that many pixels.
SHORTEST_WIDE_JPEG2000_SIDE = 32
# Peak signal-to-noise ratio of lossy JPEG 2000, about that of the others' quality.
_JPEG2000_DECIBELS = 50


def write_photo(
    path: str | os.PathLike, photo: Photo, *, quality: int = DEFAULT_QUALITY
) -> None:
    """Writes a photo in the format that the extension names, replacing an older file.

    The file appears whole or not at all. It has one page; for several there is
    `encode_photo`.

    Args:
      path: a file in a folder that exists, with an extension of a format that is written:
        JPEG, PNG, WebP, TIFF, AVIF or JPEG 2000.
      photo: what to write.
      quality: as for `encode_photo`.

    Raises:
      PhotoError: another extension, or a photo too large for the format.
      OutputError: a path that cannot be written (no such folder, no permission, disk
        full).
      ValueError: as of `encode_photo`.
    """
    path = Path(path)
    for format in WRITTEN_FORMATS:
        if path.suffix.lower() in FORMATS[format].extensions:
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
    photo: Photo | Sequence[Photo], format: str, *, quality: int = DEFAULT_QUALITY
) -> bytes:
    """Encodes a photo with its metadata.

    What the format cannot hold is lost: `fit_to_format` tells what that is. A photo from a
    lossless file stays lossless in WebP and JPEG 2000.

    Args:
      photo: what to write; several are the pages of a TIFF file.
      format: "JPEG", "PNG", "WEBP", "TIFF", "AVIF" or "JPEG2000".
      quality: of lossy formats but JPEG 2000, from 1 to 100.

    Returns:
      The content of a file.

    Raises:
      PhotoError: the photo is too large for the format.
      ValueError: its pixels are no photo's, or the quality is none.
    """
    pages = [photo] if isinstance(photo, Photo) else list(photo)
    for page in pages:
        check_pixels(page.pixels)
    if not 1 <= quality <= 100:
        raise ValueError(f"The quality is a number from 1 to 100, not {quality}.")
    if format == "TIFF":
        encoded = io.BytesIO()
        write_tiff(encoded, pages, samples=sum(page.pixels.size for page in pages))
        return encoded.getvalue()
    (page,) = pages
    try:
        return _ENCODERS[format](fit_to_format(page, format), quality)
    # Pillow raises one or the other; so does OpenCV's own error derive from Exception.
    except (OSError, ValueError, cv2.error) as error:
        raise PhotoError(f"{error}.") from error


def fit_to_format(photo: Photo, format: str) -> Photo:
    """Takes from a photo what files of a format cannot hold.

    Args:
      photo: any photo.
      format: as for `encode_photo`.

    Returns:
      What `encode_photo` writes, with a remark for everything that is lost.
    """
    name = FORMATS[format].name
    remarks = list(photo.remarks)
    if format in _FORMATS_OF_8_BITS and photo.pixels.dtype == np.uint16:
        remarks.append(f"{name} keeps 8 of its 16 bits")
        alpha = None if photo.alpha is None else to_8_bits(photo.alpha)
        photo = dataclasses.replace(photo, pixels=to_8_bits(photo.pixels), alpha=alpha)
    if format == "JPEG" and photo.alpha is not None:
        remarks.append("JPEG has no transparency, it is on white instead")
        photo = photo.opaque()

    metadata, lost = fit_metadata(photo.metadata, format)
    remarks += lost
    return dataclasses.replace(photo, metadata=metadata, remarks=tuple(remarks))


def fit_metadata(metadata: Metadata, format: str) -> tuple[Metadata, list[str]]:
    """Takes from metadata what files of a format cannot hold.

    Args:
      metadata: of a photo.
      format: as for `encode_photo`.

    Returns:
      The rest, and a remark for each part that is lost.
    """
    lost = [field for field in _METADATA if field not in _HELD[format]]
    if format == "JPEG":
        if metadata.iptc and not metadata.photoshop:
            metadata = dataclasses.replace(
                metadata, photoshop=resource_of_iptc(metadata.iptc), iptc=b""
            )
        if len(metadata.exif) > _LARGEST_JPEG_EXIF:
            lost.append("exif")
        if len(xmp.make_upright(metadata.xmp)) > _LARGEST_JPEG_XMP:
            lost.append("xmp")
    remarks = [
        f"{FORMATS[format].name} has no room for its {_METADATA[field]}"
        for field in lost
        if getattr(metadata, field)
    ]
    if metadata.dpi and not metadata.exif and format not in _WITH_RESOLUTION:
        remarks.append(f"{FORMATS[format].name} has no room for its resolution")
    nothing = {field: getattr(Metadata(), field) for field in lost}
    return dataclasses.replace(metadata, **nothing), remarks


def write_tiff(
    stream: io.BytesIO | io.BufferedRandom, pages: Iterable[Photo], *, samples: int
) -> None:
    """Writes the pages of a TIFF file one after the other, compressed without loss.

    Args:
      stream: an empty file, open for reading and writing.
      pages: drawn one by one, so that they need not be in memory together.
      samples: numbers in all pages together, which decide whether a classic TIFF holds them.

    Raises:
      OSError: the file cannot be written.
    """
    pages = iter(pages)
    first = next(pages)
    order = exif.byte_order(first.metadata.exif)
    blocks = []
    with tifffile.TiffWriter(
        stream,
        byteorder=order,
        bigtiff=samples * first.pixels.itemsize > _LARGEST_TIFF,
    ) as writer:
        for page in itertools.chain([first], pages):
            _write_page(writer, fit_to_format(page, "TIFF"))
            blocks.append(_exif_of(page))
    exif.add_to_tiff(stream, blocks)


def _write_page(writer: tifffile.TiffWriter, page: Photo) -> None:
    pixels = page.pixels
    if page.alpha is not None:
        pixels = np.dstack([pixels, page.alpha])
    is_color = page.pixels.ndim == 3
    metadata = page.metadata
    tags = (
        (XMP, _BYTE, xmp.make_upright(metadata.xmp)),
        (IPTC, _UNDEFINED, metadata.iptc),
        (PHOTOSHOP, _BYTE, metadata.photoshop),
    )
    writer.write(
        pixels,
        photometric="rgb" if is_color else "minisblack",
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=None if page.alpha is None else ["unassalpha"],
        compression="zlib",
        compressionargs={"level": _DEFLATE_LEVEL},
        predictor=True,
        iccprofile=SRGB_PROFILE if is_color else None,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        software=False,
        metadata=None,
        extratags=[
            (tag, kind, len(content), content, True)
            for tag, kind, content in tags
            if content
        ],
    )


def _exif_of(photo: Photo) -> bytes:
    height, width = photo.pixels.shape[:2]
    return exif.make_upright(photo.metadata.exif, width=width, height=height)


def _options(photo: Photo) -> dict[str, Any]:
    """What Pillow's encoders take in common."""
    block = _exif_of(photo)
    options: dict[str, Any] = {"exif": exif.EXIF_PREFIX + block if block else b""}
    if photo.pixels.ndim == 3:
        options["icc_profile"] = SRGB_PROFILE
    if packet := xmp.make_upright(photo.metadata.xmp):
        options["xmp"] = packet
    if photo.metadata.dpi:
        options["dpi"] = photo.metadata.dpi
    return options


def _image(photo: Photo) -> Image.Image:
    """An image of Pillow's, with alpha if there is some."""
    image = Image.fromarray(photo.pixels)
    if photo.alpha is not None:
        alpha = Image.fromarray(photo.alpha)
        image = Image.merge(image.mode + "A", (*image.split(), alpha))
    return image


def _save(image: Image.Image, format: str, **options: Any) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, format, **options)
    return encoded.getvalue()


def _encode_jpeg(photo: Photo, quality: int) -> bytes:
    metadata = photo.metadata
    return _save(
        _image(photo),
        "JPEG",
        quality=quality,
        subsampling="4:4:4",
        comment=metadata.comment or None,
        extra=app13_segments(metadata.photoshop)
        + b"".join(segment(_APP1, part) for part in metadata.extended_xmp),
        **_options(photo),
    )


def _encode_webp(photo: Photo, quality: int) -> bytes:
    # `exact` keeps the colors of what is transparent.
    return _save(
        _image(photo),
        "WEBP",
        quality=quality,
        lossless=photo.lossless,
        exact=True,
        **_options(photo),
    )


def _encode_avif(photo: Photo, quality: int) -> bytes:
    return _save(
        _image(photo), "AVIF", quality=quality, subsampling="4:4:4", **_options(photo)
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
    if packet := options.pop("xmp", None):
        text.add_itxt(PNG_XMP_KEY, packet.decode(errors="replace"))
    if photo.pixels.dtype == np.uint8:
        return _save(_image(photo), "PNG", pnginfo=text, **options)
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
        if min(photo.pixels.shape[:2]) < SHORTEST_WIDE_JPEG2000_SIDE:
            raise ValueError(
                "16-bit colors in JPEG 2000 need sides of at least"
                f" {SHORTEST_WIDE_JPEG2000_SIDE} pixels; write a TIFF or PNG file"
            )
        encoded = _encode_by_opencv(
            photo, ".jp2", [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        )
    else:
        lossy = {"quality_mode": "dB", "quality_layers": [_JPEG2000_DECIBELS]}
        encoded = _save(
            _image(photo),
            "JPEG2000",
            no_jp2=False,
            irreversible=not photo.lossless,
            **({} if photo.lossless else lossy),
        )
    boxes = [
        (JPEG2000_EXIF_BOX, _exif_of(photo)),
        (JPEG2000_XMP_BOX, xmp.make_upright(photo.metadata.xmp)),
    ]
    for kind, content in boxes:
        if content:
            size = struct.pack(">I", 8 + len(kind) + len(content))
            encoded += size + b"uuid" + kind + content
    return encoded


_ENCODERS = {
    "JPEG": _encode_jpeg,
    "PNG": _encode_png,
    "WEBP": _encode_webp,
    "AVIF": _encode_avif,
    "JPEG2000": _encode_jpeg2000,
}
