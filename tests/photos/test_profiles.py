"""ICC profiles against Pillow's ImageCms at 8 bits, and arithmetic by hand at 16."""

import io
import struct
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms

from colorgan_jax.photos.profiles import SRGB_PROFILE, convert_to_srgb

AT_8_BITS = "its color profile was applied at 8 bits"
GRAY_8 = np.arange(256, dtype=np.uint8).reshape(16, 16)
GRAY_16 = np.arange(65536, dtype=np.uint16).reshape(256, 256)
RGB_8 = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
RGB_16 = np.random.default_rng(1).integers(0, 65536, (64, 64, 3), np.uint16)


# --- Profiles made by hand ---


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def curv(*values: int) -> bytes:
    """A curve: none is the identity, one a gamma times 256, and more are a table."""
    return struct.pack(f">4s4xI{len(values)}H", b"curv", len(values), *values)


def para(kind: int, *parameters: float) -> bytes:
    return struct.pack(">4s4xHxx", b"para", kind) + fixed(*parameters)


def xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*values)


def mft2(corners: np.ndarray, curve: np.ndarray) -> bytes:
    """A table of XYZ [2, ..., 2, 3], indexed by channels that a curve was applied to."""
    channels = corners.ndim - 1
    content = struct.pack(">4s4x3Bx", b"mft2", channels, 3, 2)
    content += fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">2H", len(curve), 2)
    tables = [*[np.rint(65535 * curve)] * channels, np.rint(32768 * corners)]
    tables += [[0, 65535]] * 3
    return content + b"".join(np.asarray(part, ">u2").tobytes() for part in tables)


def icc_profile(
    space: bytes, tags: dict[bytes, bytes], *, connection=b"XYZ ", name=b"test"
) -> bytes:
    """An ICC version 2 profile."""
    named = struct.pack(">4s4xI", b"desc", len(name) + 1) + name + bytes(79)
    tags = {b"desc": named, b"wtpt": xyz(0.9642, 1.0, 0.8249), **tags}
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        table += tag + struct.pack(">II", start + len(content), len(value))
        content += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI", start + len(content), b"test", 0x02100000)
    header += b"mntr" + space + connection + bytes(12) + b"acsp" + bytes(28)
    header += fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + table + content


def gray_profile(curve: bytes, **options) -> bytes:
    return icc_profile(b"GRAY", {b"kTRC": curve}, **options)


def rgb_profile(curve: bytes, colorants: np.ndarray, **options) -> bytes:
    """Colorants: a matrix [3, 3] whose columns are red, green and blue."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {tag: xyz(*color) for tag, color in zip(names, colorants.T, strict=True)}
    tags |= dict.fromkeys([b"rTRC", b"gTRC", b"bTRC"], curve)
    return icc_profile(b"RGB ", tags, **options)


# Adobe RGB (1998) and sRGB, adapted to D50. The latter are the numbers of LittleCMS,
# which are a few 1/65536 from HP's.
ADOBE_COLORANTS = np.array(
    [
        [0.60974, 0.20528, 0.14919],
        [0.31111, 0.62567, 0.06322],
        [0.01947, 0.06087, 0.74457],
    ]
)
SRGB_COLORANTS = (
    np.array(
        [[0x6FA0, 0x6297, 0x249F], [0x38F5, 0xB787, 0x0F84], [0x0390, 0x18D9, 0xB6C3]]
    )
    / 0x10000
)
ADOBE_GAMMA = 563 / 256
ADOBE_RGB = rgb_profile(curv(563), ADOBE_COLORANTS)
LINEAR_GRAY = gray_profile(curv(256))
# The same as Adobe RGB but in a table, and ink that darkens a page of D50 white.
ADOBE_TABLES = icc_profile(
    b"RGB ",
    {
        b"A2B0": mft2(
            np.stack(np.indices((2, 2, 2)), axis=-1) @ ADOBE_COLORANTS.T,
            np.linspace(0, 1, 4096) ** ADOBE_GAMMA,
        )
    },
)
INK_COLORS = np.random.default_rng(2).integers(20, 236, (2, 2, 2, 2, 3), np.uint8)
# White and black would be moved there otherwise.
INK_COLORS[0, 0, 0, 0] = 255
INK_COLORS[1, 1, 1, 1] = 0


def encode(linear: np.ndarray) -> np.ndarray:
    return np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    )


def decode(encoded: np.ndarray) -> np.ndarray:
    return np.where(
        encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4
    )


INKS = icc_profile(
    b"CMYK",
    {b"A2B0": mft2(decode(INK_COLORS / 255) @ SRGB_COLORANTS.T, np.linspace(0, 1, 2))},
)


def convert_with_pillow(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        # Else some curves are replaced by coarse tables, 10 levels off in the shadows.
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    return np.asarray(converted)


def assert_near(actual: np.ndarray, expected: np.ndarray, levels: float) -> None:
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        actual.astype(float), expected.astype(float), rtol=0, atol=levels
    )


@pytest.fixture
def no_imagecodecs(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)


# --- The profile that photos embed ---


def test_the_embedded_profile_is_small_and_of_no_particular_day():
    opened = ImageCms.ImageCmsProfile(io.BytesIO(SRGB_PROFILE))
    assert ImageCms.getProfileDescription(opened).strip() == "sRGB built-in"
    assert opened.profile.creation_date.year == 1999
    assert len(SRGB_PROFILE) < 1000
    assert_near(convert_with_pillow(RGB_8, SRGB_PROFILE), RGB_8, 1)


# --- Gray ---

CURVES = {
    "identity": curv(),
    "gamma": curv(461),
    "table": curv(*(int(65535 * (v / 40) ** 1.5) for v in range(41))),
    "table without black": curv(1000, 9000, 30000, 65535),
    "formula 0": para(0, 1.8),
    "formula 1": para(1, 2.0, 1.25, -0.25),
    "formula 2": para(2, 2.0, 0.75, 0.1, 0.2),
    "formula 3": para(3, 2.0, 1 / 1.16, 0.16 / 1.16, 1 / 9.033, 0.08),
    "formula 4": para(4, 1.8, 0.9, 0.0, 0.5, 0.25, 0.1, 0.05),
}
curves = pytest.mark.parametrize("curve", CURVES.values(), ids=CURVES.keys())


@curves
def test_8_bit_gray_equals_pillow(curve):
    profile = gray_profile(curve)
    expected = convert_with_pillow(GRAY_8, profile)[..., 1]
    assert np.abs(expected.astype(int) - GRAY_8).max() > 10  # else nothing is shown
    converted, remark = convert_to_srgb(GRAY_8, profile)
    assert converted.dtype == np.uint8 and remark is None
    assert_near(converted, expected, 1)


@curves
def test_16_bit_gray_lies_between_the_8_bit_levels(curve):
    profile = gray_profile(curve)
    coarse, _ = convert_to_srgb(GRAY_8, profile)
    fine, remark = convert_to_srgb(GRAY_8 * np.uint16(257), profile)
    assert fine.dtype == np.uint16 and remark is None
    assert_near(fine / 257, coarse, 0.502)


@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_16_bit_gray_is_exact(gamma):
    profile = gray_profile(para(0, gamma))
    linear = (GRAY_16 / 65535) ** (round(gamma * 65536) / 65536)
    assert_near(convert_to_srgb(GRAY_16, profile)[0], 65535 * encode(linear), 0.502)


def test_the_shadows_of_a_linear_scan_stay_apart():
    converted, _ = convert_to_srgb(GRAY_16, LINEAR_GRAY)
    shadows = converted.ravel()[:1000]  # 1.5% of the light: an eighth of sRGB's range
    assert len(np.unique(shadows)) == 1000
    assert shadows.max() > 8000
    assert converted.min() == 0 and converted.max() == 65535


def test_gray_tables_are_applied_at_8_bits():
    white = np.outer([0, 1], [0.9642, 1, 0.8249])
    tables = {b"A2B0": mft2(white, np.linspace(0, 1, 4096) ** 1.8)}
    profile = icc_profile(b"GRAY", tables)
    # In the darkest tenth, ImageCms itself is off by more.
    bright = GRAY_8.ravel() > 25
    expected = 255 * encode((GRAY_8.ravel()[bright] / 255) ** 1.8)
    converted, remark = convert_to_srgb(GRAY_8, profile)
    assert remark is None
    assert_near(converted.ravel()[bright], expected, 1)
    converted, remark = convert_to_srgb(GRAY_16, profile)
    assert remark == AT_8_BITS and converted.dtype == np.uint16
    assert_near(converted.ravel()[::257][bright] / 257, expected, 1)


def test_gray_that_connects_to_lab_holds_lightness():
    profile = gray_profile(curv(), connection=b"Lab ")
    converted, remark = convert_to_srgb(GRAY_8, profile)
    lightness = GRAY_8 / 255 * 100
    light = np.where(
        lightness > 8, ((lightness + 16) / 116) ** 3, lightness * 27 / 24389
    )
    assert remark is None
    assert_near(converted, 255 * encode(light), 1)


# --- RGB by curves and a matrix ---


def test_8_bit_color_equals_pillow():
    expected = convert_with_pillow(RGB_8, ADOBE_RGB)
    assert np.abs(expected.astype(int) - RGB_8).max() > 20  # else nothing is shown
    converted, remark = convert_to_srgb(RGB_8, ADOBE_RGB)
    assert converted.dtype == np.uint8 and remark is None
    assert_near(converted, expected, 1)


@curves
def test_16_bit_color_rounds_to_what_pillow_makes_of_8_bits(curve):
    profile = rgb_profile(curve, ADOBE_COLORANTS)
    converted, remark = convert_to_srgb(RGB_8 * np.uint16(257), profile)
    assert converted.dtype == np.uint16 and remark is None
    assert_near(np.rint(converted / 257), convert_with_pillow(RGB_8, profile), 1)


def test_16_bit_color_is_exact_to_a_level():
    colorants = np.rint(ADOBE_COLORANTS * 65536) / 65536  # as the profile rounds them
    linear = (RGB_16 / 65535) ** ADOBE_GAMMA
    mixed = linear @ colorants.T @ np.linalg.inv(SRGB_COLORANTS).T
    expected = 65535 * encode(np.clip(mixed, 0, 1))
    assert_near(convert_to_srgb(RGB_16, ADOBE_RGB)[0], expected, 1)


def test_known_colors_in_adobe_rgb():
    """By the published matrix from linear sRGB to linear Adobe RGB, both for D65."""
    srgb = np.array([[[0.8, 0.2, 0.1], [0.15, 0.7, 0.3], [0.5, 0.5, 0.9]]])
    matrix = [[0.71515, 0.28485, 0.0], [0.0, 1.0, 0.0], [0.0, 0.04117, 0.95883]]
    adobe = (decode(srgb) @ np.transpose(matrix)) ** (1 / ADOBE_GAMMA)
    stored = np.rint(65535 * adobe).astype(np.uint16)
    assert np.abs(stored - 65535 * srgb).max() > 5000  # else nothing is shown
    assert_near(convert_to_srgb(stored, ADOBE_RGB)[0], 65535 * srgb, 10)


def test_16_bit_gray_stays_gray_in_color():
    pixels = np.stack([GRAY_16] * 3, axis=-1)
    converted, _ = convert_to_srgb(pixels, ADOBE_RGB)
    expected = 65535 * encode((GRAY_16 / 65535) ** ADOBE_GAMMA)
    assert_near(converted, np.stack([expected] * 3, axis=-1), 3)
    assert np.ptp(converted.astype(int), axis=-1).max() <= 3


def test_16_bit_linear_color_keeps_its_shadows():
    pixels = np.stack([GRAY_16] * 3, axis=-1)
    converted, _ = convert_to_srgb(pixels, rgb_profile(curv(256), SRGB_COLORANTS))
    for channel in range(3):
        assert len(np.unique(converted[..., channel].ravel()[:1000])) == 1000


def test_colors_outside_the_gamut_are_clipped():
    green = np.array([[[0, 65535, 0]]], np.uint16)
    converted, _ = convert_to_srgb(green, ADOBE_RGB)
    assert converted[0, 0].tolist() == [0, 65535, 0]


def test_large_photos_need_little_memory_besides_their_pixels():
    pixels = np.tile(RGB_16, (32, 32, 1))  # 2048x2048, 24 MiB
    expected = np.tile(convert_to_srgb(RGB_16, ADOBE_RGB)[0], (32, 32, 1))
    tracemalloc.start()
    try:
        converted, _ = convert_to_srgb(pixels, ADOBE_RGB)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(converted, expected)
    assert peak < 60 * 2**20


# --- sRGB itself ---

SRGB_TABLE = curv(*np.rint(65535 * decode(np.linspace(0, 1, 1024))).astype(int))
SRGB_FORMULA = para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
HP_COLORANTS = SRGB_COLORANTS + np.array([[2, -2, 1], [0, 1, -1], [1, 1, -3]]) / 65536


@pytest.mark.parametrize(
    "profile",
    [
        SRGB_PROFILE,
        rgb_profile(curv(461), ADOBE_COLORANTS, name=b"sRGB IEC61966-2.1"),
        rgb_profile(SRGB_FORMULA, SRGB_COLORANTS),
        rgb_profile(SRGB_TABLE, HP_COLORANTS),
        gray_profile(SRGB_FORMULA),
        gray_profile(SRGB_TABLE),
    ],
    ids=["ours", "by name", "formula", "table", "gray formula", "gray table"],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_srgb_is_returned_untouched(profile, dtype):
    is_gray = profile[16:20] == b"GRAY"
    pixels = np.zeros((4, 4) if is_gray else (4, 4, 3), dtype)
    converted, remark = convert_to_srgb(pixels, profile)
    assert converted is pixels and remark is None


@pytest.mark.parametrize(
    ("pixels", "profile"),
    [
        (RGB_16, rgb_profile(curv(563), SRGB_COLORANTS)),
        (RGB_16, rgb_profile(SRGB_FORMULA, ADOBE_COLORANTS)),
        (GRAY_16, gray_profile(curv(563))),
    ],
    ids=["another curve", "other colorants", "gray"],
)
def test_what_is_near_srgb_is_converted(pixels, profile):
    converted, _ = convert_to_srgb(pixels, profile)
    assert np.abs(converted.astype(int) - pixels).max() > 500


# --- Lookup tables ---


def adobe_truth(pixels: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] of stored Adobe RGB in [0, 1]."""
    mixed = pixels**ADOBE_GAMMA @ ADOBE_COLORANTS.T @ np.linalg.inv(SRGB_COLORANTS).T
    return encode(np.clip(mixed, 0, 1))


# Away from black and from the surface of the gamut, where ImageCms is less exact.
MUTED = np.random.default_rng(3).uniform(0.4, 0.55, (32, 32, 3))


def test_tables_are_applied_at_8_bits_where_imagecodecs_is_missing(no_imagecodecs):
    pixels = np.rint(65535 * MUTED).astype(np.uint16)
    converted, remark = convert_to_srgb(pixels, ADOBE_TABLES)
    assert remark == AT_8_BITS and converted.dtype == np.uint16
    assert_near(converted / 257, 255 * adobe_truth(MUTED), 1.6)
    assert converted.max() > 2**15  # over the whole range of 16 bits


def test_tables_are_applied_at_16_bits_by_imagecodecs():
    pytest.importorskip("imagecodecs")
    pixels = np.rint(65535 * MUTED).astype(np.uint16)
    converted, remark = convert_to_srgb(pixels, ADOBE_TABLES)
    assert remark is None and converted.dtype == np.uint16
    assert_near(converted, 65535 * adobe_truth(MUTED), 40)


def test_tables_of_8_bit_color_leave_no_remark():
    pixels = np.rint(255 * MUTED).astype(np.uint8)
    converted, remark = convert_to_srgb(pixels, ADOBE_TABLES)
    assert remark is None and converted.dtype == np.uint8
    assert_near(converted, 255 * adobe_truth(pixels / 255), 1.5)


# --- CMYK ---


def test_cmyk_by_its_profile():
    """Full inks and none, in all 16 combinations; the profile says what each looks like."""
    pixels = np.stack(np.indices((2, 2, 2, 2)), axis=-1).reshape(4, 4, 4) * 255
    converted, remark = convert_to_srgb(pixels.astype(np.uint8), INKS)
    assert remark is None and converted.dtype == np.uint8
    assert_near(converted, INK_COLORS.reshape(4, 4, 3), 1)


@pytest.mark.parametrize("profile", [ADOBE_RGB, SRGB_PROFILE, INKS[:300], b""])
def test_cmyk_without_a_profile_of_its_own(profile):
    pixels = np.array([[[0, 0, 0, 0], [0, 255, 255, 0], [255, 0, 0, 51]]], np.uint8)
    converted, remark = convert_to_srgb(pixels, profile)
    assert remark is None
    assert_near(converted, np.array([[[255] * 3, [255, 0, 0], [0, 204, 204]]]), 1)


# --- Damage ---


def without_tag(profile: bytes, tag: bytes) -> bytes:
    return profile.replace(tag, b"none", 1)


HUGE_TABLE = struct.pack(">4s4xI", b"curv", 2**32 - 1) + bytes(100)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("shape", "profile"),
    [
        ((4, 4, 3), b""),
        ((4, 4, 3), b"no profile at all"),
        ((4, 4, 3), ADOBE_RGB[:200]),
        ((4, 4, 3), LINEAR_GRAY),
        ((4, 4, 3), ADOBE_RGB.replace(b"RGB XYZ ", b"GRAYXYZ ", 1)),
        ((4, 4, 3), INKS),
        ((4, 4), ADOBE_RGB),
        ((4, 4, 3), without_tag(ADOBE_RGB, b"gXYZ")),
        ((4, 4, 3), without_tag(ADOBE_RGB, b"bTRC")),
        ((4, 4, 3), icc_profile(b"RGB ", {b"A2B0": b"mft2" + bytes(10)})),
        ((4, 4), without_tag(LINEAR_GRAY, b"kTRC")),
        ((4, 4), gray_profile(curv(0))),
        ((4, 4), gray_profile(curv(5, 5, 5))),
        ((4, 4), gray_profile(para(5, 1.0))),
        ((4, 4), gray_profile(para(4, 1.0))),
        ((4, 4), gray_profile(b"text\0\0\0\0nothing")),
        ((4, 4), gray_profile(HUGE_TABLE)),
        ((4, 4, 3), rgb_profile(HUGE_TABLE, ADOBE_COLORANTS)),
    ],
    ids=[
        "empty",
        "garbage",
        "cut",
        "gray profile on color",
        "gray profile with colorants on color",
        "CMYK profile on color",
        "color profile on gray",
        "no colorant",
        "no curve of blue",
        "cut table",
        "no curve",
        "gamma 0",
        "flat table",
        "unknown formula",
        "cut formula",
        "no kind of curve",
        "huge curve",
        "huge curves",
    ],
)
def test_an_unusable_profile_changes_nothing(shape, profile, dtype):
    pixels = np.full(shape, 100, dtype)
    tracemalloc.start()
    try:
        converted, remark = convert_to_srgb(pixels, profile)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert converted is pixels and remark is None
    assert peak < 20 * 2**20


@pytest.mark.parametrize(
    ("profile", "shape"),
    [
        (LINEAR_GRAY, (8, 8)),
        (gray_profile(CURVES["formula 4"]), (8, 8)),
        (ADOBE_RGB, (8, 8, 3)),
        (ADOBE_TABLES, (8, 8, 3)),
        (INKS, (8, 8, 4)),
    ],
    ids=["gray gamma", "gray formula", "color", "tables", "inks"],
)
def test_random_damage_never_raises(profile, shape):
    random = np.random.default_rng(4)
    dtypes = [np.uint8] if shape[-1] == 4 else [np.uint8, np.uint16]
    for _ in range(80):
        damaged = np.frombuffer(profile, np.uint8).copy()
        # More of it in the header and the table of tags, which all else depends on.
        for end in (len(damaged), 300):
            places = random.integers(0, end, random.integers(0, 4))
            damaged[places] = random.integers(0, 256, len(places), np.uint8)
        for dtype in dtypes:
            pixels = random.integers(0, np.iinfo(dtype).max, shape, dtype)
            converted, _ = convert_to_srgb(pixels, damaged.tobytes())
            assert converted.dtype == dtype
            assert converted.shape == (shape if shape[-1] != 4 else (8, 8, 3))


# --- Threads ---


def test_threads_side_by_side():
    calls = [
        (GRAY_16, LINEAR_GRAY),
        (RGB_16, ADOBE_RGB),
        (RGB_8, ADOBE_RGB),
        (RGB_16, ADOBE_TABLES),
    ] * 4
    expected = [convert_to_srgb(*call)[0] for call in calls]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda call: convert_to_srgb(*call)[0], calls))
    for result, alone in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, alone)
