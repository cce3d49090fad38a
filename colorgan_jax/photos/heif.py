"""HEIC and HEIF photos, as phones take them, by the optional package pillow-heif."""

import io
from typing import Any

import numpy as np

from colorgan_jax.photos.exif import EXIF_PREFIX
from colorgan_jax.photos.formats import FORMATS
from colorgan_jax.photos.header import MAXIMUM_PIXELS, Header, too_large
from colorgan_jax.photos.photo import Metadata, Photo
from colorgan_jax.photos.profiles import convert_to_srgb
from colorgan_jax.photos.samples import divide_by_alpha, widen

# Kinds of files by what stands in their first box (ISO 23008-12, 10). The brands of
# pictures coded otherwise may stand beside those of the container.
_BRANDS = {
    *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
    *(b"mif1", b"mif2", b"msf1"),
}
_OTHER_BRANDS = {b"avif", b"avis"}

# Numbers of ITU-T H.273 that say sRGB, nothing, or what hardly differs from it.
_SRGB_PRIMARIES = (1, 2, 5, 6)
_SRGB_CURVES = (1, 2, 6, 13, 14, 15)


def is_heif(start: bytes) -> bool:
    """Whether a file that begins so is a HEIC or HEIF photo."""
    if start[4:8] != b"ftyp":
        return False
    end = int.from_bytes(start[:4], "big")
    brands = {start[8:12]}
    brands |= {start[at : at + 4] for at in range(16, min(end, len(start)), 4)}
    return bool(brands & _BRANDS) and not brands & _OTHER_BRANDS


def read_heif_header(stream: io.BufferedIOBase, name: str) -> Header:
    """Reads the header of the main picture.

    Raises:
      PhotoError: pillow-heif is not installed.
      Exception: of many kinds, for a damaged file.
    """
    return _header(_open(stream, name))


def read_heif(content: bytes, name: str) -> Photo:
    """Reads the main picture at its own precision, upright, in sRGB.

    Raises:
      PhotoError: pillow-heif is not installed, or the photo is too large.
      Exception: of many kinds, for a damaged file.
    """
    image = _open(io.BytesIO(content), name)
    header = _header(image)
    if header.pixels > MAXIMUM_PIXELS:
        raise too_large(name)
    info = image.info
    samples = np.array(image)
    if header.bits == 16:
        samples = _stretch(samples, info["bit_depth"])

    alpha = None
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        alpha = np.ascontiguousarray(samples[..., -1])
        samples = np.ascontiguousarray(samples[..., :-1])
        if image.premultiplied_alpha:
            samples = divide_by_alpha(samples, alpha)
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]

    remarks = []
    if len(image) > 1:
        remarks.append("it has several pictures, of which this is the main one")
    samples, remark = convert_to_srgb(samples, info.get("icc_profile") or b"")
    remarks += [remark] if remark else []
    if not info.get("icc_profile") and not _is_srgb(info.get("nclx_profile")):
        remarks.append("its wide or HDR colors were read as sRGB")
    exif = info.get("exif") or b""
    return Photo(
        samples,
        alpha,
        format="HEIF",
        lossless=False,
        metadata=Metadata(exif=exif.removeprefix(EXIF_PREFIX), xmp=header.xmp),
        remarks=tuple(remarks),
    )


def _open(stream: io.BufferedIOBase, name: str) -> Any:
    """Reads the header: a `pillow_heif.HeifFile`."""
    pillow_heif = FORMATS["HEIF"].load_package(name)
    pictures = pillow_heif.open_heif(stream, convert_hdr_to_8bit=False)
    if not len(pictures):
        raise ValueError("it holds no picture that libheif can decode")
    return pictures


def _header(image: Any) -> Header:
    width, height = image.size  # libheif has turned it upright.
    return Header(
        format="HEIF",
        width=width,
        height=height,
        bits=16 if ";16" in image.mode else 8,
        xmp=image.info.get("xmp") or b"",
    )


def _stretch(samples: np.ndarray, bits: int) -> np.ndarray:
    """Stretches samples over all of 16 bits that were only shifted there."""
    return widen(samples >> np.uint16(16 - bits), bits)


def _is_srgb(profile: dict[str, Any] | None) -> bool:
    """Whether colors described by the numbers of ITU-T H.273 are sRGB's, or nearly so."""
    return profile is None or (
        profile["color_primaries"] in _SRGB_PRIMARIES
        and profile["transfer_characteristics"] in _SRGB_CURVES
    )
