"""Applies the ICC profiles of photos at the photos' own depth.

Pillow's ImageCms converts 8-bit pixels only. What a profile of curves and a matrix says
is a few lines of arithmetic, done here in NumPy where 8 bits are too few: for 16-bit
color, and for gray. Profiles of lookup tables are left to ImageCms, or to imagecodecs if
that is installed.

Source: ICC.1:2022 (the tags of profiles and their types).
"""

import importlib
import io
import struct

import numpy as np
from jaxtyping import Shaped
from PIL import Image, ImageCms

from colorgan_jax.lab import encode_srgb


def _make_srgb_profile() -> bytes:
    """LittleCMS's own sRGB profile, dated like the standard (October 1999), not today."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 1999, 10, 1, 0, 0, 0) + profile[36:]


# What written photos embed: 588 bytes, the same each time.
SRGB_PROFILE = _make_srgb_profile()

# Profiles of sRGB itself, which most cameras embed: converting them would change
# nothing and take longer than decoding.
_SRGB_DESCRIPTIONS = ("sRGB IEC61966-2.1", "sRGB built-in")

# So are those whose curves stay within half an 8-bit level of sRGB's and whose colorants
# are this close to sRGB's: makers round them differently, and some shorten the curves.
_SRGB_CURVE_TOLERANCE = 0.5 / 255
_SRGB_COLORANT_TOLERANCE = 5e-4

# The color spaces of pixels as the headers of profiles spell them, and Pillow's modes.
_MODES = {b"GRAY": "L", b"RGB ": "RGB", b"CMYK": "CMYK"}

# What damaged profiles raise, here and in Pillow: KeyError for a missing tag,
# struct.error and ValueError for one cut short.
_DAMAGE = (ImageCms.PyCMSError, OSError, KeyError, ValueError, struct.error)

# A black point lighter than L = 50 is an error or a negative, and not moved any farther.
_LIGHTEST_BLACK = (66 / 116) ** 3

# So few that temporary arrays stay small and in the processor's cache.
_PIXELS_AT_ONCE = 2**18


def convert_to_srgb(
    pixels: Shaped[np.ndarray, "H W *C"], profile: bytes
) -> tuple[Shaped[np.ndarray, "H W *_"], str | None]:
    """Converts pixels to sRGB by the ICC profile that came with them.

    White stays white, the profile's black becomes black, and colors outside the sRGB gamut
    are clipped. Profiles of lookup tables render perceptually, as they define it. Pixels
    are left as they are if the profile is sRGB's own, damaged, or meant for another kind
    of pixels, except that CMYK always becomes RGB. Threads may call this side by side.

    Args:
      pixels: uint8 or uint16, [H, W] gray or [H, W, 3] RGB; or uint8 [H, W, 4] CMYK,
        where 0 is no ink and 255 is full ink.
      profile: an ICC profile, which may be damaged.

    Returns:
      sRGB pixels of the same dtype, [H, W] for gray and else [H, W, 3]: the given array
      itself where nothing changes. And None, or a remark if precision was lost: "its
      color profile was applied at 8 bits".
    """
    if pixels.ndim == 2:
        space = b"GRAY"
    else:
        space = b"CMYK" if pixels.shape[2] == 4 else b"RGB "
    try:
        converted, remark = _convert(pixels, space, profile)
    except _DAMAGE:
        converted, remark = pixels, None
    if space == b"CMYK" and converted is pixels:
        converted = np.array(Image.fromarray(pixels, mode="CMYK").convert("RGB"))
    return converted, remark


def _convert(
    pixels: np.ndarray, space: bytes, profile: bytes
) -> tuple[np.ndarray, str | None]:
    """Does the work of `convert_to_srgb`, and raises any of `_DAMAGE`."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if profile[16:20] != space:
        return pixels, None
    if ImageCms.getProfileDescription(source).startswith(_SRGB_DESCRIPTIONS):
        return pixels, None

    tags = _read_tags(profile)
    # Tables take precedence over curves. (The curve of a gray profile that connects to
    # Lab means lightness instead of light: rare enough to be left to ImageCms as well.)
    has_tables = b"A2B0" in tags or b"D2B0" in tags
    is_gray_lightness = space == b"GRAY" and profile[20:24] != b"XYZ "
    if space == b"CMYK" or has_tables or is_gray_lightness:
        return _convert_by_tables(pixels, space, source, profile)
    if space == b"GRAY":
        return _convert_gray(pixels, tags), None
    return _convert_rgb(pixels, tags, source), None


def _convert_gray(pixels: np.ndarray, tags: dict[bytes, memoryview]) -> np.ndarray:
    """Converts by a gray profile of one curve."""
    levels = _count_levels(pixels)
    curve = _read_curve(tags[b"kTRC"], levels)
    if _is_srgb_curve(curve):
        return pixels
    linear = _move_black(curve, curve[0])
    table = np.rint((levels - 1) * encode_srgb(linear)).astype(pixels.dtype)
    return np.take(table, pixels)


def _convert_rgb(
    pixels: np.ndarray,
    tags: dict[bytes, memoryview],
    source: ImageCms.ImageCmsProfile,
) -> np.ndarray:
    """Converts by an RGB profile of three curves and a matrix."""
    levels = _count_levels(pixels)
    curves = [_read_curve(tags[name], levels) for name in (b"rTRC", b"gTRC", b"bTRC")]
    # Profiles connect through XYZ adapted to D50, and sRGB's own profile does so, too.
    colorants = _read_colorants(tags)
    srgb_colorants = _read_colorants(_read_tags(SRGB_PROFILE))
    difference = np.abs(colorants - srgb_colorants).max()
    if difference < _SRGB_COLORANT_TOLERANCE and all(map(_is_srgb_curve, curves)):
        return pixels
    if pixels.dtype == np.uint8:  # ImageCms is faster, and as good
        return _convert_by_pillow(pixels, b"RGB ", source)

    matrix = np.linalg.inv(srgb_colorants) @ colorants
    black = float(colorants[1] @ [curve[0] for curve in curves])
    tables = [curve.astype(np.float32) for curve in curves]
    height, width, _ = pixels.shape
    converted = np.empty(pixels.shape, np.uint16)
    rows = max(1, _PIXELS_AT_ONCE // max(1, width))
    for first in range(0, height, rows):
        band = slice(first, first + rows)
        red, green, blue = (
            np.take(table, pixels[band, :, channel])
            for channel, table in enumerate(tables)
        )
        for channel, (r, g, b) in enumerate(matrix.tolist()):
            linear = _move_black(r * red + g * green + b * blue, black)
            converted[band, :, channel] = np.rint(65535 * encode_srgb(linear))
    return converted


def _count_levels(pixels: np.ndarray) -> int:
    """How many values the dtype of pixels has."""
    return 256 if pixels.dtype == np.uint8 else 65536


def _is_srgb_curve(curve: np.ndarray) -> bool:
    """Whether a curve to linear light is that of sRGB."""
    difference = encode_srgb(curve) - np.linspace(0, 1, len(curve))
    return bool(np.abs(difference).max() < _SRGB_CURVE_TOLERANCE)


def _move_black(linear: np.ndarray, black: float) -> np.ndarray:
    """Stretches linear light so that black becomes 0 and white stays 1, and clips it.

    This is ImageCms's black point compensation, for a black point that is gray.
    """
    black = min(max(black, 0.0), _LIGHTEST_BLACK)
    return np.clip((linear - black) / (1 - black), 0, 1)


def _read_tags(profile: bytes) -> dict[bytes, memoryview]:
    """The content of each tag by its name, not copied."""
    content = memoryview(profile)
    (count,) = struct.unpack_from(">I", content, 128)
    table = struct.iter_unpack(">4sII", content[132 : 132 + 12 * count])
    return {name: content[start : start + size] for name, start, size in table}


def _read_colorants(tags: dict[bytes, memoryview]) -> np.ndarray:
    """XYZ of full red, green and blue: the columns of a matrix [3, 3]."""
    columns = [
        struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")
    ]
    return np.array(columns).T / 65536


def _read_curve(tag: memoryview, levels: int) -> np.ndarray:
    """Linear light for each of so many pixel values, all in [0, 1].

    Raises:
      ValueError, struct.error: a damaged tag.
    """
    x = np.linspace(0, 1, levels)
    with np.errstate(all="ignore"):  # for powers that damaged numbers make infinite
        if tag[:4] == b"curv":
            curve = _read_table(tag, x)
        elif tag[:4] == b"para":
            curve = _read_formula(tag, x)
        else:
            raise ValueError("A curve is of an unknown type.")
        curve = np.clip(curve, 0, 1)
    if not curve.max() > curve.min():  # nor is either NaN
        raise ValueError("A curve is flat.")
    return curve


def _read_table(tag: memoryview, x: np.ndarray) -> np.ndarray:
    """Values of a curveType: the identity, a gamma, or a table to interpolate in."""
    (count,) = struct.unpack_from(">I", tag, 8)
    table = np.frombuffer(tag, ">u2", count, offset=12)
    if count == 0:
        return x
    if count == 1:
        return x ** (table[0] / 256)
    return np.interp(x * (count - 1), np.arange(count), table / 65535)


def _read_formula(tag: memoryview, x: np.ndarray) -> np.ndarray:
    """Values of a parametricCurveType, by the standard's names of its parameters."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind > 4:
        raise ValueError("A curve has an unknown formula.")
    count = (1, 3, 4, 5, 7)[kind]
    given = [number / 65536 for number in struct.unpack_from(f">{count}i", tag, 12)]
    g, a, b, c, d, e, f = given + [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0][count:]
    power = np.maximum(a * x + b, 0) ** g
    if kind <= 2:
        return power + c
    return np.where(x >= d, power + e, c * x + f)


def _convert_by_tables(
    pixels: np.ndarray, space: bytes, source: ImageCms.ImageCmsProfile, profile: bytes
) -> tuple[np.ndarray, str | None]:
    """Converts by lookup tables: at 16 bits with imagecodecs, else at 8."""
    if pixels.dtype == np.uint8:
        return _convert_by_pillow(pixels, space, source), None
    if space == b"RGB ":
        converted = _convert_by_imagecodecs(pixels, profile)
        if converted is not None:
            return converted, None
    to_8_bits = np.rint(np.arange(65536) / 257).astype(np.uint8)
    converted = _convert_by_pillow(np.take(to_8_bits, pixels), space, source)
    return converted * np.uint16(257), "its color profile was applied at 8 bits"


def _convert_by_pillow(
    pixels: np.ndarray, space: bytes, source: ImageCms.ImageCmsProfile
) -> np.ndarray:
    """Converts 8-bit pixels by any profile."""
    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels, mode=_MODES[space]),
        source,
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
    )
    assert converted is not None  # as it is with `inPlace` only
    return np.array(converted.convert("L") if space == b"GRAY" else converted)


def _convert_by_imagecodecs(pixels: np.ndarray, profile: bytes) -> np.ndarray | None:
    """Converts 16-bit RGB; None if imagecodecs is not installed, or fails."""
    try:
        imagecodecs = importlib.import_module("imagecodecs")
        return imagecodecs.cms_transform(
            pixels,
            profile,
            SRGB_PROFILE,
            colorspace="rgb",
            planar=False,
            outcolorspace="rgb",
            outplanar=False,
            outdtype="uint16",
            intent=imagecodecs.CMS.INTENT.PERCEPTUAL,
        )
    except (ImportError, RuntimeError):  # RuntimeError is LittleCMS's refusal
        return None
