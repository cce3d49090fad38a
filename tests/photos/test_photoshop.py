"""Photoshop's image resources are carried whole, but for the thumbnails."""

import io
import struct

import numpy as np
import pytest
from exiftool import needs_exiftool, read_tags, write_tags
from PIL import Image

from colorgan_jax.photos.photoshop import (
    app13_segments,
    resources_of_jpeg,
    without_thumbnails,
)


def resource(number: int, data: bytes, name: bytes = b"", signature: bytes = b"8BIM"):
    block = signature + struct.pack(">HB", number, len(name)) + name
    block += bytes(len(block) % 2) + struct.pack(">I", len(data)) + data
    return block + bytes(len(data) % 2)


CAPTION = resource(0x0404, b"\x1c\x02\x78\x00\x05Hello")
PATH = resource(0x07D0, b"odd", name=b"Path 1")
IMAGE_READY = resource(0x0BBC, b"1234", signature=b"PHUT")
THUMBNAIL = resource(0x040C, bytes(28) + b"\xff\xd8 the photo in gray \xff\xd9")
OLD_THUMBNAIL = resource(0x0409, b"12345")


def jpeg(segments: bytes = b"") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, "JPEG")
    content = stream.getvalue()
    return content[:2] + segments + content[2:]


def test_thumbnails_go_and_the_rest_stays_to_the_byte():
    resources = THUMBNAIL + CAPTION + OLD_THUMBNAIL + PATH + THUMBNAIL + IMAGE_READY
    assert without_thumbnails(resources) == CAPTION + PATH + IMAGE_READY
    assert without_thumbnails(THUMBNAIL) == without_thumbnails(b"") == b""


@pytest.mark.parametrize(
    "damaged",
    [PATH[:5], PATH[:12], PATH[:-2], b"no resource", resource(1, b"")[:-1] + b"\xff"],
    ids=["cut number", "cut name", "cut data", "noise", "size beyond the end"],
)
def test_what_precedes_the_damage_is_kept(damaged):
    assert without_thumbnails(CAPTION + PATH + damaged) == CAPTION + PATH


def test_last_resource_may_lack_its_padding():
    assert without_thumbnails(CAPTION + PATH[:-1]) == CAPTION + PATH[:-1]


@pytest.mark.parametrize("size", [0, 1, 65_519, 65_520, 200_000])
def test_segments_hold_resources_of_any_size(size):
    resources = np.random.default_rng(size).bytes(size)
    segments = app13_segments(resources)
    assert len(segments) == size + 18 * -(-size // 65_519)
    with Image.open(io.BytesIO(jpeg(segments))) as image:
        assert resources_of_jpeg(image.applist) == resources


def test_other_segments_are_not_taken():
    segments = [
        ("APP0", b"Photoshop 3.0\0no"),
        ("APP13", b"Adobe_CM\0no"),
        ("APP13", b"Photoshop 3.0\0yes,"),
        ("COM", b"Photoshop 3.0\0no"),
        ("APP13", b"Adobe_Photoshop2.5:12345678 of old, too"),
    ]
    assert resources_of_jpeg(segments) == b"yes, of old, too"


@needs_exiftool
def test_exiftool_reads_what_spans_segments(tmp_path):
    large = resource(0x07D1, bytes(100_000), name=b"Path 2")
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(app13_segments(large + CAPTION + THUMBNAIL)))
    tags = read_tags(path)
    assert tags["IPTC:Caption-Abstract"] == "Hello"
    assert "Photoshop:PhotoshopThumbnail" in tags
    path.write_bytes(
        jpeg(app13_segments(without_thumbnails(large + CAPTION + THUMBNAIL)))
    )
    tags = read_tags(path)
    assert tags["IPTC:Caption-Abstract"] == "Hello"
    assert "Photoshop:PhotoshopThumbnail" not in tags
    assert "ExifTool:Warning" not in tags


@needs_exiftool
def test_what_exiftool_wrote_is_found(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg())
    write_tags(path, "-IPTC:Headline=Gold rush", "-Photoshop:URL=http://example.org")
    with Image.open(path) as image:
        resources = resources_of_jpeg(image.applist)
    path.write_bytes(jpeg(app13_segments(without_thumbnails(resources))))
    tags = read_tags(path)
    assert tags["IPTC:Headline"] == "Gold rush"
    assert tags["Photoshop:URL"] == "http://example.org"
