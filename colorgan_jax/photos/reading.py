"""Photos out of files."""

import contextlib
import dataclasses
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from typing import TypeGuard

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import (
    Image,
    JpegImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from colorgan_jax.errors import PhotoError
from colorgan_jax.paths import in_bucket, read_file, user_path
from colorgan_jax.photos import jpeg2000, webp
from colorgan_jax.photos.exif import EXIF_PREFIX, orientation
from colorgan_jax.photos.formats import (
    FORMATS,
    JPEG2000_EXIF_BOX,
    JPEG2000_XMP_BOX,
    PNG_XMP_KEY,
)
from colorgan_jax.photos.header import MAXIMUM_PIXELS, Header, too_large, upright_size
from colorgan_jax.photos.heif import is_heif, read_heif, read_heif_header
from colorgan_jax.photos.jpeg import decode_jpeg
from colorgan_jax.photos.pages import Pages
from colorgan_jax.photos.photo import Metadata, Photo
from colorgan_jax.photos.photoshop import resources_of_jpeg, without_thumbnails
from colorgan_jax.photos.pixels import resize_photo
from colorgan_jax.photos.profiles import convert_to_srgb
from colorgan_jax.photos.raw import is_raw, read_raw, read_raw_header
from colorgan_jax.photos.samples import lab_to_rgb, turn_upright, widen
from colorgan_jax.photos.tiff import (
    BITS,
    PHOTOMETRIC,
    TIFF_STARTS,
    WHITE_IS_ZERO,
    decode_tiff,
    legible_dpi,
    needs_tifffile,
    read_tiff,
    read_tiff_header,
    read_tiff_metadata,
    read_tiff_xmp,
    split_alpha,
)
from colorgan_jax.photos.xmp import make_upright

# A file, or bytes as one.
_Stream = io.BufferedReader | io.BytesIO

# What Pillow opens: MPO files as JPEG.
_OPENED = tuple(
    format for format, known in FORMATS.items() if format != "MPO" and not known.package
)

# As much of the beginning of a file as tells what it is.
_START_BYTES = 256
_OTHER_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8")

# As much as is read at once of a header, or of the directory of each of many pages.
_BUFFER_BYTES = 1024

# Where a PNG file says how many bits its samples have, and of what kind they are.
_PNG_DEPTH_AT = 24
_PNG_COLOR_TYPE_AT = 25
_PNG_GRAY_ALPHA = 4

# Where an AVIF file says that it has more than 8 bits (AV1-ISOBMFF, 2.3).
_AVIF_HEAD_BYTES = 2**16
_AVIF_SETTINGS = b"av1C"
_AVIF_HIGH_BITS = 0x40

# What stands before XMP that is too large for one segment of a JPEG file.
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"


def silence_decoders() -> None:
    """Silences Pillow, OpenCV and tifffile where they tell of what `read_photo` deals with.

    They report oddities of metadata (a damaged EXIF block, an invalid animation chunk),
    large photos and damage as warnings. Metadata makes the pixels none the worse, and
    damaged pixels are an error anyway. For entry points: filters of warnings and levels
    of logs belong to the whole process, and until Python 3.14 no thread has its own.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    for name in ("PIL", "tifffile"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def read_photo(
    file: str | os.PathLike | bytes,
    name: str | None = None,
    *,
    page: int = 0,
    minimum_size: int | None = None,
) -> Photo:
    """Reads a photo of any format in `formats.FORMATS`, whatever its name says.

    The name counts only where RAW photos cannot be told from TIFF files otherwise.

    Of a TIFF file with several pages no more is read than the one that is asked for.
    Pixels keep the precision of the file, 8 or 16 bits; they are turned upright by the
    EXIF orientation, and converted to sRGB by the color profile, if there is one. Of an
    animation the first frame is taken. Threads may call this side by side; decoding
    releases Python's global lock.

    Args:
      file: the path of the photo, also in a bucket, or its encoded bytes.
      name: what error messages call the photo; by default its path.
      page: of a TIFF file, from 0.
      minimum_size: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is
        faster, as long as both sides keep at least this many pixels. For photos that
        are shrunk anyway.

    Raises:
      PhotoError: the file cannot be opened, is no regular file, is empty, damaged, cut
        short, of another format, has more than `MAXIMUM_PIXELS` pixels or no such page, or
        needs a package that is not installed.
    """
    stream, path, name = _open_file(file, name)
    with stream, _as_photo_errors(name):
        photo = _read_photo(stream, path, name, page, minimum_size)
        return _without_damaged_xmp(photo)


def read_rgb(
    file: str | os.PathLike | bytes,
    name: str | None = None,
    *,
    minimum_size: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a photo as 8-bit sRGB, on white where it is transparent.

    Args:
      file: the path of the photo, or its encoded bytes.
      name: as for `read_photo`.
      minimum_size: as for `read_photo`.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255].

    Raises:
      PhotoError: as `read_photo`.
    """
    return read_photo(file, name, minimum_size=minimum_size).rgb8()


def read_square(
    file: str | os.PathLike | bytes, size: int, name: str | None = None
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Reads a photo as networks see it in training and scoring: squashed to a square.

    Args:
      file: the path of the photo, or its encoded bytes.
      size: height and width of the square in pixels.
      name: as for `read_photo`.

    Returns:
      uint8 [size, size, 3], sRGB in [0, 255].

    Raises:
      PhotoError: as `read_photo`.
    """
    return resize_photo(read_rgb(file, name, minimum_size=size), size, size)


def read_header(file: str | os.PathLike | bytes, name: str | None = None) -> Header:
    """Reads what `read_photo` will find, without the pixels.

    Args:
      file: the path of the photo, or its encoded bytes.
      name: as for `read_photo`.

    Returns:
      The size and kind of the photo; of a TIFF file, of its first page.

    Raises:
      PhotoError: as `read_photo`, as far as the header tells.
    """
    stream, path, name = _open_file(file, name)
    with stream, _as_photo_errors(name):
        header = _read_header(stream, path, name)
        if header.pixels > MAXIMUM_PIXELS:
            raise too_large(name)
        return header


def count_pixels(file: str | os.PathLike) -> int:
    """Height times width of a photo file, from its header alone.

    Raises:
      PhotoError: as `read_header`.
    """
    return read_header(file).pixels


@contextlib.contextmanager
def _as_photo_errors(name: str) -> Iterator[None]:
    """Turns whatever a damaged file makes the decoders raise into a `PhotoError`."""
    # That is almost anything (OSError, SyntaxError, ValueError, struct.error,
    # zlib.error, ...), hence the broad clause.
    try:
        yield
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError(f"{name} is damaged or cut short: {error}.") from error


def _check_regular(file: str | os.PathLike, name: str) -> None:
    """Refuses pipes and devices, which would be waited for without end."""
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        raise PhotoError(f"{name} cannot be opened: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFIFO: "a named pipe", stat.S_IFDIR: "a folder"}.get(
            stat.S_IFMT(mode), "a device"
        )
        raise PhotoError(f"{name} is {kind}, not a photo.")


def _open_file(
    file: str | os.PathLike | bytes, name: str | None
) -> tuple[_Stream, str, str]:
    """Opens a file, or bytes as one; and says its path and what messages call it.

    The path of bytes is their name, which may have the extension of their file.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return io.BytesIO(file), name or "", name or "the photo"
    path = os.fspath(file)
    name = name or path
    try:
        if in_bucket(path):
            return io.BytesIO(read_file(user_path(path))), path, name
        _check_regular(file, name)
        stream: _Stream = io.BufferedReader(io.FileIO(path), _BUFFER_BYTES)
        return stream, path, name
    except OSError as error:
        raise PhotoError(f"{name} cannot be opened: {error.strerror}.") from error


def _open(stream: _Stream, name: str) -> Image.Image | None:
    """Reads the header of a photo; None if it is of a kind of TIFF unknown to Pillow."""
    start = _peek(stream)
    if not start:
        raise PhotoError(f"{name} is empty.")
    try:
        image = Image.open(stream, formats=_OPENED)
    except Image.DecompressionBombError as error:  # Twice as many as Pillow warns of.
        raise too_large(name) from error
    except (UnidentifiedImageError, SyntaxError) as error:
        if start.startswith(TIFF_STARTS):
            return None
        if start.startswith(_OTHER_STARTS):
            problem = "is damaged or cut short: its header is unreadable"
        else:
            names = ", ".join(known.name for known in FORMATS.values())
            problem = f"is not a photo of a known format ({names})"
        raise PhotoError(f"{name} {problem}.") from error
    if image.width * image.height > MAXIMUM_PIXELS:
        raise too_large(name)
    if image.mode in ("I", "F"):
        raise PhotoError(f"{name} holds numbers of 32 bits, not a photo's of 8 or 16.")
    return image


def _read_photo(
    stream: _Stream, path: str, name: str, page: int, minimum_size: int | None
) -> Photo:
    start = _peek(stream)
    if is_heif(start):
        return read_heif(_read_all(stream), name)
    if is_raw(stream, path):
        return read_raw(_read_all(stream), name)
    if not start.startswith(TIFF_STARTS):
        return _decode_file(_read_all(stream), name, minimum_size)
    pages = Pages(stream)
    photo = _decode_file(pages.read(page, name), name, minimum_size)
    return dataclasses.replace(
        photo, pages=len(pages), remarks=photo.remarks + pages.remarks
    )


def _decode_file(content: bytes, name: str, minimum_size: int | None) -> Photo:
    """Decodes a file of any format but HEIC and RAW; of a TIFF file the first page."""
    image = _open(io.BytesIO(content), name)
    if image is None:
        return read_tiff(content, name)
    with image:
        return _decode(image, content, name, minimum_size)


def _without_damaged_xmp(photo: Photo) -> Photo:
    """Leaves out XMP that no program could read."""
    xmp = photo.metadata.xmp
    if not xmp or make_upright(xmp):
        return photo
    return dataclasses.replace(
        photo,
        metadata=dataclasses.replace(photo.metadata, xmp=b""),
        remarks=(*photo.remarks, "its XMP is damaged and left out"),
    )


def _read_header(stream: _Stream, path: str, name: str) -> Header:
    start = _peek(stream)
    if webp.is_webp(start):
        return webp.read_webp_header(stream)
    if is_heif(start):
        return read_heif_header(stream, name)
    if is_raw(stream, path):
        return read_raw_header(stream, name)
    if start.startswith(TIFF_STARTS):
        pages = Pages(stream)
        header = _read_picture_header(pages.header(), name)
        return dataclasses.replace(header, pages=len(pages))
    return _read_picture_header(stream, name)


def _read_picture_header(stream: _Stream, name: str) -> Header:
    """Reads the header of a file that Pillow or tifffile knows; of a TIFF's first page."""
    image = _open(stream, name)
    if image is None:
        return read_tiff_header(stream, name)
    with image:
        return _header(image, stream)


def _peek(stream: _Stream) -> bytes:
    """What a file begins with."""
    stream.seek(0)
    return stream.read(_START_BYTES)


def _read_all(stream: _Stream) -> bytes:
    """The content of a file."""
    stream.seek(0)
    return stream.read()


def _header(image: Image.Image, stream: _Stream) -> Header:
    """The header of a photo that Pillow has opened."""
    width, height = image.size
    if _is_tiff(image):  # Pillow has turned its size.
        xmp = read_tiff_xmp(stream)
    else:
        exif, xmp = _exif_and_xmp(image, stream)
        width, height = upright_size(width, height, orientation(exif))
    return Header(
        format=image.format or "",
        width=width,
        height=height,
        bits=_read_bits(image, _stored_bits(image, stream)),
        xmp=xmp,
    )


def _is_tiff(image: Image.Image) -> TypeGuard[TiffImagePlugin.TiffImageFile]:
    return isinstance(image, TiffImagePlugin.TiffImageFile)


def _stored_bits(image: Image.Image, stream: _Stream) -> int:
    """Bits of the samples in the file of a photo."""
    if _is_tiff(image):
        return max(image.tag_v2.get(BITS, (1,)))
    if image.format == "JPEG2000":
        return jpeg2000.bits(stream)
    if image.format == "PNG":
        stream.seek(_PNG_DEPTH_AT)
        return stream.read(1)[0]
    if image.format == "AVIF":
        stream.seek(0)
        _, _, settings = stream.read(_AVIF_HEAD_BYTES).partition(_AVIF_SETTINGS)
        is_high = len(settings) > 2 and settings[2] & _AVIF_HIGH_BITS
        return 10 if is_high else 8  # or 12
    return 8


def _read_bits(image: Image.Image, stored: int) -> int:
    """Bits of the samples that are read of a photo with so many stored: 8 or 16.

    Of colors Pillow reads 8 bits; those of these formats are decoded without it.
    """
    is_wide = image.mode.startswith("I;16") or (
        stored > 8
        and image.mode in ("RGB", "RGBA")
        and image.format in ("PNG", "TIFF", "JPEG2000")
    )
    return 16 if is_wide else 8


def _decode(
    image: Image.Image,
    content: bytes,
    name: str,
    minimum_size: int | None,
) -> Photo:
    """Decodes a photo whose header Pillow has read: `read_photo` without the opening."""
    remarks = []
    if not _is_tiff(image) and getattr(image, "is_animated", False):
        remarks.append("it has several pictures, of which this is the first")
    is_lossless = _is_lossless(image, content)
    # Before the pixels: Pillow forgets the orientation of a TIFF once it is turned.
    metadata = _read_metadata(image, content)
    profile = image.info.get("icc_profile")
    is_bilevel = image.mode == "1"
    stored_bits = _stored_bits(image, io.BytesIO(content))
    bits = _read_bits(image, stored_bits)
    is_wide_color = bits == 16 and image.mode in ("RGB", "RGBA")

    if image.format in ("JPEG", "MPO") and image.mode in ("L", "RGB"):
        samples, damage = decode_jpeg(image, content, name, minimum_size)
        alpha = None
        remarks += damage
    elif _is_tiff(image) and needs_tifffile(image.tag_v2, is_wide_color):
        samples, alpha = decode_tiff(content, name)
    elif is_wide_color:
        samples, alpha = _decode_wide_colors(image, content, stored_bits)
    else:
        samples, alpha = _decode_by_pillow(image, stored_bits)
        if stored_bits > bits:
            remarks.append("its colors were read at 8 bits")
    if image.mode == "LAB":
        samples = lab_to_rgb(samples)
    elif profile or image.mode == "CMYK":
        samples, remark = convert_to_srgb(samples, profile or b"")
        remarks += [remark] if remark else []
    if is_bilevel:
        remarks.append("it is pure black and white, which takes no color")
    if image.format != "TIFF":  # Its decoders turn it themselves.
        turn = orientation(metadata.exif)
        samples = turn_upright(samples, turn)
        alpha = None if alpha is None else turn_upright(alpha, turn)
    return Photo(
        samples,
        alpha,
        format=image.format or "",
        lossless=is_lossless,
        metadata=metadata,
        remarks=tuple(remarks),
    )


def _decode_wide_colors(
    image: Image.Image, content: bytes, stored_bits: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes 16-bit colors by OpenCV."""
    tags = image.tag_v2 if _is_tiff(image) else {}
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise ValueError("its pixels cannot be decoded")
    pixels[..., :3] = pixels[..., 2::-1]  # OpenCV's order is blue, green, red.
    pixels = widen(pixels, stored_bits)
    colors, alpha = split_alpha(pixels, 3, tags)
    if image.format == "PNG" and content[_PNG_COLOR_TYPE_AT] == _PNG_GRAY_ALPHA:
        colors = np.ascontiguousarray(colors[..., 0])
    return colors, alpha


def _decode_by_pillow(
    image: Image.Image, stored_bits: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes to uint8 or uint16, [H, W], [H, W, 3] or CMYK [H, W, 4]; and alpha."""
    image.info.pop("xmp", None)  # It fails to turn TIFF files where this is no bytes.
    image.load()
    if image.mode.startswith("I;16"):
        return _scaled_16_bits(image, stored_bits)
    alpha = None
    if image.has_transparency_data:  # also a palette's, or one transparent color
        alpha = np.array(image.convert("RGBA").getchannel("A"))
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):  # RGBA, YCbCr and palettes
        image = image.convert("RGB")
    return np.array(image), alpha


def _scaled_16_bits(
    image: Image.Image, stored_bits: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """16-bit gray over the whole range, and alpha where one gray is transparent."""
    pixels = np.array(image).astype(np.uint16)
    alpha = None
    if "transparency" in image.info:
        alpha = np.where(pixels == image.info["transparency"], 0, 65535)
        alpha = alpha.astype(np.uint16)
    if image.format == "JPEG2000":  # Pillow has shifted them.
        pixels >>= np.uint16(16 - stored_bits)
    pixels = widen(pixels, stored_bits)
    if _is_tiff(image) and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        pixels = 65535 - pixels
    return pixels, alpha


def _is_lossless(image: Image.Image, content: bytes) -> bool:
    """Whether the file holds every pixel as it was."""
    if image.format == "WEBP":
        return webp.is_lossless(io.BytesIO(content))
    if image.format == "JPEG2000":
        return jpeg2000.is_lossless(io.BytesIO(content))
    return image.format not in ("JPEG", "MPO", "AVIF")


def _read_metadata(image: Image.Image, content: bytes) -> Metadata:
    """What the file says of its photo; nothing of what is illegible."""
    info = image.info
    if _is_tiff(image):
        return read_tiff_metadata(image.tag_v2, content, info.get("dpi"))
    # This reads the chunks after the pixels, too, where there may be EXIF and XMP.
    text = getattr(image, "text", {})
    exif, xmp = _exif_and_xmp(image, io.BytesIO(content))
    photoshop = comment = b""
    extended_xmp = ()
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        photoshop = resources_of_jpeg(image.applist)
        comment = info.get("comment", b"")
        extended_xmp = tuple(
            segment
            for kind, segment in image.applist
            if kind == "APP1" and segment.startswith(_EXTENDED_XMP)
        )
    return Metadata(
        dpi=legible_dpi(info.get("dpi")),
        exif=exif,
        xmp=xmp,
        photoshop=without_thumbnails(photoshop),
        text=tuple((key, value) for key, value in text.items() if key != PNG_XMP_KEY),
        comment=comment,
        extended_xmp=extended_xmp,
    )


def _exif_and_xmp(image: Image.Image, stream: _Stream) -> tuple[bytes, bytes]:
    """The EXIF block of a photo, and its XMP packet."""
    if image.format == "JPEG2000":
        boxes = jpeg2000.uuid_boxes(stream)
        exif = boxes.get(JPEG2000_EXIF_BOX, b"")
        xmp = boxes.get(JPEG2000_XMP_BOX, b"")
    else:
        exif = image.info.get("exif", b"")
        xmp = image.info.get("xmp", b"")
    return (
        exif.removeprefix(EXIF_PREFIX),
        xmp.encode() if isinstance(xmp, str) else xmp,
    )
