"""What the tags of TIFF files say, and the pixels that neither Pillow nor OpenCV decodes."""

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.directories import DamagedError, TiffReader
from colorgan_jax.photos.exif import block_of_tiff
from colorgan_jax.photos.header import MAXIMUM_PIXELS, Header, too_large, upright_size
from colorgan_jax.photos.photo import Metadata, Photo, to_8_bits
from colorgan_jax.photos.photoshop import without_thumbnails
from colorgan_jax.photos.profiles import convert_to_srgb
from colorgan_jax.photos.samples import (
    divide_by_alpha,
    lab_to_rgb,
    turn_upright,
    widen,
)

# What files begin with, however damaged the rest is.
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Tags and their values (TIFF 6.0).
BITS = 258
PHOTOMETRIC = 262
_EXTRA_SAMPLES = 338
WHITE_IS_ZERO = 0
_COMPRESSION = 259
_ORIENTATION = 274
_RESOLUTION = 282
_PLANAR = 284
XMP = 700
IPTC = 33723
PHOTOSHOP = 34377
_PROFILE = 34675
_SEPARATE_PLANES = 2
_NO_ALPHA, _MULTIPLIED_ALPHA, _PLAIN_ALPHA = 0, 1, 2
_BLACK_IS_ZERO, _RGB, _LAB = 1, 2, 8
_WEBP, _LZMA, _ZSTD = 50001, 34925, 50000

# What tifffile says where it needs a further package.
_MISSING = "requires the 'imagecodecs' package"

# How many samples are a color.
_COLORS = {WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _LAB: 3}


def needs_tifffile(tags: Mapping[int, Any], is_wide_color: bool) -> bool:
    """Whether only tifffile decodes a page that Pillow can open.

    Args:
      tags: of the page.
      is_wide_color: whether it has 16-bit colors, which are OpenCV's otherwise. Separate
        planes of them it reads wrongly.
    """
    compression = tags.get(_COMPRESSION)
    if is_wide_color:
        is_separate = tags.get(_PLANAR) == _SEPARATE_PLANES
        return is_separate or compression in (_WEBP, _LZMA, _ZSTD)
    return compression == _WEBP


def read_tiff_header(stream: io.BufferedReader | io.BytesIO, name: str) -> Header:
    """Reads the header of the first page of a file that Pillow cannot open.

    Raises:
      PhotoError: the file is of no kind that is read here.
      Exception: of many kinds, for a damaged file.
    """
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        page: Any = file.pages.first
        _check(page, name)
        tags = _small_tags(page)
        width, height = upright_size(
            page.imagewidth, page.imagelength, tags.get(_ORIENTATION, 1)
        )
        return Header(
            format="TIFF",
            width=width,
            height=height,
            bits=_read_bits(page),
            xmp=read_tiff_xmp(stream),
        )


def read_tiff(content: bytes, name: str) -> Photo:
    """Reads the first page of a file that Pillow cannot open.

    Raises:
      PhotoError: the file is of no kind that is read here, is too large, or needs
        imagecodecs, which is not installed.
      Exception: of many kinds, for a damaged file.
    """
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages.first
        samples, alpha = decode_tiff(content, name)
        tags = _small_tags(page)
        metadata = read_tiff_metadata(tags, content, page.get_resolution(unit="inch"))
        remarks = []
        if page.photometric == _LAB:
            samples = lab_to_rgb(samples)
            if page.bitspersample > 8:
                remarks.append("its colors were read at 8 bits")
        else:
            profile = tag_bytes(content, _PROFILE)
            samples, remark = convert_to_srgb(samples, profile)
            remarks += [remark] if remark else []
        return Photo(
            samples,
            alpha,
            format="TIFF",
            metadata=metadata,
            remarks=tuple(remarks),
        )


def decode_tiff(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Decodes the first page of a file by tifffile.

    Returns:
      Upright samples, uint8 or uint16: [H, W] gray, [H, W, 3] RGB or, always uint8, Lab;
      and alpha.

    Raises:
      PhotoError, Exception: as `read_tiff`.
    """
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        page: Any = file.pages.first
        _check(page, name)
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends) > len(content):
            raise ValueError("its pixels are not all there")
        try:
            samples = page.asarray()
        except (ValueError, ImportError) as error:
            is_missing = isinstance(error, ImportError) or _MISSING in str(error)
            if not is_missing:
                raise
            raise PhotoError(
                f"{name} is a TIFF photo of a kind that needs a package more: pip install"
                " 'colorgan_jax[tiff]'"
            ) from error
        tags = _small_tags(page)
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        if samples.dtype == np.uint16:
            samples = widen(samples, page.bitspersample)
        colors = _COLORS[page.photometric]
        if samples.ndim == 2:
            alpha = None
        else:
            samples, alpha = split_alpha(samples, colors, tags)
        if page.photometric == WHITE_IS_ZERO:
            samples = np.iinfo(samples.dtype).max - samples
        if page.photometric == _LAB:
            samples, alpha = _lab_at_8_bits(samples), None
        turn = tags.get(_ORIENTATION, 1)
        samples = turn_upright(samples, turn)
        return samples, None if alpha is None else turn_upright(alpha, turn)


def split_alpha(
    samples: np.ndarray, colors: int, tags: Mapping[int, Any]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Takes colors and alpha apart.

    Args:
      samples: uint8 or uint16 [H, W, samples of a pixel], of which the first are colors.
      colors: how many.
      tags: of the page.

    Returns:
      Colors, not multiplied by alpha, [H, W] if there is one, else [H, W, colors]; and
      alpha, if the next sample is that.
    """
    alpha = None
    kinds = tags.get(_EXTRA_SAMPLES, (_PLAIN_ALPHA,))
    kind = kinds if isinstance(kinds, int) else kinds[0]
    if samples.shape[2] > colors and kind != _NO_ALPHA:
        alpha = np.ascontiguousarray(samples[..., colors])
    samples = np.ascontiguousarray(samples[..., :colors])
    if alpha is not None and kind == _MULTIPLIED_ALPHA:
        samples = divide_by_alpha(samples, alpha)
    return samples if colors > 1 else samples[..., 0], alpha


def read_tiff_metadata(tags: Mapping[int, Any], content: bytes, dpi: Any) -> Metadata:
    """What the first page of a file says of its photo; nothing of what is illegible.

    Args:
      tags: of the page, as Pillow or tifffile has them.
      content: of the file.
      dpi: its resolution, as they say: they make one up where there is none.
    """
    return Metadata(
        dpi=legible_dpi(dpi) if _RESOLUTION in tags else None,
        exif=block_of_tiff(content),
        xmp=read_tiff_xmp(content),
        photoshop=without_thumbnails(tag_bytes(content, PHOTOSHOP)),
        iptc=tag_bytes(content, IPTC),
    )


def legible_dpi(dpi: Any) -> tuple[float, float] | None:
    """Pixels per inch as numbers; None where they are none."""
    try:
        across, down = (float(number) for number in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(number) and number > 0 for number in (across, down)):
        return None
    return across, down


def _small_tags(page: Any) -> dict[int, Any]:
    """The tags of a page of tifffile's that are used here: others may be large."""
    numbers = (_ORIENTATION, _RESOLUTION, _EXTRA_SAMPLES)
    return {
        number: page.tags.valueof(number) for number in numbers if number in page.tags
    }


def tag_bytes(file: bytes | io.BufferedIOBase, tag: int) -> bytes:
    """The bytes of a tag of the first page as they stand, whatever their declared type.

    Pillow and tifffile make text or numbers of them, each in its own way.

    Args:
      file: the content of the file, or a stream.
      tag: its number.

    Returns:
      b"" if the page has no such tag, or the file is no TIFF.
    """
    try:
        tiff = TiffReader(file)
        entry = tiff.table(tiff.first).find(tag)
        return tiff.value(entry) if entry else b""
    except DamagedError:
        return b""


def read_tiff_xmp(file: bytes | io.BufferedIOBase) -> bytes:
    """The XMP packet of the first page, without the zero that ends it as text."""
    return tag_bytes(file, XMP).rstrip(b"\0")


def _check(page: Any, name: str) -> None:
    """Refuses pages that `decode_tiff` cannot make samples of."""
    if page.imagewidth * page.imagelength > MAXIMUM_PIXELS:
        raise too_large(name)
    is_known = (
        page.imagedepth == 1
        and page.dtype in (np.uint8, np.uint16)
        and page.bitspersample >= 8
        and page.axes in ("YX", "YXS", "SYX")
        and isinstance(page.compression, tifffile.COMPRESSION)
        and page.photometric in _COLORS
        and page.samplesperpixel >= _COLORS[page.photometric]
    )
    if not is_known:
        raise PhotoError(f"{name} is damaged, or a kind of TIFF that is not read.")


def _read_bits(page: Any) -> int:
    """Bits of the samples that are read of a page: 8 or 16."""
    return 16 if page.bitspersample > 8 and page.photometric != _LAB else 8


def _lab_at_8_bits(lab: np.ndarray) -> np.ndarray:
    """Rounds the L of 16-bit Lab, and cuts its a and b, which have signs."""
    if lab.dtype == np.uint8:
        return lab
    return np.dstack([to_8_bits(lab[..., :1]), (lab[..., 1:] >> 8).astype(np.uint8)])
