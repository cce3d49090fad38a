"""Photo files of every kind that people have, against colors known beforehand."""

import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from new_process import run_program
from PIL import Image, ImageCms

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import (
    Photo,
    find_photos,
    read_photo,
    read_rgb,
    resize_photo,
    write_photo,
)

# Six flat squares: whatever turns, flips or swaps channels shows, and lossy formats
# keep them.
COLORS = np.array(
    [
        [[200, 40, 30], [30, 180, 60]],
        [[20, 50, 190], [240, 230, 60]],
        [[10, 10, 10], [250, 250, 250]],
    ],
    np.uint8,
)
PHOTO = COLORS.repeat(32, axis=0).repeat(32, axis=1)  # [96, 64, 3]
GRAY = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)


def encode(image: Image.Image | np.ndarray, format: str, **options) -> bytes:
    """Encodes pixels with Pillow."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    encoded = io.BytesIO()
    image.save(encoded, format, **options)
    return encoded.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    )


def assert_near(actual: np.ndarray, expected: np.ndarray, levels: int) -> None:
    """Asserts equal shapes and values that differ by a number of levels at most."""
    assert actual.dtype == np.uint8
    assert actual.shape == expected.shape
    np.testing.assert_allclose(
        actual.astype(int), expected.astype(int), rtol=0, atol=levels
    )


# --- Formats ---


@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.JPEG", "d.webp"])
def test_reads_what_opencv_wrote(tmp_path, name):
    path = tmp_path / name
    cv2.imwrite(str(path), PHOTO[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
    truth = cv2.imread(str(path))[..., ::-1]
    np.testing.assert_array_equal(read_rgb(path), truth)
    np.testing.assert_array_equal(read_rgb(path.read_bytes()), truth)


def test_progressive_jpeg():
    encoded = encode(PHOTO, "JPEG", quality=95, progressive=True)
    truth = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_rgb(encoded), truth)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_gray_has_three_equal_channels(format):
    options = {} if format == "PNG" else {"quality": 100}
    photo = read_rgb(encode(GRAY, format, **options))
    assert_near(photo, np.stack([GRAY] * 3, axis=-1), 2)
    np.testing.assert_array_equal(photo[..., 0], photo[..., 1])
    np.testing.assert_array_equal(photo[..., 0], photo[..., 2])


def test_one_bit_png_is_black_and_white():
    photo = read_rgb(encode(Image.fromarray(GRAY > 127), "PNG"))
    np.testing.assert_array_equal(
        photo, np.stack([(GRAY > 127) * np.uint8(255)] * 3, axis=-1)
    )


def test_16_bit_gray_is_scaled_over_the_whole_range():
    wide = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    encoded = cv2.imencode(".png", wide)[1].tobytes()
    expected = np.rint(wide / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_rgb(encoded), np.stack([expected] * 3, axis=-1))


def test_16_bit_color_is_scaled_over_the_whole_range():
    wide = np.random.default_rng(0).integers(0, 65536, (32, 32, 3)).astype(np.uint16)
    encoded = cv2.imencode(".png", wide[..., ::-1])[1].tobytes()
    assert_near(read_rgb(encoded), np.rint(wide / 257).astype(np.uint8), 1)


@pytest.mark.parametrize("alpha", [0, 128, 255])
@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_alpha_is_composited_on_white(format, alpha):
    rgba = np.dstack([PHOTO, np.full(PHOTO.shape[:2], alpha, np.uint8)])
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    expected = np.rint(PHOTO * (alpha / 255) + (255 - alpha)).astype(np.uint8)
    assert_near(read_rgb(encode(rgba, format, **options)), expected, 1)


def test_gray_with_alpha_is_composited_on_white():
    image = Image.merge("LA", [Image.fromarray(GRAY), Image.new("L", (64, 96), 51)])
    expected = np.rint(GRAY * 0.2 + 204).astype(np.uint8)
    assert_near(read_rgb(encode(image, "PNG")), np.stack([expected] * 3, axis=-1), 1)


def test_palette():
    image = Image.fromarray(PHOTO).quantize(6)
    np.testing.assert_array_equal(read_rgb(encode(image, "PNG")), PHOTO)


@pytest.mark.parametrize("as_bytes", [False, True])
def test_transparent_palette_entry_becomes_white(as_bytes):
    image = Image.fromarray(PHOTO).quantize(6)
    black = image.getpixel((5, 70))
    transparency = (
        bytes(0 if index == black else 255 for index in range(6)) if as_bytes else black
    )
    expected = PHOTO.copy()
    expected[64:, :32] = 255
    encoded = encode(image, "PNG", transparency=transparency)
    np.testing.assert_array_equal(read_rgb(encoded), expected)


def test_transparent_color_becomes_white():
    expected = PHOTO.copy()
    expected[64:, :32] = 255
    encoded = encode(PHOTO, "PNG", transparency=(10, 10, 10))
    np.testing.assert_array_equal(read_rgb(encoded), expected)


def test_transparent_16_bit_gray_becomes_white():
    wide = np.array([[257 * 10, 257 * 10 + 1, 65535]], np.uint16)
    encoded = cv2.imencode(".png", wide)[1].tobytes()
    end_of_header = 8 + 25  # signature and IHDR
    transparency = png_chunk(b"tRNS", struct.pack(">H", 2570))
    encoded = encoded[:end_of_header] + transparency + encoded[end_of_header:]
    np.testing.assert_array_equal(read_rgb(encoded)[0, :, 0], [255, 10, 255])


def cmyk_jpeg(inks: np.ndarray, transform: int) -> bytes:
    """A JPEG as Photoshop writes it: inverted inks, as CMYK (transform 0) or YCCK (2)."""
    stored = 255 - inks
    if transform == 2:  # CMY are stored as the YCbCr of their complement
        ycrcb = cv2.cvtColor(255 - stored[..., :3], cv2.COLOR_RGB2YCrCb)
        stored = np.dstack([ycrcb[..., [0, 2, 1]], stored[..., 3]])
    # Pillow inverts what it writes, too.
    image = Image.fromarray(255 - stored, mode="CMYK")
    encoded = encode(image, "JPEG", quality=100, subsampling=0)
    transform_byte = encoded.index(b"Adobe") + 11
    return encoded[:transform_byte] + bytes([transform]) + encoded[transform_byte + 1 :]


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_jpeg(transform):
    rgb = PHOTO[:64].astype(float)
    black = np.full(rgb.shape[:2], 51, np.uint8)  # a fifth of black ink
    inks = np.dstack([255 - PHOTO[:64], black])
    expected = np.rint(rgb * 0.8).astype(np.uint8)
    assert_near(read_rgb(cmyk_jpeg(inks, transform)), expected, 3)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_animation_gives_its_first_frame(format):
    others = [Image.new("RGB", (64, 96), color) for color in ("red", "blue")]
    options = {"save_all": True, "append_images": others, "duration": 100}
    if format == "WEBP":
        options["lossless"] = True
    encoded = encode(PHOTO, format, **options)
    assert Image.open(io.BytesIO(encoded)).n_frames == 3
    np.testing.assert_array_equal(read_rgb(encoded), PHOTO)


def test_phone_photo_with_a_second_picture_inside():
    encoded = encode(
        PHOTO, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 96))]
    )
    truth = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(read_rgb(encoded), truth)


# --- Orientation ---

# How a camera stores an upright scene under each EXIF orientation (CIPA DC-008, tag 274:
# where row 0 and column 0 of the file lie in the scene).
STORED = {
    1: lambda scene: scene,  # top, left
    2: np.fliplr,  # top, right
    3: lambda scene: np.rot90(scene, 2),  # bottom, right
    4: np.flipud,  # bottom, left
    5: lambda scene: scene.swapaxes(0, 1),  # left, top
    6: lambda scene: np.rot90(scene, 1),  # right, top
    7: lambda scene: np.rot90(scene, 2).swapaxes(0, 1),  # right, bottom
    8: lambda scene: np.rot90(scene, -1),  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(format, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    options = (
        {"subsampling": 0, "quality": 100} if format == "JPEG" else {"lossless": True}
    )
    stored = np.ascontiguousarray(STORED[orientation](PHOTO))
    photo = read_rgb(encode(stored, format, exif=exif, **options))
    assert_near(photo, PHOTO, 8)
    assert photo.flags.c_contiguous
    assert photo.flags.writeable


def test_opencv_agrees_on_orientation(tmp_path):
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f"{orientation}.jpg"
        path.write_bytes(encode(PHOTO, "JPEG", exif=exif))
        np.testing.assert_array_equal(read_rgb(path), cv2.imread(str(path))[..., ::-1])


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_meaningless_orientation_counts_as_upright(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    np.testing.assert_array_equal(read_rgb(encode(PHOTO, "PNG", exif=exif)), PHOTO)


def test_oddities_cost_no_photo_and_no_words(tmp_path):
    exif = Image.Exif()
    exif[271] = "a camera of some make"
    cut_exif = exif.tobytes()[:-5]
    (tmp_path / "exif.jpg").write_bytes(encode(PHOTO, "JPEG", exif=cut_exif))
    # Beyond the size at which Pillow warns of a decompression bomb.
    large = Image.new("L", (9_600, 9_600), 128)
    (tmp_path / "large.jpg").write_bytes(encode(large, "JPEG"))
    code = """
from colorgan_jax.photos import silence_decoders, read_rgb
silence_decoders()  # as the entry points do
print(read_rgb("exif.jpg").shape, read_rgb("large.jpg", minimum_size=9).shape)
"""
    done = run_program(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "(96, 64, 3) (1200, 1200, 3)\n"
    assert done.stderr == ""


# --- Color profiles ---


def icc_profile(
    space: bytes, curves: dict[bytes, float], colorants: dict[bytes, tuple]
) -> bytes:
    """An ICC version 2 profile of gamma curves and D50 primaries."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    tags = {b"desc": b"desc\0\0\0\0\0\0\0\5test\0" + bytes(78)}
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + fixed(0.9642, 1.0, 0.8249)
    for name, gamma in curves.items():
        tags[name] = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256))
    for name, colorant in colorants.items():
        tags[name] = b"XYZ \0\0\0\0" + fixed(*colorant)
    table, content = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, tag in tags.items():
        tag += bytes(-len(tag) % 4)
        table += name + struct.pack(">II", start + len(content), len(tag))
        content += tag
    header = struct.pack(">I4sI", start + len(content), b"test", 0x02100000)
    header += b"mntr" + space + b"XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += fixed(0.9642, 1.0, 0.8249)
    return header + bytes(128 - len(header)) + table + content


# Adobe RGB (1998): gamma 563/256 and its primaries adapted to D50.
ADOBE_RGB = icc_profile(
    b"RGB ",
    {b"rTRC": 563 / 256, b"gTRC": 563 / 256, b"bTRC": 563 / 256},
    {
        b"rXYZ": (0.60974, 0.31111, 0.01947),
        b"gXYZ": (0.20528, 0.62567, 0.06087),
        b"bXYZ": (0.14919, 0.06322, 0.74457),
    },
)


def to_adobe_rgb(srgb: np.ndarray) -> np.ndarray:
    """sRGB to Adobe RGB by their definitions (both D65; the sRGB gamut lies within)."""
    values = srgb / 255
    linear = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    matrix = np.array(
        [[0.71515, 0.28485, 0.0], [0.0, 1.0, 0.0], [0.0, 0.04117, 0.95883]]
    )
    return np.rint(255 * (linear @ matrix.T) ** (256 / 563)).astype(np.uint8)


@pytest.mark.parametrize("with_alpha", [False, True])
def test_adobe_rgb_is_converted(with_alpha):
    adobe = to_adobe_rgb(PHOTO)
    assert np.abs(adobe.astype(int) - PHOTO).max() > 20  # else the test shows nothing
    if with_alpha:
        adobe = np.dstack([adobe, np.full(PHOTO.shape[:2], 255, np.uint8)])
    assert_near(read_rgb(encode(adobe, "PNG", icc_profile=ADOBE_RGB)), PHOTO, 2)


def test_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(
        read_rgb(encode(PHOTO, "PNG", icc_profile=profile)), PHOTO
    )


@pytest.mark.parametrize("with_alpha", [False, True])
def test_gray_profile_is_converted_and_stays_gray(with_alpha):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(stored)
    if with_alpha:
        image.putalpha(255)
    profile = icc_profile(b"GRAY", {b"kTRC": 1.8}, {})
    linear = (stored / 255) ** 1.8
    srgb = np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055
    )
    expected = np.rint(255 * srgb).astype(np.uint8)
    assert (
        np.abs(expected.astype(int) - stored).max() > 15
    )  # else the test shows nothing
    photo = read_rgb(encode(image, "PNG", icc_profile=profile))
    assert_near(photo, np.stack([expected] * 3, axis=-1), 2)
    np.testing.assert_array_equal(photo[..., 0], photo[..., 1])
    np.testing.assert_array_equal(photo[..., 0], photo[..., 2])


@pytest.mark.parametrize(
    "profile",
    [b"no profile at all", ADOBE_RGB[:200], icc_profile(b"GRAY", {b"kTRC": 1.0}, {})],
    ids=["garbage", "cut", "gray profile on a color photo"],
)
def test_unusable_profile_is_ignored(profile):
    np.testing.assert_array_equal(
        read_rgb(encode(PHOTO, "PNG", icc_profile=profile)), PHOTO
    )


# --- Files that cannot be read ---

NOISE = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_file_cut_short_is_refused(tmp_path, format, options, part):
    encoded = encode(NOISE, format, **options)
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded[: int(part * len(encoded))])
    with pytest.raises(PhotoError, match=r"cut\.jpg is damaged or cut short"):
        read_rgb(path)


def test_damaged_png_is_refused():
    encoded = bytearray(encode(NOISE, "PNG"))
    encoded[len(encoded) // 2] ^= 0x10
    with pytest.raises(PhotoError, match="damaged"):
        read_rgb(bytes(encoded))


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(PhotoError, match=r"empty\.png is empty"):
        read_rgb(path)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "BMP"])
def test_a_photo_is_what_it_holds_not_what_it_is_called(tmp_path, format):
    path = tmp_path / "wrongly_named.jpg"
    path.write_bytes(encode(GRAY, format))
    np.testing.assert_array_equal(read_rgb(path), np.stack([GRAY] * 3, axis=-1))
    assert read_photo(path).format == format


def test_text_is_refused_by_its_given_name():
    with pytest.raises(PhotoError, match="photo 17 of coco is not a photo of a known"):
        read_rgb(b"<html>404</html>", name="photo 17 of coco")


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(PhotoError, match=r"none\.jpg cannot be opened: No such file"):
        read_rgb(tmp_path / "none.jpg")
    with pytest.raises(PhotoError, match="is a folder, not a photo"):
        read_rgb(tmp_path)


@pytest.mark.parametrize(
    "side", [14_000, 60_000]
)  # beyond our limit, and beyond twice Pillow's
@pytest.mark.parametrize("pillow_limit", [None, 89_478_485])
def test_decompression_bomb_is_refused(monkeypatch, side, pillow_limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    encoded = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    encoded += png_chunk(b"IDAT", zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    with pytest.raises(PhotoError, match="more than 178 million pixels"):
        read_rgb(encoded)


# --- Fast decoding of what is shrunk anyway ---


def test_minimum_size_shrinks_a_large_jpeg_but_not_below():
    large = np.ascontiguousarray(
        PHOTO.repeat(10, axis=0).repeat(10, axis=1)
    )  # [960, 640]
    encoded = encode(large, "JPEG", quality=95)
    photo = read_rgb(encoded, minimum_size=100)
    assert photo.shape == (240, 160, 3)  # a quarter; an eighth would leave 80 pixels
    expected = cv2.resize(large, (160, 240), interpolation=cv2.INTER_AREA)
    assert_near(photo[4:76, 4:76], expected[4:76, 4:76], 4)
    assert read_rgb(encoded, minimum_size=641).shape == (960, 640, 3)
    assert read_rgb(encode(PHOTO, "PNG"), minimum_size=8).shape == PHOTO.shape


def test_threads_read_side_by_side(tmp_path):
    paths = []
    for index in range(40):
        paths.append(tmp_path / f"{index}.png")
        write_photo(paths[-1], Photo(np.roll(PHOTO, index, axis=0)))
    with ThreadPoolExecutor(8) as threads:
        for index, photo in enumerate(threads.map(read_rgb, paths)):
            np.testing.assert_array_equal(photo, np.roll(PHOTO, index, axis=0))


# --- Resizing ---


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_shrinking_averages_areas(dtype, channels):
    values = np.random.default_rng(2).integers(0, 256, (32, 48, channels)).astype(dtype)
    expected = values.reshape(8, 4, 16, 3, channels).mean(axis=(1, 3))
    resized = resize_photo(values, 8, 16)
    assert resized.dtype == dtype
    np.testing.assert_allclose(
        resized, expected, rtol=0, atol=0.51 if dtype == np.uint8 else 1e-3
    )


@pytest.mark.parametrize(
    "shape", [(30, 40), (30, 40, 1), (30, 40, 2), (30, 40, 3), (30, 40, 7)]
)
@pytest.mark.parametrize(
    "size", [(30, 40), (12, 17), (61, 99), (12, 99), (61, 17), (1, 1)]
)
def test_resizing_keeps_rank_and_flat_values(shape, size):
    resized = resize_photo(np.full(shape, 77, np.uint8), *size)
    np.testing.assert_array_equal(resized, np.full((*size, *shape[2:]), 77, np.uint8))


def test_same_size_is_the_same_photo():
    np.testing.assert_array_equal(resize_photo(NOISE, 40, 40), NOISE)


def test_shrinking_one_axis_while_enlarging_the_other_does_not_alias():
    stripes = np.zeros((16, 64, 3), np.float32)
    stripes[:, ::2] = 200.0
    resized = resize_photo(stripes, 64, 16)  # four stripes to a pixel: flat gray
    np.testing.assert_allclose(resized, 100.0, rtol=0, atol=1e-3)
    np.testing.assert_allclose(
        resize_photo(stripes.swapaxes(0, 1), 16, 64), 100.0, rtol=0, atol=1e-3
    )


def test_enlarging_a_ramp_gives_a_ramp():
    ramp = np.tile(np.arange(16, dtype=np.float32)[None, :, None], (16, 1, 2))
    enlarged = resize_photo(ramp, 64, 64)
    centers = (np.arange(64) + 0.5) / 4 - 0.5  # pixel centers, not corners, are aligned
    inside = slice(8, -8)
    np.testing.assert_allclose(
        enlarged[32, inside, 0], centers[inside], rtol=0, atol=0.1
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_enlarging_an_edge_does_not_overshoot(dtype):
    edge = np.full((16, 16, 2), 50, dtype)
    edge[:, 8:] = 200
    enlarged = resize_photo(edge, 100, 100)
    assert enlarged.min() == 50
    assert enlarged.max() == 200


# --- Writing ---


@pytest.mark.parametrize(
    ("name", "levels"), [("a.png", 0), ("b.jpg", 4), ("c.JPEG", 4), ("d.webp", 16)]
)
def test_written_photo_reads_back(tmp_path, name, levels):
    write_photo(tmp_path / name, Photo(PHOTO))
    photo = cv2.imread(str(tmp_path / name))[..., ::-1]
    inside = np.s_[4:28, 4:28]  # WebP blends colors where squares meet
    assert_near(photo[inside], PHOTO[inside], levels)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_jpeg_keeps_colors_at_full_resolution(tmp_path):
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (200, 60, 60)
    stripes[:, 1::2] = (60, 60, 200)
    write_photo(tmp_path / "stripes.jpg", Photo(stripes))
    photo = read_rgb(tmp_path / "stripes.jpg")
    assert photo[:, ::2, 0].min() > 180  # 4:2:0 would blend red and blue to purple
    assert photo[:, 1::2, 0].max() < 80


def test_writing_replaces_an_older_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        write_photo(path, Photo(PHOTO))
        assert reader.read() == b"old"  # whoever reads the older file is not disturbed
    np.testing.assert_array_equal(read_rgb(path), PHOTO)


def test_failed_write_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    with pytest.raises(
        PhotoError, match=r"none.photo\.png cannot be written: No such file"
    ):
        write_photo(tmp_path / "none" / "photo.png", Photo(PHOTO))
    with pytest.raises(PhotoError, match=r"photo\.gif cannot be written: name a \.jpg"):
        write_photo(tmp_path / "photo.gif", Photo(PHOTO))
    with pytest.raises(PhotoError, match=r"wide\.webp cannot be encoded: .*16383"):
        write_photo(tmp_path / "wide.webp", Photo(np.zeros((1, 20_000, 3), np.uint8)))

    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "kept.png").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fill_disk)
    with pytest.raises(PhotoError, match=r"kept\.png cannot be written: No space left"):
        write_photo(tmp_path / "kept.png", Photo(PHOTO))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.png"]
    assert (tmp_path / "kept.png").read_bytes() == b"old"


# --- Finding ---


def test_finds_photos_at_any_depth_in_one_order(tmp_path):
    names = ["B.JPG", "a.jpeg", "b/c/x.png", "b/a.WebP", "b.png", "b-1/x.jpg"]
    left_out = [
        "._a.jpeg",
        ".hidden/x.jpg",
        "notes.txt",
        "b/x.psd",
        "jpg",
        "movie.jpg.mp4",
    ]
    for name in names + left_out:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    assert find_photos(tmp_path) == [tmp_path / name for name in sorted(names)]


def test_folder_without_photos_gives_an_empty_list(tmp_path):
    assert find_photos(tmp_path) == []


def test_missing_folder_and_file_are_refused(tmp_path):
    with pytest.raises(PhotoError, match="none does not exist"):
        find_photos(tmp_path / "none")
    (tmp_path / "a.jpg").touch()
    with pytest.raises(PhotoError, match=r"a\.jpg is a file, not a folder"):
        find_photos(tmp_path / "a.jpg")
