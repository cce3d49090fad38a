"""What archives have, read at its own precision; truth is what the test put in."""

import contextlib
import io
import os
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from new_process import run_program
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import (
    Metadata,
    Photo,
    count_pixels,
    encode_photo,
    find_files,
    find_photos,
    read_header,
    read_photo,
)

WIDE = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)
WIDE_ALPHA = np.random.default_rng(1).integers(0, 65536, (40, 50), np.uint16)
RAMP = (np.linspace(20, 230, 120)[None] * np.ones((90, 1))).astype(np.uint8)

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'


def tiff(pixels, **options):
    encoded = io.BytesIO()
    tifffile.imwrite(encoded, pixels, **options)
    return encoded.getvalue()


def pillow(image, format, **options):
    encoded = io.BytesIO()
    image.save(encoded, format, **options)
    return encoded.getvalue()


def png_chunk(kind, content):
    checksum = zlib.crc32(kind + content)
    return (
        struct.pack(">I", len(content)) + kind + content + checksum.to_bytes(4, "big")
    )


# --- TIFF ---


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (32, 32)},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
    ],
)
def test_16_bit_color_keeps_every_level(options):
    photo = read_photo(tiff(WIDE, photometric="rgb", **options))
    np.testing.assert_array_equal(photo.pixels, WIDE)
    assert photo.lossless and photo.pages == 1 and not photo.remarks


def test_16_bit_color_with_lzw_needs_no_further_package(tmp_path):
    cv2.imwrite(str(tmp_path / "lzw.tif"), WIDE[..., ::-1])  # OpenCV's default
    page = tifffile.TiffFile(tmp_path / "lzw.tif").pages[0]
    assert page.compression == tifffile.COMPRESSION.LZW
    np.testing.assert_array_equal(read_photo(tmp_path / "lzw.tif").pixels, WIDE)


def test_16_bit_color_in_separate_planes():
    planes = np.ascontiguousarray(np.moveaxis(WIDE, 2, 0))
    encoded = tiff(planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_photo(encoded).pixels, WIDE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_the_fourth_sample_is_alpha_only_where_it_says_so(kind, dtype):
    most = np.iinfo(dtype).max
    colors = (WIDE // (65535 // most)).astype(dtype)
    alpha = np.where(WIDE_ALPHA > 30_000, most, most // 3).astype(dtype)
    stored = colors
    if kind == "assocalpha":  # multiplied by alpha
        stored = (colors.astype(float) * alpha[..., None] / most).round().astype(dtype)
    encoded = tiff(np.dstack([stored, alpha]), photometric="rgb", extrasamples=[kind])
    photo = read_photo(encoded)
    # What was multiplied by a third has lost its last bits.
    np.testing.assert_allclose(
        photo.pixels.astype(int), colors, atol=3 if kind == "assocalpha" else 0
    )
    if kind == "unspecified":
        assert photo.alpha is None
    else:
        np.testing.assert_array_equal(photo.alpha, alpha)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_with_alpha_in_tiff(dtype):
    gray, alpha = WIDE[..., 0].astype(dtype), WIDE_ALPHA.astype(dtype)
    stored = np.dstack([gray, alpha])
    tags = [(274, "H", 1, 6, True)]
    encoded = tiff(
        stored, photometric="minisblack", extrasamples=["unassalpha"], extratags=tags
    )
    photo = read_photo(encoded)
    np.testing.assert_array_equal(photo.pixels, np.rot90(gray, -1))
    np.testing.assert_array_equal(photo.alpha, np.rot90(alpha, -1))
    header = read_header(encoded)
    assert (header.width, header.height) == (40, 50)
    assert header.bits == 8 * np.dtype(dtype).itemsize


def test_more_samples_than_colors_are_left_out():
    stored = np.dstack([WIDE, WIDE_ALPHA, WIDE_ALPHA])
    encoded = tiff(stored, photometric="rgb", extrasamples=["unspecified"] * 2)
    photo = read_photo(encoded)
    np.testing.assert_array_equal(photo.pixels, WIDE)
    assert photo.alpha is None and photo.format == "TIFF" and photo.lossless


def test_what_only_tifffile_knows_keeps_its_metadata():
    resolution = {"resolution": (300, 300), "resolutionunit": "inch"}
    tags = [(315, "s", 0, "Anna", True), (700, "B", len(XMP), XMP, True)]
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    encoded = io.BytesIO()
    with tifffile.TiffWriter(encoded) as writer:
        writer.write(WIDE[..., 0], photometric="minisblack")
        writer.write(WIDE[..., :2], extratags=tags, **resolution, **options)
    photo = read_photo(encoded.getvalue(), page=1)
    np.testing.assert_array_equal(photo.pixels, WIDE[..., 0])
    assert photo.pages == 2 and photo.metadata.dpi == (300, 300)
    assert b"Anna" in photo.metadata.exif and photo.metadata.xmp == XMP


def test_16_bit_color_with_lzma():
    encoded = tiff(WIDE, photometric="rgb", compression="lzma")
    np.testing.assert_array_equal(read_photo(encoded).pixels, WIDE)


@pytest.mark.parametrize("compression", ["jpegxl", "jpegxr", "lerc", "lzw", "zstd"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["gray", "colors", "planes"])
def test_compressions_that_imagecodecs_decodes(compression, dtype, kind):
    pytest.importorskip("imagecodecs")
    pixels = (WIDE // (65535 // np.iinfo(dtype).max)).astype(dtype)
    stored, options = pixels, {"photometric": "rgb"}
    if kind == "gray":
        stored = pixels = np.ascontiguousarray(pixels[..., 0])
        options = {"photometric": "minisblack"}
    elif kind == "planes":
        stored = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
        options["planarconfig"] = "separate"
    lossless = {"jpegxl": {"lossless": True}, "jpegxr": {"level": 1.0}}
    encoded = tiff(
        stored,
        compression=compression,
        compressionargs=lossless.get(compression),
        rowsperstrip=16,
        **options,
    )
    photo = read_photo(encoded)
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert photo.pixels.dtype == dtype and not photo.remarks
    assert read_header(encoded).bits == 8 * np.dtype(dtype).itemsize


LZW, ZSTD, LERC = 5, 50000, 34887


def test_a_compression_that_needs_a_package_is_named(tmp_path):
    planes = np.ascontiguousarray(np.moveaxis(WIDE, 2, 0))
    encoded = tiff(planes, photometric="rgb", planarconfig="separate")
    plain = struct.pack("<HHII", 259, 3, 1, 1)
    assert plain in encoded
    # Python 3.14 decodes Zstandard by itself.
    kinds = [LZW, LERC] if sys.version_info >= (3, 14) else [LZW, LERC, ZSTD]
    for kind in kinds:
        # No package at hand writes such files: only their tag 259 is as in them.
        packed = encoded.replace(plain, struct.pack("<HHII", 259, 3, 1, kind))
        (tmp_path / f"{kind}.tif").write_bytes(packed)
    # In a process of its own, because tifffile looks for the package but once.
    code = """
import sys
sys.modules["imagecodecs"] = None  # as if it were not installed
from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import read_photo
for name in sys.argv[1:]:
    try:
        read_photo(name)
    except PhotoError as error:
        print(error)
"""
    names = [f"{kind}.tif" for kind in kinds]
    done = run_program(code, *names, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{name} is a TIFF photo of a kind that needs a package more: pip install"
        " 'colorgan_jax[tiff]'"
        for name in names
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("kind", ["minisblack", "miniswhite"])
def test_gray_whichever_end_is_white(kind, dtype):
    gray = WIDE[..., 0].astype(dtype)
    stored = np.iinfo(dtype).max - gray if kind == "miniswhite" else gray
    photo = read_photo(tiff(stored, photometric=kind))
    np.testing.assert_array_equal(photo.pixels, gray)


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_compressed_8_bit_tiff(compression):
    photo = read_photo(pillow(Image.fromarray(RAMP), "TIFF", compression=compression))
    np.testing.assert_allclose(photo.pixels.astype(int), RAMP, atol=2)


@pytest.mark.parametrize("compression", ["group3", "group4", None])
def test_black_and_white_becomes_8_bits_and_is_told(compression):
    image = Image.fromarray(RAMP).convert("1")
    photo = read_photo(pillow(image, "TIFF", compression=compression))
    np.testing.assert_array_equal(photo.pixels, np.asarray(image) * np.uint8(255))
    assert photo.remarks == ("it is pure black and white, which takes no color",)


@pytest.mark.parametrize("bits", [8, 16])
def test_lab_has_the_gray_of_its_lightness(bits):
    if bits == 8:
        neutral = Image.new("L", RAMP.shape[::-1], 128)
        image = Image.merge("LAB", (Image.fromarray(RAMP), neutral, neutral))
        encoded = pillow(image, "TIFF")
    else:  # a and b have signs
        neutral = np.zeros(RAMP.shape, np.uint16)
        lab = np.dstack([RAMP.astype(np.uint16) * 257, neutral, neutral])
        encoded = tiff(lab, photometric="cielab")
    photo = read_photo(encoded)
    assert photo.remarks == (("its colors were read at 8 bits",) if bits == 16 else ())
    assert read_header(encoded).bits == 8
    # L from 0 to 100 in 255 steps; L = 50 is sRGB 118.9 (CIE and IEC 61966-2-1).
    y = ((RAMP / 2.55 + 16) / 116) ** 3
    gray = 255 * (1.055 * y ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(photo.pixels, np.dstack([gray] * 3), atol=1.1)


def test_every_page_can_be_read():
    encoded = io.BytesIO()
    with tifffile.TiffWriter(encoded) as writer:
        for number in range(3):
            writer.write(np.roll(WIDE, number, axis=0), photometric="rgb")
    for number in range(3):
        photo = read_photo(encoded.getvalue(), page=number)
        assert photo.pages == 3 == read_header(encoded.getvalue()).pages
        np.testing.assert_array_equal(photo.pixels, np.roll(WIDE, number, axis=0))


@pytest.mark.parametrize("kind", ["gray8", "gray16", "rgb8", "rgb16", "planes16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(kind, orientation):
    pixels = WIDE if kind.endswith("16") else (WIDE >> 8).astype(np.uint8)
    if kind.startswith("gray"):
        pixels = pixels[..., 0]
    options = {"photometric": "minisblack" if kind.startswith("gray") else "rgb"}
    stored = pixels
    if kind == "planes16":
        stored = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
        options["planarconfig"] = "separate"
    tags = [(274, "H", 1, orientation, True)]
    photo = read_photo(tiff(stored, extratags=tags, **options))
    # What row 0 and column 0 of the stored pixels are (TIFF 6.0, tag 274).
    upright = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: np.swapaxes(pixels, 0, 1),
        6: np.swapaxes(pixels[::-1], 0, 1),
        7: np.swapaxes(pixels[::-1, ::-1], 0, 1),
        8: np.swapaxes(pixels[:, ::-1], 0, 1),
    }[orientation]
    np.testing.assert_array_equal(photo.pixels, upright)


def test_numbers_of_32_bits_are_refused():
    with pytest.raises(PhotoError, match="numbers of 32 bits"):
        read_photo(tiff(WIDE[..., 0].astype(np.float32)), name="heights.tif")


# --- PNG ---


def test_16_bit_transparent_color_is_compared_at_16_bits():
    pixels = WIDE.copy()
    pixels[3, 4], pixels[3, 5] = (0x0101, 0x0202, 0x0303), (0x0101, 0x0202, 0x0304)
    encoded = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    place = encoded.index(b"IDAT") - 4
    key = png_chunk(b"tRNS", struct.pack(">3H", 0x0101, 0x0202, 0x0303))
    photo = read_photo(encoded[:place] + key + encoded[place:])
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert (photo.alpha[3, 4], photo.alpha[3, 5]) == (0, 65535)


def test_16_bit_gray_with_alpha():
    rows = np.dstack([WIDE[..., 0], WIDE_ALPHA]).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", 50, 40, 16, 4, 0, 0, 0)
    photo = read_photo(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(photo.pixels, WIDE[..., 0])
    np.testing.assert_array_equal(photo.alpha, WIDE_ALPHA)


# --- Others ---


@pytest.mark.parametrize("format", ["BMP", "GIF", "AVIF", "JPEG2000", "MPO", "WEBP"])
def test_other_formats(format):
    options = {"quality": 95} if format in ("AVIF", "MPO") else {}
    options = {"lossless": True} if format == "WEBP" else options
    photo = read_photo(pillow(Image.fromarray(RAMP).convert("RGB"), format, **options))
    expected = np.dstack([RAMP] * 3).astype(int)
    np.testing.assert_allclose(photo.pixels.astype(int), expected, atol=3)


def bmp(bits, width, height, rows, *, palette=(), masks=(), compression=0):
    """A BMP file of 11,811 pixels to the meter, which is 300 to the inch."""
    colors = b"".join(bytes([blue, green, red, 0]) for red, green, blue in palette)
    colors += struct.pack(f"<{len(masks)}I", *masks)
    size = 108 if len(masks) == 4 else 40  # The later header holds a mask of alpha.
    info = struct.pack("<IiiHHI", size, width, height, 1, bits, compression)
    info += struct.pack("<IiiII", len(rows), 11811, 11811, len(palette), 0) + colors
    info = info.ljust(size, b"\0")
    start = 14 + len(info)
    return struct.pack("<2sIII", b"BM", start + len(rows), 0, start) + info + rows


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FOUR = [RED, GREEN, BLUE, WHITE]


# Each with its lower row first: blue and white, below red and green.
@pytest.mark.parametrize(
    "encoded",
    [
        bmp(4, 2, 2, b"\x23\0\0\0\x01\0\0\0", palette=FOUR),
        bmp(8, 2, 2, b"\2\3\0\0\0\1\0\0", palette=FOUR),
        bmp(8, 2, -2, b"\0\1\0\0\2\3\0\0", palette=FOUR),  # upper row first
        bmp(8, 2, 2, b"\1\2\1\3\0\0\1\0\1\1\0\1", palette=FOUR, compression=1),
        bmp(4, 2, 2, b"\2\x23\0\0\2\x01\0\1", palette=FOUR, compression=2),
        bmp(16, 2, 2, struct.pack("<4H", 31, 32767, 31 << 10, 31 << 5)),
        bmp(
            16,
            2,
            2,
            struct.pack("<4H", 31, 65535, 31 << 11, 63 << 5),
            masks=[31 << 11, 63 << 5, 31],
            compression=3,
        ),
        bmp(24, 2, 2, bytes([*BLUE[::-1], *WHITE, 0, 0, *RED[::-1], *GREEN, 0, 0])),
        bmp(32, 2, 2, struct.pack("<4I", 255, 0xFFFFFF, 255 << 16, 255 << 8)),
    ],
    ids=["4", "8", "top down", "RLE8", "RLE4", "5-5-5", "5-6-5", "24", "32"],
)
def test_bmp(encoded):
    photo = read_photo(encoded)
    np.testing.assert_array_equal(photo.pixels, [[RED, GREEN], [BLUE, WHITE]])
    assert photo.alpha is None and photo.format == "BMP" and not photo.remarks
    png = Image.open(io.BytesIO(encode_photo(photo, "PNG")))
    np.testing.assert_allclose(png.info["dpi"], 300, rtol=1e-4)
    header = read_header(encoded)
    assert (header.width, header.height, header.bits) == (2, 2, 8)


def test_bmp_of_one_bit_and_with_alpha():
    encoded = bmp(1, 2, 1, b"\x40\0\0\0", palette=[(0, 0, 0), WHITE])
    np.testing.assert_array_equal(read_photo(encoded).pixels, [[0, 255]])
    masks = [0xFF0000, 0xFF00, 0xFF, 0xFF000000]
    rows = struct.pack("<2I", 0x33FF0000, 0xFF00FF00)
    photo = read_photo(bmp(32, 2, 1, rows, masks=masks, compression=3))
    np.testing.assert_array_equal(photo.pixels, [[RED, GREEN]])
    np.testing.assert_array_equal(photo.alpha, [[0x33, 255]])


@pytest.mark.parametrize("frames", [1, 2])
def test_transparency_of_gif_is_kept_in_png(frames):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, *RED, *WHITE])
    image.putpixel((3, 0), 2)
    later = [Image.new("P", (4, 2), number) for number in range(1, frames)]
    options = {"transparency": 1, "save_all": True, "append_images": later}
    photo = read_photo(pillow(image, "GIF", **options))
    expected = np.zeros((2, 4), np.uint8)
    expected[0, 3] = 255
    np.testing.assert_array_equal(photo.alpha, expected)
    assert tuple(photo.pixels[0, 3]) == WHITE
    png = Image.open(io.BytesIO(encode_photo(photo, "PNG")))
    np.testing.assert_array_equal(png.getchannel("A"), expected)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_taken_and_that_is_told(format):
    frames = [Image.fromarray(RAMP).convert("RGB"), Image.new("RGB", (120, 90), "red")]
    encoded = pillow(frames[0], format, save_all=True, append_images=frames[1:])
    photo = read_photo(encoded)
    np.testing.assert_allclose(photo.rgb8()[..., 0].astype(int), RAMP, atol=12)
    assert photo.remarks == ("it has several pictures, of which this is the first",)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_whole(progressive):
    grain = np.random.default_rng(2).normal(128, 20, (200, 300)).clip(0, 255)
    whole = pillow(
        Image.fromarray(grain.astype(np.uint8)), "JPEG", progressive=progressive
    )
    photo = read_photo(whole[:-2])
    np.testing.assert_array_equal(photo.pixels, read_photo(whole).pixels)
    assert not photo.remarks
    with pytest.raises(PhotoError, match=r"half\.jpg is damaged or cut short"):
        read_photo(whole[: len(whole) // 2], name="half.jpg")


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_inside_a_jpeg_is_told(progressive):
    grain = np.random.default_rng(2).normal(128, 20, (400, 600)).clip(0, 255)
    damaged = bytearray(
        pillow(Image.fromarray(grain.astype(np.uint8)), "JPEG", progressive=progressive)
    )
    middle = len(damaged) // 2
    damaged[middle : middle + 512] = bytes(512)  # an unreadable sector of a disk
    photo = read_photo(bytes(damaged))
    assert photo.pixels.shape == (400, 600)
    (remark,) = photo.remarks
    assert "damaged" in remark and "parts of it may be wrong" in remark


@pytest.mark.parametrize("level", [0, 126, 255])
def test_a_wide_border_is_not_taken_for_damage(level):
    grain = np.random.default_rng(2).normal(128, 20, (300, 3000)).clip(0, 255)
    bordered = np.pad(grain.astype(np.uint8), 200, constant_values=level)
    for options in [{}, {"progressive": True}, {"optimize": True}]:
        assert not read_photo(
            pillow(Image.fromarray(bordered), "JPEG", **options)
        ).remarks


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(PhotoError, match=r"pipe\.jpg is a named pipe, not a photo"):
        read_photo(tmp_path / "pipe.jpg")


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(
        PhotoError, match=r"loop\.jpg cannot be opened: .*symbolic link"
    ):
        read_photo(tmp_path / "loop.jpg")


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_of_12_bits_is_scaled_over_the_whole_range(channels):
    pixels = WIDE >> 4
    pixels[0, :2] = [[0] * 3, [4095] * 3]
    # No encoder at hand writes 12 bits. In the lossless codestream of 16 bits they are
    # the same but for the offset of unsigned numbers, and for what it says of itself.
    shifted = pixels + np.uint16(2**15 - 2**11)
    photo = Photo(shifted if channels == 3 else shifted[..., 0])
    encoded = bytearray(encode_photo(photo, "JPEG2000"))
    sizes = encoded.index(b"\xff\x4f\xff\x51")
    for channel in range(channels):
        assert encoded[sizes + 42 + 3 * channel] == 16 - 1
        encoded[sizes + 42 + 3 * channel] = 12 - 1
    encoded[encoded.index(b"ihdr") + 14] = 12 - 1
    photo = read_photo(bytes(encoded))
    truth = pixels * (65535 / 4095)
    np.testing.assert_allclose(
        photo.pixels, truth if channels == 3 else truth[..., 0], rtol=0, atol=1
    )
    assert photo.lossless and read_header(bytes(encoded)).bits == 16


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_of_more_than_8_bits_is_told(bits):
    pixels = (WIDE >> 8).astype(np.uint8) if bits == 8 else WIDE >> (16 - bits)
    options = [cv2.IMWRITE_AVIF_DEPTH, bits]
    encoded = cv2.imencode(".avif", pixels, options)[1].tobytes()
    photo = read_photo(encoded)
    assert photo.pixels.dtype == np.uint8 and read_header(encoded).bits == 8
    assert photo.remarks == (() if bits == 8 else ("its colors were read at 8 bits",))


# --- XMP ---


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_damaged_xmp_is_left_out_and_told(format):
    damaged = XMP[: len(XMP) // 2]
    options = {"xmp": damaged}
    if format == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", damaged.decode())
    elif format == "TIFF":
        options = {"tiffinfo": {700: damaged}}
    photo = read_photo(pillow(Image.fromarray(RAMP), format, **options))
    assert photo.metadata.xmp == b""
    assert photo.remarks == ("its XMP is damaged and left out",)


@pytest.mark.parametrize("kind", ["B", "s", "I"])
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("channels", [1, 2])  # Pillow opens one, tifffile both.
def test_xmp_of_tiff_whatever_type_it_has(kind, byteorder, channels):
    accents = "<!--é-->".encode()
    xmp = XMP + accents + b" " * (-len(XMP + accents) % 4)
    value, count = xmp, len(xmp)
    if kind == "I":
        value = np.frombuffer(xmp, byteorder + "u4").tolist()
        count = len(value)
    elif kind == "s":
        count += 1  # a zero ends it
    encoded = tiff(
        WIDE[..., :channels].squeeze(),
        photometric="minisblack",
        planarconfig="contig" if channels == 2 else None,
        byteorder=byteorder,
        extratags=[(700, kind, count, value, True)],
    )
    assert read_photo(encoded).metadata.xmp == xmp
    assert read_header(encoded).xmp == xmp


def test_metadata_after_the_pixels_of_a_png():
    encoded = pillow(Image.fromarray(RAMP), "PNG")
    end = len(encoded) - 12
    exif = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 274, 3, 1, 6, 0, 0)
    xmp = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    photo = read_photo(encoded[:end] + png_chunk(b"eXIf", exif) + xmp + encoded[end:])
    assert photo.metadata.xmp == XMP
    np.testing.assert_array_equal(photo.pixels, np.rot90(RAMP, -1))


def test_extended_xmp_is_kept_as_it_stands():
    start = b"http://ns.adobe.com/xmp/extension/\0"
    parts = [start + b"A" * 32 + bytes(4), start + b"A" * 32 + b"further"]
    segments = [b"\xff\xe1" + struct.pack(">H", 2 + len(part)) + part for part in parts]
    image = Image.fromarray(RAMP)
    photo = read_photo(pillow(image, "JPEG", xmp=XMP, extra=b"".join(segments)))
    assert photo.metadata.extended_xmp == tuple(parts)
    assert photo.metadata.xmp == XMP


# --- HEIC ---


def heic(pixels, mode, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    size = pixels.shape[1::-1]
    image = pillow_heif.from_bytes(mode=mode, size=size, data=pixels.tobytes())
    encoded = io.BytesIO()
    image.save(encoded, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return encoded.getvalue()  # lossless


SQUARES = (
    np.random.default_rng(4).integers(0, 256, (4, 5, 3)).repeat(16, 0).repeat(16, 1)
)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 10])
def test_heic(channels, bits):
    # Of 10 bits each level ends as it begins, so that white is 65535.
    ten = SQUARES * 4 + SQUARES // 64
    stored = (ten * 64).astype(np.uint16) if bits == 10 else SQUARES.astype(np.uint8)
    truth = (ten * 64 + ten // 16).astype(np.uint16) if bits == 10 else stored
    alpha = truth[..., 0]
    if channels == 4:
        stored = np.dstack([stored, stored[..., 0]])
    elif channels == 1:
        stored = np.ascontiguousarray(stored[..., 0])
        truth = truth[..., 0]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels] + (";16" if bits == 10 else "")
    encoded = heic(stored, mode)
    photo = read_photo(encoded)
    assert photo.format == "HEIF" and not photo.lossless and not photo.remarks
    np.testing.assert_array_equal(photo.pixels, truth)
    if channels == 4:
        np.testing.assert_array_equal(photo.alpha, alpha)
    else:
        assert photo.alpha is None
    header = read_header(encoded)
    assert (header.width, header.height) == (80, 64)
    assert header.bits == (16 if bits == 10 else 8)


def test_heic_on_its_side_is_turned_once():
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[274], exif[315] = 6, "Anna"
    encoded = io.BytesIO()
    image = pillow_heif.from_pillow(Image.fromarray(SQUARES.astype(np.uint8)))
    image.save(encoded, quality=95, exif=exif.tobytes(), xmp=XMP)
    photo = read_photo(encoded.getvalue())
    # What was stored as the left column becomes the top row.
    expected = np.swapaxes(SQUARES[::-1], 0, 1)
    assert np.abs(photo.pixels.astype(int) - expected).mean() < 8
    assert photo.metadata.exif.startswith(b"MM") and b"Anna" in photo.metadata.exif
    header = read_header(encoded.getvalue())
    assert (header.width, header.height) == (64, 80)
    assert header.xmp == photo.metadata.xmp == XMP


def test_colors_of_heic_that_are_no_srgb_are_told():
    stored = SQUARES.astype(np.uint8)
    photo = read_photo(heic(stored, "RGB", color_primaries=9))  # BT.2020
    assert photo.remarks == ("its wide or HDR colors were read as sRGB",)


def test_of_several_heic_pictures_the_main_one_is_taken():
    pillow_heif = pytest.importorskip("pillow_heif")
    encoded = io.BytesIO()
    image = pillow_heif.from_pillow(Image.new("L", (64, 64), 200))
    image.add_from_pillow(Image.new("L", (32, 32), 90))
    image.save(encoded, quality=95, primary_index=1)
    photo = read_photo(encoded.getvalue())
    assert photo.pixels.shape[:2] == (32, 32) and abs(int(photo.pixels.mean()) - 90) < 2
    remark = "it has several pictures, of which this is the main one"
    assert photo.remarks == (remark,)


# --- RAW ---


def dng(levels, **options):
    """A DNG of a sensor's pixels (black 512, white 15000) behind red, green and blue.

    Its camera sees white as (0.5, 1, 0.6), which its white balance makes up for.
    """

    def rationals(numbers):
        return tuple(part for n in numbers for part in (round(n * 10**4), 10**4))

    from_xyz = [
        3.2405,
        -1.5371,
        -0.4985,
        -0.9693,
        1.8760,
        0.0416,
        0.0556,
        -0.2040,
        1.0572,
    ]
    tags = [
        (274, "H", 1, 6, True),  # on its side
        (271, "s", 0, "Colorgan", True),
        (33421, "H", 2, (2, 2), True),  # red, green; green, blue
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50714, "H", 1, 512, True),
        (50717, "H", 1, 15000, True),
        (50721, "2i", 9, rationals(from_xyz), True),
        (50728, "2I", 3, rationals([0.5, 1, 0.6]), True),
        (50778, "H", 1, 21, True),  # daylight of 6,500 K
        (700, "B", len(XMP), XMP, True),
    ]
    seen = np.array([[0.5, 1], [1, 0.6]])
    sensor = levels * np.tile(seen, (levels.shape[0] // 2, levels.shape[1] // 2))
    sensor = np.round(512 + sensor * (15000 - 512)).astype(np.uint16)
    return tiff(sensor, photometric=32803, extratags=tags, metadata=None, **options)


# Linear light: four patches side by side, the last of which is white.
LIGHT = np.ones((64, 1)) * np.repeat([0.05, 0.2, 0.5, 1.0], 24)


def test_raw_is_developed_at_16_bits_and_turned_upright():
    pytest.importorskip("rawpy")
    encoded = dng(LIGHT)
    photo = read_photo(encoded, name="no extension")
    assert photo.format == "RAW" and photo.lossless and not photo.remarks
    assert photo.pixels.dtype == np.uint16 and photo.pixels.shape == (96, 64, 3)
    patches = photo.pixels[12::24, 32].astype(int)  # The left one is on top now.
    assert np.ptp(patches, axis=1).max() < 65535 // 1000  # Gray is gray.
    # The curve of sRGB (IEC 61966-2-1); white is where LibRaw's brightening sets it.
    light = np.array([0.05, 0.2, 0.5]) / 0.95
    curve = 65535 * (1.055 * light ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(patches[:3, 1], curve, rtol=0.1)
    assert patches[3].min() == 65535
    assert b"Colorgan" in photo.metadata.exif and photo.metadata.xmp == XMP
    header = read_header(encoded)
    assert (header.format, header.bits, header.xmp) == ("RAW", 16, XMP)
    assert (header.width, header.height) == (64, 96)


def test_raw_is_not_taken_for_its_preview():
    pytest.importorskip("rawpy")
    encoded = io.BytesIO()
    with tifffile.TiffWriter(encoded) as writer:
        preview = np.full((16, 24, 3), 90, np.uint8)
        writer.write(preview, photometric="rgb", subfiletype=1, subifds=1)
        writer.write(np.zeros((64, 96), np.uint16), photometric=32803)
    photo = read_photo(encoded.getvalue(), name="photo.tif")
    assert photo.format == "RAW" and photo.pixels.shape == (64, 96, 3)
    # Nikon's names alone tell of some files that they are no TIFF.
    plain = tiff(np.full((16, 24, 3), 90, np.uint8), photometric="rgb")
    assert read_photo(plain, name="photo.tif").format == "TIFF"
    with pytest.raises(PhotoError, match=r"photo\.NEF is "):
        read_photo(plain, name="photo.NEF")


@pytest.mark.parametrize("read", [read_photo, read_header])
@pytest.mark.parametrize("name", ["phone.heic", "camera.dng", "camera.nef", "old.cr2"])
def test_a_missing_package_is_named(read, name, monkeypatch):
    content = {
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        "camera.dng": dng(LIGHT),
        "camera.nef": tiff(WIDE),
        "old.cr2": b"II*\0\x10\0\0\0CR\2\0" + bytes(64),
    }[name]
    kind, extra = ("HEIC", "heif") if name == "phone.heic" else ("RAW", "raw")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    how = rf"{name} is a {kind} photo, .*: pip install 'colorgan_jax\[{extra}\]'"
    with pytest.raises(PhotoError, match=how):
        read(content, name=name)


# --- Headers ---


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "format", ["JPEG", "PNG", "TIFF", "WEBP", "WEBP lossy", "AVIF", "JPEG2000"]
)
def test_the_header_of_what_was_written(tmp_path, format, channels, bits):
    pixels = WIDE if bits == 16 else (WIDE >> 8).astype(np.uint8)
    photo = Photo(
        pixels if channels == 3 else pixels[..., 0],
        lossless=format != "WEBP lossy",
        metadata=Metadata(xmp=XMP),
    )
    path = tmp_path / "named after nothing"
    path.write_bytes(encode_photo(photo, format.removesuffix(" lossy")))
    header = read_header(path)
    assert (header.width, header.height, header.pages) == (50, 40, 1)
    assert header.format == format.removesuffix(" lossy")
    assert header.bits == (16 if bits == 16 and format in WIDE_FORMATS else 8)
    assert header.xmp == XMP
    assert header == read_header(path.read_bytes())
    assert count_pixels(path) == 2000


WIDE_FORMATS = ("PNG", "TIFF", "JPEG2000")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_the_header_of_a_photo_on_its_side(format):
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(RAMP).convert("RGB")
    header = read_header(pillow(image, format, exif=exif))
    assert (header.width, header.height) == (90, 120)


def test_a_header_is_refused_where_the_photo_would_be(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.jpg").write_bytes(b"<html>404</html>")
    (tmp_path / "heights.tif").write_bytes(tiff(WIDE[..., 0].astype(np.float32)))
    # A lossless WebP of 16,384 x 16,384 pixels, of which the file holds none.
    side = (16384 - 1) | (16384 - 1) << 14
    chunk = b"VP8L" + struct.pack("<IBI", 5, 0x2F, side)
    large = b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk
    (tmp_path / "large.webp").write_bytes(large)
    for name, problem in {
        "none.jpg": "cannot be opened: No such file",
        "pipe.jpg": "is a named pipe",
        "empty.png": "is empty",
        "page.jpg": "is not a photo of a known format",
        "heights.tif": "holds numbers of 32 bits",
        "large.webp": "has more than 178 million pixels",
    }.items():
        for read in (read_header, count_pixels):
            with pytest.raises(PhotoError, match=f"{name} {problem}"):
                read(tmp_path / name)


# --- Finding ---


def test_what_is_left_out_of_a_folder_is_listed(tmp_path, monkeypatch):
    photos = ["a.JPG", "b/c.tif", "b/pipe.jpg", "broken.jpg", "loop.jpg", "z.jp2"]
    others = ["Thumbs.db", "b/notes.txt", "b/up", "noextension", "phone.HEIC", "x.NEF"]
    (tmp_path / "b" / ".hidden").mkdir(parents=True)
    for name in ("a.JPG", "b/c.tif", "z.jp2", "Thumbs.db", "b/notes.txt"):
        (tmp_path / name).touch()
    for name in ("noextension", "phone.HEIC", "x.NEF", "._a.JPG", "b/.hidden/d.jpg"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "b" / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "b" / "up").symlink_to("..")  # without end, if it were followed

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "rawpy", None)
    found = find_files(tmp_path)
    assert found.photos == [tmp_path / name for name in photos]
    assert found.others == [tmp_path / name for name in others]
    assert find_photos(tmp_path) == found.photos


def test_heic_and_raw_are_photos_where_their_packages_are(tmp_path):
    pytest.importorskip("pillow_heif")
    pytest.importorskip("rawpy")
    names = ["phone.HEIC", "x.NEF"]
    for name in names:
        (tmp_path / name).touch()
    assert find_files(tmp_path) == ([tmp_path / name for name in names], [])


# --- Damage ---


def test_decoders_say_nothing_of_damage_by_themselves(tmp_path):
    cv2.imwrite(str(tmp_path / "lzw.tif"), WIDE)  # which OpenCV decodes
    damaged = bytearray((tmp_path / "lzw.tif").read_bytes())
    damaged[2000:3000] = bytes(1000)
    (tmp_path / "lzw.tif").write_bytes(damaged)
    wide = tiff(WIDE, photometric="cielab")  # which tifffile decodes
    (tmp_path / "lab.tif").write_bytes(wide[:300])
    code = """
from colorgan_jax import photos
from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import silence_decoders, read_photo
silence_decoders()  # as the entry points do
for name in ("lzw.tif", "lab.tif"):
    try:
        read_photo(name)
    except PhotoError as error:
        print(error)
"""
    done = run_program(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(" is damaged")[0] for line in lines] == [
        "lzw.tif",
        "lab.tif",
    ]
    assert done.stderr == ""


@pytest.mark.parametrize(
    "kind",
    [
        *("JPEG", "progressive JPEG", "JPEG with EXIF", "PNG", "16-bit PNG", "TIFF"),
        *("16-bit TIFF", "LZW TIFF", "planar TIFF", "TIFF of tifffile", "BigTIFF"),
        *("WEBP", "lossless WEBP", "AVIF", "JPEG2000", "16-bit JPEG2000"),
        *("BMP", "GIF", "HEIC", "DNG"),
    ],
)
def test_flipped_bytes_never_crash(kind):
    image = Image.fromarray(RAMP[:24, :32]).convert("RGB")
    wide = WIDE[:24, :32]
    exif = Image.Exif()
    exif[271], exif.get_ifd(0x8769)[0x9003] = "Colorgan", "1912:06:01 12:00:00"
    encode = {
        "progressive JPEG": lambda: pillow(image, "JPEG", progressive=True),
        "JPEG with EXIF": lambda: pillow(image, "JPEG", exif=exif, xmp=XMP),
        "16-bit PNG": lambda: encode_photo(Photo(wide), "PNG"),
        "16-bit TIFF": lambda: tiff(wide, photometric="rgb"),
        "LZW TIFF": lambda: pillow(image, "TIFF", compression="tiff_lzw"),
        "planar TIFF": lambda: tiff(
            np.moveaxis(wide, 2, 0), photometric="rgb", planarconfig="separate"
        ),
        "TIFF of tifffile": lambda: tiff(
            wide, photometric="cielab", compression="zlib"
        ),
        "BigTIFF": lambda: tiff(wide[..., 0], bigtiff=True),
        "lossless WEBP": lambda: pillow(image, "WEBP", lossless=True, xmp=XMP),
        "16-bit JPEG2000": lambda: encode_photo(Photo(WIDE), "JPEG2000"),
        "HEIC": lambda: heic(np.asarray(image).repeat(2, 0), "RGB"),
        "DNG": lambda: pytest.importorskip("rawpy") and dng(LIGHT[:24]),
    }
    whole = encode[kind]() if kind in encode else pillow(image, kind)
    name = "photo.dng" if kind == "DNG" else "photo"
    random = np.random.default_rng(3)
    for number in range(20):
        damaged = bytearray(whole)
        # Every other one near the beginning, where the headers are.
        end = len(damaged) if number % 2 else min(300, len(damaged))
        for place in random.integers(0, end, random.integers(1, 4)):
            damaged[place] = random.integers(0, 256)
        damaged = bytes(damaged[: random.integers(len(damaged) // 2, 2 * len(damaged))])
        with contextlib.suppress(PhotoError):
            read_header(damaged, name)
        try:
            photo = read_photo(damaged, name)
        except PhotoError:
            continue
        assert encode_photo(photo, "TIFF")
