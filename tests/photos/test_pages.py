"""Pages of TIFF files: each whole, none that is a copy or a mask, and none read twice."""

import contextlib
import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import encode_photo, read_header, read_photo

WIDE = np.random.default_rng(0).integers(0, 65536, (48, 64, 3), np.uint16)
GRAY = (WIDE[..., 0] >> 8).astype(np.uint8)
OTHER = np.ascontiguousarray(GRAY[::-1])
MASK = GRAY > 99
LEFT_OUT = ("reduced copies and masks in its file are left out",)


def tiff(*pictures, **options):
    """A TIFF file of pictures, each of pixels and what tifffile is told of them."""
    encoded = io.BytesIO()
    with tifffile.TiffWriter(encoded, **options) as writer:
        for pixels, told in pictures:
            kind = "rgb" if pixels.ndim == 3 else "minisblack"
            told = {"photometric": kind, "metadata": None, **told}
            writer.write(pixels, **told)
    return encoded.getvalue()


def assert_pages(content, *pages, remarks=()):
    """Asserts that a file has these pages and no other, by its header, too."""
    header = read_header(content)
    assert header.pages == len(pages)
    assert (header.height, header.width) == pages[0].shape[:2]
    for number, pixels in enumerate(pages):
        photo = read_photo(content, page=number)
        assert photo.pages == len(pages) and photo.remarks == remarks
        np.testing.assert_array_equal(photo.pixels, pixels)
    for number in (-1, len(pages)):
        with pytest.raises(PhotoError, match=f"a.tif has no page number {number}"):
            read_photo(content, "a.tif", page=number)


# --- Which are pages ---


@pytest.mark.parametrize("pixels", [GRAY, WIDE])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_levels_of_a_pyramid_are_no_pages(pixels, bigtiff):
    half, quarter = pixels[::2, ::2], pixels[::4, ::4]
    tiles = {"tile": (16, 16)}
    below = [(pixels, {"subifds": 2}), (half, {"subfiletype": 1}), (quarter, {})]
    after = [(pixels, {}), (half, {"subfiletype": 1}), (quarter, {"subfiletype": 1})]
    for pictures in (below, after):
        pictures = [(array, told | tiles) for array, told in pictures]
        assert_pages(tiff(*pictures, bigtiff=bigtiff), pixels, remarks=LEFT_OUT)


def test_masks_are_no_pages():
    masks = [(MASK, {"subfiletype": 4}), (MASK[::2], {"subfiletype": 5})]
    content = tiff((GRAY, {}), masks[0], (OTHER, {"subfiletype": 2}), masks[1])
    assert_pages(content, GRAY, OTHER, remarks=LEFT_OUT)


@pytest.mark.parametrize("pixels", [GRAY, WIDE])
def test_a_thumbnail_before_the_photo_is_not_taken_for_it(pixels):
    small = pixels[::4, ::4]
    xmp = b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></r:RDF>'
    told = {"resolution": (600, 600), "resolutionunit": "inch"}
    told["extratags"] = [(315, "s", 0, "Anna", True), (700, "B", len(xmp), xmp, True)]
    after = tiff((small, {"subfiletype": 1}), (pixels, told))
    below = tiff((small, {"subfiletype": 1, "subifds": 1}), (pixels, told))
    for content in (after, below):
        assert_pages(content, pixels, remarks=LEFT_OUT)
        metadata = read_photo(content).metadata
        assert metadata.dpi == (600, 600) and b"Anna" in metadata.exif
        assert metadata.xmp == xmp == read_header(content).xmp


@pytest.mark.parametrize("tag", [254, 255])  # the newer and the older one
def test_a_thumbnail_before_the_photo_as_pillow_writes_it(tag):
    encoded = io.BytesIO()
    small, photo = Image.fromarray(GRAY[::4, ::4]), Image.fromarray(GRAY)
    photo.encoderinfo = {"tiffinfo": {}}
    reduced = {tag: {254: 1, 255: 2}[tag]}
    small.save(encoded, "TIFF", tiffinfo=reduced, save_all=True, append_images=[photo])
    with Image.open(encoded) as image:
        assert image.n_frames == 2 and image.tag_v2[tag] == reduced[tag]
    assert_pages(encoded.getvalue(), GRAY, remarks=LEFT_OUT)


def test_where_all_are_said_to_be_copies_each_is_a_page():
    content = tiff((GRAY, {"subfiletype": 1}), (OTHER, {"subfiletype": 3}))
    assert_pages(content, GRAY, OTHER)


# --- Each from its own part of the file ---


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
        {"tile": (16, 32), "compression": "zlib"},
        {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 20},
    ],
)
@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("bigtiff", [False, True])
def test_pages_are_the_same_however_they_are_stored(told, byteorder, bigtiff):
    pages = [np.roll(WIDE, number, axis=0) for number in range(3)]
    stored = pages
    if "planarconfig" in told:
        stored = [np.ascontiguousarray(np.moveaxis(page, 2, 0)) for page in pages]
    pictures = [(page, told) for page in stored]
    content = tiff(*pictures, byteorder=byteorder, bigtiff=bigtiff)
    assert_pages(content, *pages)


@pytest.mark.parametrize(
    "compression",
    ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", None],
)
def test_pages_of_libtiff_are_what_pillow_reads(compression):
    mode = "1" if compression == "group4" else "RGB"
    pages = [Image.fromarray(page).convert(mode) for page in (GRAY, OTHER, MASK)]
    encoded = io.BytesIO()
    options = {"save_all": True, "append_images": pages[1:]}
    pages[0].save(encoded, "TIFF", compression=compression, **options)
    image = Image.open(encoded)
    for number in range(3):
        image.seek(number)
        photo = read_photo(encoded.getvalue(), page=number)
        np.testing.assert_array_equal(photo.rgb8(), np.array(image.convert("RGB")))


def test_pages_of_opencv(tmp_path):
    pages = [WIDE, WIDE[::-1], WIDE[:, ::-1]]
    path = tmp_path / "pages.tif"
    cv2.imwritemulti(str(path), [page[..., ::-1] for page in pages])  # LZW
    assert_pages(path.read_bytes(), *pages)


def bytes_read():
    """How many bytes this process has read of files."""
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="no count of bytes read")
@pytest.mark.parametrize("pixels", [GRAY, WIDE])
def test_all_pages_together_read_the_file_about_once(tmp_path, pixels):
    number = 20
    large = np.tile(pixels, (8, 4) + (1,) * (pixels.ndim - 2))
    path = tmp_path / "pages.tif"
    path.write_bytes(tiff(*[(large, {"rowsperstrip": 1})] * number))
    read_photo(path)  # Modules are read, too.
    before = bytes_read()
    for page in range(number):
        read_photo(path, page=page)
    assert bytes_read() - before < 2 * path.stat().st_size
    before = bytes_read()
    assert read_header(path).pages == number
    assert bytes_read() - before < path.stat().st_size / number


# --- Damage and oddities ---


def at_tag(content, tag):
    """Where the value of a tag stands in each directory of a little-endian file."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        return [page.tags[tag].offset + 8 for page in file.pages]


def test_pixels_without_a_size_are_read_as_well():
    content = bytearray(tiff((GRAY, {}), (OTHER, {})))
    for place in at_tag(content, 279):
        content[place : place + 4] = bytes(4)
    assert_pages(bytes(content), GRAY, OTHER)


def test_a_page_that_is_cut_off_does_not_harm_the_others():
    content = tiff((GRAY, {}), (OTHER, {}))[:-100]
    np.testing.assert_array_equal(read_photo(content).pixels, GRAY)
    with pytest.raises(PhotoError, match="cut.tif is damaged or cut short"):
        read_photo(content, "cut.tif", page=1)


@pytest.mark.parametrize("following", [9, 200, 10**6])
def test_a_link_to_a_page_that_leads_nowhere_is_told(following):
    content = bytearray(tiff((GRAY, {})))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        link_at = file.pages.first.offset + 2 + 12 * len(file.pages.first.tags)
    assert content[link_at : link_at + 4] == bytes(4)
    content[link_at : link_at + 4] = struct.pack("<I", following)
    remarks = ("its file may have further pages, which are damaged",)
    assert_pages(bytes(content), GRAY, remarks=remarks)


def test_a_file_without_a_page_is_damaged():
    for content in (b"II*\0" + bytes(100), b"II*\0\x08", b"MM\0*\0\0\0\x08"):
        for read in (read_photo, read_header):
            with pytest.raises(PhotoError, match="a.tif is damaged or cut short"):
                read(content, "a.tif")


def test_flipped_bytes_never_crash():
    small = {"subfiletype": 1, "subifds": 1}
    whole = tiff((GRAY[::4], small), (GRAY, {"rowsperstrip": 9}), (WIDE, {}))
    random = np.random.default_rng(0)
    for number in range(200):
        damaged = bytearray(whole)
        for place in random.integers(0, 900 if number % 2 else len(whole), 3):
            damaged[place] = random.integers(0, 256)
        damaged = bytes(damaged[: random.integers(len(whole) // 2, 2 * len(whole))])
        with contextlib.suppress(PhotoError):
            for page in range(min(read_header(damaged).pages, 5)):
                assert encode_photo(read_photo(damaged, page=page), "TIFF")
