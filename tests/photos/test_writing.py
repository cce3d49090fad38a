"""What is written is read back the same: pixels, alpha and all that a file says."""

import dataclasses
import io
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import (
    Metadata,
    Photo,
    encode_photo,
    fit_to_format,
    read_photo,
    write_photo,
)

LOSSLESS = ["PNG", "TIFF", "WEBP", "JPEG2000"]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/">'
    b"<dc:source>Box 12</dc:source></rdf:Description></rdf:RDF></x:xmpmeta>"
)
# An IPTC record of one caption, "Hello", as one of Photoshop's resources.
CAPTION = b"\x1c\x02\x78\x00\x05Hello"
PHOTOSHOP = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x0a" + CAPTION


def exif_block():
    exif = Image.Exif()
    exif[270] = "Market square, about 1912"
    exif[274] = 6
    exif.get_ifd(0x8769)[0x9003] = "1912:06:01 12:00:00"
    return exif.tobytes().removeprefix(b"Exif\0\0")


METADATA = Metadata(
    dpi=(600.0, 300.0),
    exif=exif_block(),
    xmp=XMP,
    photoshop=PHOTOSHOP,
    text=(("Description", "Marktplatz, gr\xfc\xdfend"), ("Title", "\u5e02\u5834")),
    comment=b"found in the attic",
)


def smooth(dtype, *shape):
    """Random pixels that lossy formats keep, too."""
    most = np.iinfo(dtype).max
    coarse = np.random.default_rng(len(shape)).uniform(0, most, (5, 6, *shape[2:]))
    fine = cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return fine.round().astype(dtype)


def photo(dtype=np.uint8, *, alpha=False, **values):
    return Photo(
        smooth(dtype, 40, 50, 3),
        smooth(dtype, 40, 50) if alpha else None,
        metadata=METADATA,
        **values,
    )


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(
    ("format", "dtype"),
    [
        *((format, np.uint8) for format in LOSSLESS),
        *((format, np.uint16) for format in ("PNG", "TIFF", "JPEG2000")),
    ],
)
def test_lossless_formats_keep_every_pixel(format, dtype, alpha):
    original = photo(dtype, alpha=alpha)
    back = read_photo(encode_photo(original, format))
    assert back.format == format and back.lossless
    assert back.pixels.dtype == dtype
    np.testing.assert_array_equal(back.pixels, original.pixels)
    if alpha:
        np.testing.assert_array_equal(back.alpha, original.alpha)
    else:
        assert back.alpha is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG2000"])
def test_gray_stays_gray(format, dtype):
    original = Photo(smooth(dtype, 40, 50))
    back = read_photo(encode_photo(original, format))
    np.testing.assert_array_equal(back.pixels, original.pixels)


@pytest.mark.parametrize("shape", [(1, 40), (40, 31), (32, 32)])
def test_16_bit_jpeg_2000_of_a_small_photo(shape):
    small = Photo(smooth(np.uint16, *shape, 3))
    if min(shape) < 32:
        with pytest.raises(
            PhotoError, match="16-bit .* at least 32 pixels; write a TIFF"
        ):
            encode_photo(small, "JPEG2000")
    else:
        back = read_photo(encode_photo(small, "JPEG2000"))
        np.testing.assert_array_equal(back.pixels, small.pixels)
    for other in (Photo(small.pixels[..., 0]), Photo(small.pixels.astype(np.uint8))):
        back = read_photo(encode_photo(other, "JPEG2000"))
        np.testing.assert_array_equal(back.pixels, other.pixels)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_what_was_lossy_stays_lossy_and_close(format):
    original = photo(lossless=False)
    encoded = encode_photo(original, format)
    back = read_photo(encoded)
    assert back.format == format and not back.lossless
    difference = np.abs(back.pixels.astype(int) - original.pixels)
    assert 0 < difference.mean() < 3  # WebP halves the resolution of colors.
    rough = encode_photo(original, format, quality=20)
    assert format == "JPEG2000" or len(rough) < len(encoded)


@pytest.mark.parametrize(
    ("extension", "format"),
    [
        (".jpg", "JPEG"),
        (".JPEG", "JPEG"),
        (".png", "PNG"),
        (".webp", "WEBP"),
        (".tif", "TIFF"),
        (".tiff", "TIFF"),
        (".avif", "AVIF"),
        (".jp2", "JPEG2000"),
    ],
)
def test_a_file_is_written_in_the_format_of_its_extension(tmp_path, extension, format):
    write_photo(tmp_path / f"new{extension}", photo())
    with Image.open(tmp_path / f"new{extension}") as image:
        assert image.format == format
    np.testing.assert_allclose(
        read_photo(tmp_path / f"new{extension}").pixels, photo().pixels, atol=30
    )


@pytest.mark.parametrize("extension", ["", ".txt", ".gif", ".bmp", ".heic", ".dng"])
def test_an_extension_that_is_not_written_is_refused(tmp_path, extension):
    with pytest.raises(PhotoError, match=r"cannot be written: name a \.jpg"):
        write_photo(tmp_path / f"new{extension}", photo())
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("pixels", "quality", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), 95, "uint8 or uint16 .* not float32"),
        (np.zeros((4, 4, 4), np.uint8), 95, r"not uint8 of shape \(4, 4, 4\)"),
        (np.zeros((4, 4), np.uint8), 101, "quality is a number from 1 to 100, not 101"),
    ],
)
def test_what_is_no_photo_writes_no_file(tmp_path, pixels, quality, message):
    with pytest.raises(ValueError, match=message):
        write_photo(tmp_path / "new.jpg", Photo(pixels), quality=quality)
    assert not list(tmp_path.iterdir())


def test_16_bits_are_what_other_programs_read():
    original = photo(np.uint16, alpha=True)
    expected = np.dstack([original.pixels, original.alpha])
    tiff = encode_photo(original, "TIFF")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(tiff)), expected)
    png = np.frombuffer(encode_photo(original, "PNG"), np.uint8)
    bgra = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(bgra[..., [2, 1, 0, 3]], expected)


def test_jpeg_is_on_white_where_the_photo_is_transparent():
    pixels = np.full((16, 16, 3), 100, np.uint8)
    alpha = np.full((16, 16), 51, np.uint8)  # a fifth
    back = read_photo(encode_photo(Photo(pixels, alpha), "JPEG"))
    np.testing.assert_allclose(back.pixels, 0.2 * 100 + 0.8 * 255, atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("format", "kept"),
    [
        ("JPEG", {"dpi", "exif", "xmp", "photoshop", "comment"}),
        ("PNG", {"dpi", "exif", "xmp", "text"}),
        ("TIFF", {"dpi", "exif", "xmp", "photoshop"}),
        ("WEBP", {"exif", "xmp"}),
        ("AVIF", {"exif", "xmp"}),
        ("JPEG2000", {"exif", "xmp"}),
    ],
)
def test_what_a_file_said_is_said_again(format, kept, dtype):
    back = read_photo(encode_photo(photo(dtype), format)).metadata
    for field in dataclasses.fields(Metadata):
        value, expected = getattr(back, field.name), getattr(METADATA, field.name)
        if field.name not in kept:
            assert not value, field.name
        elif field.name == "dpi":
            np.testing.assert_allclose(value, expected, rtol=1e-4)
        elif field.name == "exif":
            exif = Image.Exif()
            exif.load(value)
            assert exif[270] == "Market square, about 1912"
            assert exif.get(274, 1) == 1  # The pixels are upright.
            assert exif.get_ifd(0x8769)[0x9003] == "1912:06:01 12:00:00"
        else:
            assert value == expected, field.name


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000"])
def test_exiftool_finds_it_all_and_nothing_to_complain_of(format, tmp_path):
    (tmp_path / "photo").write_bytes(encode_photo(photo(), format))
    command = ["exiftool", "-a", "-G1", "-s", "-validate", "-warning", "-error"]
    names = [
        "-ImageDescription",
        "-DateTimeOriginal",
        "-XMP-dc:Source",
        "-Caption-Abstract",
    ]
    done = subprocess.run(
        [*command, *names, tmp_path / "photo"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Market square, about 1912" in done.stdout
    assert "1912:06:01 12:00:00" in done.stdout
    assert "Box 12" in done.stdout
    assert ("Hello" in done.stdout) == (format in ("JPEG", "TIFF"))
    assert "Error" not in done.stdout


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "JPEG2000"])
def test_a_resolution_is_kept_or_said_to_be_lost(format):
    photo = Photo(np.zeros((64, 64), np.uint8), metadata=Metadata(dpi=(300.0, 300.0)))
    name = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}.get(format, format)
    said = (
        f"{name} has no room for its resolution" in fit_to_format(photo, format).remarks
    )
    kept = read_photo(encode_photo(photo, format)).metadata.dpi
    assert said == (kept is None)
    assert said or kept == pytest.approx((300, 300), abs=0.1)


def test_colors_are_tagged_as_srgb():
    for format in ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"]:
        image = Image.open(io.BytesIO(encode_photo(photo(), format)))
        profile = io.BytesIO(image.info["icc_profile"])
        assert "sRGB" in ImageCms.getProfileDescription(profile), format


def test_pages_stay_together_each_with_its_own_metadata():
    xmp = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">%d</r:RDF>'
    pages = [
        Photo(
            smooth(np.uint16, 20 + 4 * number, 30),
            metadata=Metadata(dpi=(100.0 + number, 100.0), xmp=xmp % number),
        )
        for number in range(3)
    ]
    encoded = encode_photo(pages, "TIFF")
    for number, page in enumerate(pages):
        back = read_photo(encoded, page=number)
        assert back.pages == 3
        np.testing.assert_array_equal(back.pixels, page.pixels)
        assert back.metadata.xmp == page.metadata.xmp
        assert back.metadata.dpi == page.metadata.dpi
