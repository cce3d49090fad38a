"""EXIF blocks describe the photo as it is written, and lose nothing else."""

import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
import tifffile
from exiftool import needs_exiftool, read_tags, write_tags
from PIL import Image

from colorgan_jax.photos.directories import TiffReader
from colorgan_jax.photos.exif import (
    add_to_tiff,
    block_of_tiff,
    byte_order,
    make_upright,
    orientation,
)
from colorgan_jax.photos.pages import Pages

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
ITEM_SIZES = {1: 1, ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8, UNDEFINED: 1, 13: 4}
ITEM_SIZES |= {LONG8: 8, 17: 8, 18: 8}

GRAY_THUMBNAIL = b"\xff\xd8 the photo in gray \xff\xd9"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def table(order, start, tags, following=0, big=False):
    """A directory by hand: (tag, type, value bytes), larger values behind the table."""
    size, offset = (8, "Q") if big else (4, "I")
    end = start + (16 + 20 * len(tags) if big else 6 + 12 * len(tags))
    entries, values = b"", b""
    for tag, kind, value in tags:
        entries += struct.pack(order + "HH", tag, kind)
        entries += struct.pack(order + offset, len(value) // ITEM_SIZES[kind])
        if len(value) <= size:
            entries += value.ljust(size, b"\0")
        else:
            entries += struct.pack(order + offset, end + len(values))
            values += value + bytes(len(value) % 2)
    number = struct.pack(order + ("Q" if big else "H"), len(tags))
    return number + entries + struct.pack(order + offset, following) + values


def header(order, first=8):
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", first)


def shorts(order, *numbers):
    return struct.pack(f"{order}{len(numbers)}H", *numbers)


def longs(order, *numbers):
    return struct.pack(f"{order}{len(numbers)}I", *numbers)


def camera_block(order, behind_thumbnail=b"", thumbnail=GRAY_THUMBNAIL):
    """A block as cameras write it, Canon's maker notes with offsets into it.

    Returns:
      The block, and the offset of the maker notes in it.
    """
    main_at, exif_at, gps_at, interoperability_at = 8, 200, 600, 700
    second_at, thumbnail_at, note_at = 760, 840, 450
    owner = b"Owner of the camera\0".ljust(32, b"\0")
    note = table(order, note_at, [(9, ASCII, owner)])
    main = [
        (256, SHORT, shorts(order, 60)),
        (257, LONG, longs(order, 40)),
        (271, ASCII, b"Canon\0"),
        (272, ASCII, b"Canon EOS D30\0"),
        (274, SHORT, shorts(order, 6)),
        (282, RATIONAL, longs(order, 300, 1)),
        (34665, LONG, longs(order, exif_at)),
        (34853, LONG, longs(order, gps_at)),
    ]
    exif = [
        (33437, RATIONAL, longs(order, 28, 5)),
        (36864, UNDEFINED, b"0230"),
        (37500, UNDEFINED, note),
        (40961, SHORT, shorts(order, 65535)),
        (40962, SHORT, shorts(order, 60)),
        (40963, LONG, longs(order, 40)),
        (40965, LONG, longs(order, interoperability_at)),
    ]
    gps = [(1, ASCII, b"N\0"), (2, RATIONAL, longs(order, 47, 1, 22, 1, 30, 1))]
    interoperability = [(1, ASCII, b"R03\0"), (2, UNDEFINED, b"0100")]
    second = [
        (259, SHORT, shorts(order, 6)),
        (513, LONG, longs(order, thumbnail_at)),
        (514, LONG, longs(order, len(thumbnail))),
    ]
    parts = {
        0: header(order, main_at),
        main_at: table(order, main_at, main, following=second_at),
        exif_at: table(order, exif_at, exif),
        gps_at: table(order, gps_at, gps),
        interoperability_at: table(order, interoperability_at, interoperability),
        second_at: table(order, second_at, second),
        thumbnail_at: thumbnail + behind_thumbnail,
    }
    block = bytearray(thumbnail_at + len(parts[thumbnail_at]))
    for start, part in parts.items():
        assert not any(block[start : start + len(part)])
        block[start : start + len(part)] = part
    # The values of the Exif directory follow it; the note is where its offsets say.
    found = block.index(note)
    moved = table(order, found, [(9, ASCII, owner)])
    block[found : found + len(moved)] = moved
    return bytes(block), found


def jpeg(block):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", exif=b"Exif\0\0" + block)
    return stream.getvalue()


# --- Upright ---


@pytest.mark.parametrize("order", "<>")
def test_only_what_changed_is_patched(order):
    block, _ = camera_block(order)
    expected = bytearray(block)
    main, exif = 8 + 2, 200 + 2
    for at, tag, kind, number in (
        (main, 256, LONG, longs(order, 40)),
        (main + 12, 257, LONG, longs(order, 60)),
        (main + 4 * 12, 274, SHORT, shorts(order, 1, 0)),
        (exif + 3 * 12, 40961, SHORT, shorts(order, 1, 0)),
        (exif + 4 * 12, 40962, LONG, longs(order, 40)),
        (exif + 5 * 12, 40963, LONG, longs(order, 60)),
    ):
        entry = struct.pack(order + "HHI", tag, kind, 1) + number
        expected[at : at + 12] = entry
    expected[main + 8 * 12 : main + 8 * 12 + 4] = bytes(4)
    expected = bytes(expected).replace(b"R03\0", b"R98\0")
    assert make_upright(block, width=40, height=60) == expected[: -len(GRAY_THUMBNAIL)]


@pytest.mark.parametrize("order", "<>")
def test_maker_notes_stay_where_they_are(order):
    block, note_at = camera_block(order)
    note = block[note_at : note_at + 18 + 32]
    assert b"Owner of the camera" in note
    upright = make_upright(block, width=40, height=60)
    assert upright[note_at : note_at + 18 + 32] == note


@pytest.mark.parametrize("order", "<>")
def test_thumbnail_within_the_block_becomes_zeros(order):
    block, _ = camera_block(order, behind_thumbnail=b"more of the maker")
    upright = make_upright(block, width=40, height=60)
    assert len(upright) == len(block)
    assert upright.endswith(bytes(len(GRAY_THUMBNAIL)) + b"more of the maker")


@pytest.mark.parametrize("order", "<>")
def test_padding_behind_the_thumbnail_goes_with_it(order):
    block, _ = camera_block(order, behind_thumbnail=bytes(100))
    assert make_upright(block, width=40, height=60) == make_upright(
        camera_block(order)[0], width=40, height=60
    )


@pytest.mark.parametrize("order", "<>")
def test_thumbnail_in_strips_goes(order):
    second_at = 8 + 6 + 12
    strips_at = second_at + 6 + 2 * 12 + 16
    second = [
        (273, LONG, longs(order, strips_at + 10, strips_at)),
        (279, LONG, longs(order, 10, 10)),
    ]
    main = table(order, 8, [(274, SHORT, shorts(order, 1))], following=second_at)
    kept = header(order) + main + table(order, second_at, second)
    block = kept + b"upper rowslower rows"
    upright = make_upright(block, width=40, height=60)
    assert len(upright) == len(kept)
    assert orientation(upright) == 1


@pytest.mark.parametrize("order", "<>")
def test_thumbnail_that_claims_the_rest_of_the_block_takes_nothing(order):
    # Its offset and length cover the Exif directory and all that follows.
    block, note_at = camera_block(order)
    at = 760 + 2 + 12
    claim = struct.pack(order + "HHIIHHII", 513, LONG, 1, 150, 514, LONG, 1, 10**6)
    block = block[:at] + claim + block[at + 24 :]
    upright = make_upright(block, width=40, height=60)
    assert len(upright) == len(block)
    assert b"Owner of the camera" in upright
    assert longs(order, 47, 1, 22, 1, 30, 1) in upright


def test_zeros_behind_the_thumbnail_stay_if_they_are_a_value():
    # A place on the equator and on the meridian.
    gps_at, second_at, thumbnail_at = 26, 44 + 24, 100 + 24
    gps = table("<", gps_at, [(2, RATIONAL, longs("<", 0, 1, 0, 1, 0, 1))])
    gps = gps[:10] + longs("<", 150) + gps[14:18]
    second = [(513, LONG, longs("<", thumbnail_at)), (514, LONG, longs("<", 26))]
    block = header("<") + table("<", 8, [(34853, LONG, longs("<", gps_at))], second_at)
    block = (block + gps).ljust(second_at, b"\0") + table("<", second_at, second)
    block = block.ljust(thumbnail_at, b"\0") + bytes(range(26)) + bytes(24)
    upright = make_upright(block, width=40, height=60)
    assert len(upright) == len(block) == 174
    assert bytes(range(26)) not in upright


def test_absent_tags_stay_absent():
    block = header("<") + table("<", 8, [(271, ASCII, b"Acme\0")])
    assert make_upright(block, width=40, height=60) == block


def test_many_strips_take_no_time():
    # 4,000 entries, and three times as many claims of strips, that overlap with none of them.
    main = [(40_000, UNDEFINED, bytes(5))] * 4_000
    second_at = 8 + len(table("<", 8, main))
    strips = longs("<", *[second_at + 30] * 12_000)
    lengths = longs("<", *[4] * 12_000)
    second = table("<", second_at, [(273, LONG, strips), (279, LONG, lengths)])
    block = header("<") + table("<", 8, main, following=second_at) + second
    start = time.process_time()
    make_upright(block, width=40, height=60)
    assert time.process_time() - start < 5


@needs_exiftool
@pytest.mark.parametrize("order", "<>")
def test_exiftool_sees_the_upright_photo(tmp_path, order):
    block, _ = camera_block(order)
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(block))
    before = read_tags(path)
    path.write_bytes(jpeg(make_upright(block, width=40, height=60)))
    after = read_tags(path)
    changed = {
        "IFD0:ImageWidth": (60, 40),
        "IFD0:ImageHeight": (40, 60),
        "IFD0:Orientation": (6, 1),
        "ExifIFD:ColorSpace": (65535, 1),
        "ExifIFD:ExifImageWidth": (60, 40),
        "ExifIFD:ExifImageHeight": (40, 60),
        "InteropIFD:InteropIndex": ("R03", "R98"),
    }
    for name, (old, new) in changed.items():
        assert (before.pop(name), after.pop(name)) == (old, new)
    assert before["Canon:OwnerName"] == "Owner of the camera"
    assert "IFD1:ThumbnailImage" in before
    gone = {name for name in before if name.startswith("IFD1:")}
    for groups in ("IFD0", "ExifIFD", "GPS", "InteropIFD", "Canon", "IFD1"):
        old = {name for name in before if name.startswith(f"{groups}:")} - gone
        assert {name: before[name] for name in old} == {
            name: after[name] for name in after if name.startswith(f"{groups}:")
        }
    assert "ExifTool:Warning" not in after


@needs_exiftool
def test_block_of_exiftool_is_made_upright(tmp_path):
    path, thumbnail = tmp_path / "photo.jpg", tmp_path / "thumbnail.jpg"
    for name in (path, thumbnail):
        Image.fromarray(PIXELS).save(name)
    write_tags(path, "-Orientation#=8", "-Artist=Ann", f"-ThumbnailImage<={thumbnail}")
    with Image.open(path) as image:
        block = image.info["exif"].removeprefix(b"Exif\0\0")
    assert orientation(block) == 8
    upright = make_upright(block, width=40, height=60)
    assert len(block) - len(upright) == thumbnail.stat().st_size
    path.write_bytes(jpeg(upright))
    tags = read_tags(path, "-validate", "-all")
    assert tags["IFD0:Orientation"] == 1
    assert tags["IFD0:Artist"] == "Ann"
    assert tags["ExifTool:Validate"] == "0 0 0"
    assert not [name for name in tags if "Thumbnail" in name]


# --- Orientation and byte order ---


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", range(1, 9))
def test_orientation_is_read(order, number):
    block = header(order) + table(order, 8, [(274, SHORT, shorts(order, number))])
    assert orientation(block) == number
    assert orientation(make_upright(block, width=1, height=1)) == 1
    assert byte_order(block) == order


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SHORT, b"\0\0", 1),
        (SHORT, b"\x09\0", 1),
        (SHORT, b"", 1),
        (ASCII, b"6\0", 1),
        (LONG, b"\6\0\0\0", 6),
        (1, b"\6", 6),
    ],
)
def test_odd_orientations(kind, value, expected):
    block = header("<") + table("<", 8, [(274, kind, value)])
    assert orientation(block) == expected


@pytest.mark.parametrize("block", [b"", b"II", b"II*\0", header("<"), b"Exif\0\0II*\0"])
def test_no_block_has_no_orientation(block):
    assert orientation(block) == 1
    assert make_upright(block, width=40, height=60) == b""
    assert block_of_tiff(block) == b""


# --- TIFF files ---


def wide(order, *numbers):
    return struct.pack(f"{order}{len(numbers)}Q", *numbers)


def tiff_file(order, big, tags, exif=(), pages=1):
    """A TIFF file by hand whose pages have one directory each, the Exif one below it."""
    start = 16 if big else 8
    if big:
        content = (b"II+\0" if order == "<" else b"MM\0+") + struct.pack(
            order + "HHQ", 8, 0, start
        )
    else:
        content = header(order, start)
    for page in range(pages):
        page_tags = [*tags, (285, ASCII, b"page %d is this\0" % page)]
        size = len(table(order, 0, [*page_tags, (34665, LONG, bytes(4))], big=big))
        size += size % 2
        exif_at = start + size
        below = table(order, exif_at, list(exif), big=big) if exif else b""
        below += bytes(len(below) % 2)
        if exif:
            kind, offset = (LONG8, wide) if big else (LONG, longs)
            page_tags.append((34665, kind, offset(order, exif_at)))
        following = exif_at + len(below) if page + 1 < pages else 0
        content += table(order, start, sorted(page_tags), following, big).ljust(
            size, b"\0"
        )
        content += below
        start = following
    return content


def storage(order):
    """Tags that are not about the photo, or are carried apart."""
    return [
        (254, LONG, longs(order, 2)),
        (256, SHORT, shorts(order, 60)),
        (258, SHORT, shorts(order, 8, 8, 8)),
        (273, LONG, longs(order, 8)),
        (317, SHORT, shorts(order, 2)),
        (320, SHORT, shorts(order, *range(12))),
        (330, 13, longs(order, 8)),
        (347, UNDEFINED, b"JPEG tables"),
        (532, RATIONAL, longs(order, *range(12))),
        (700, 1, b"<x:xmpmeta/>"),
        (33723, LONG, longs(order, 1, 2, 3)),
        (34377, 1, b"8BIM and so on"),
        (34675, UNDEFINED, b"an ICC profile"),
        (37724, UNDEFINED, b"layers of Photoshop"),
    ]


def described(order):
    return [
        (270, ASCII, b"The harbor\0"),
        (271, ASCII, b"Epson\0"),
        (274, SHORT, shorts(order, 3)),
        (282, RATIONAL, longs(order, 1200, 1)),
        (296, SHORT, shorts(order, 2)),
        (305, ASCII, b"VueScan\0"),
        (315, ASCII, b"Z\xc3\xbcrich\0"),
        (50838, LONG, longs(order, 7, 8)),
        (65000, 1, b"private"),
    ]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("as_stream", [False, True])
def test_block_of_tiff_has_what_describes_the_photo(order, big, as_stream):
    exif = [
        (33434, RATIONAL, longs(order, 1, 60)),
        (37510, UNDEFINED, b"a comment"),
    ]
    tags = sorted(described(order) + storage(order))
    file = tiff_file(order, big, tags, exif, pages=3)
    for page in range(3):
        content = Pages(io.BytesIO(file)).read(page, "photo")
        block = block_of_tiff(io.BytesIO(content) if as_stream else content)
        kept = [*described(order), (285, ASCII, b"page %d is this\0" % page)]
        exif_at = len(header(order)) + len(
            table(order, 8, [*kept, (34665, LONG, bytes(4))])
        )
        kept.append((34665, LONG, longs(order, exif_at)))
        assert byte_order(block) == order
        assert block == (
            header(order) + table(order, 8, sorted(kept)) + table(order, exif_at, exif)
        )


def test_directories_below_are_moved_with_their_values():
    block, _ = camera_block(">")
    moved = block_of_tiff(block)
    expected = values(block)
    assert expected.keys() - values(moved).keys() == {256, 257}
    assert values(moved).items() <= expected.items()
    assert (
        moved.count(table(">", 0, [(1, ASCII, b"R03\0"), (2, UNDEFINED, b"0100")])) == 1
    )


@pytest.mark.parametrize("order", "<>")
def test_values_of_64_bits_are_narrowed_where_they_fit(order):
    tags = [
        (65000, LONG8, wide(order, 7, 2**32 - 1)),
        (65001, LONG8, wide(order, 2**32)),
        (65002, 17, struct.pack(order + "q", -7)),
        (65003, 18, wide(order, 16)),
    ]
    block = block_of_tiff(tiff_file(order, True, tags))
    assert values(block) == {285: "page 0 is this", 65000: (7, 2**32 - 1), 65002: -7}


def test_result_of_a_dng_is_no_dng():
    tags = [
        (271, ASCII, b"Leica\0"),
        (50706, 1, b"\1\4\0\0"),
        (50708, ASCII, b"Leica M9\0"),
        (50721, RATIONAL, bytes(72)),
        (51022, UNDEFINED, b"opcodes"),
    ]
    block = block_of_tiff(tiff_file("<", False, tags))
    assert values(block).keys() == {271, 285, 50708}


@pytest.mark.parametrize("order", "<>")
def test_nothing_to_tell_is_no_block(order):
    content = header(order) + table(order, 8, storage(order))
    assert block_of_tiff(content) == b""


def values(block):
    """The tags of a block as tifffile reads them, with those below Exif and GPS."""
    with tifffile.TiffFile(io.BytesIO(block)) as file:
        found = {tag.code: tag.value for tag in file.pages.first.tags}
    # An offset; what it points to is not read there.
    found.get(34665, {}).pop("InteroperabilityTag", None)
    return found


def written_tiff(order, big, pages=1):
    """A TIFF file as the package writes it, and its stream."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, byteorder=order, bigtiff=big) as writer:
        for page in range(pages):
            writer.write(
                PIXELS + np.uint8(page),
                photometric="rgb",
                compression="zlib",
                software=False,
                metadata=None,
                resolution=(300, 300),
                resolutionunit="inch",
                extratags=[(700, 1, 12, b"<x:xmpmeta/>", True)],
            )
    return stream


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_block_of_a_jpeg_goes_into_a_tiff_and_back(order, big):
    block, note_at = camera_block(order)
    stream = written_tiff(order, big, pages=3)
    add_to_tiff(stream, [block, b"", block])
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        assert len(file.pages) == 3
        for number, page in enumerate(file.pages):
            np.testing.assert_array_equal(page.asarray(), PIXELS + np.uint8(number))
            codes = [tag.code for tag in page.tags]
            assert codes == sorted(set(codes))
            assert page.tags[700].value == b"<x:xmpmeta/>"
            assert page.tags[256].value == 60
            assert page.tags[282].value == (300, 1)
            assert (271 in codes) == (34665 in codes) == (number != 1)
        assert file.pages[2].tags[34665].value["FNumber"] == (28, 5)
        latitude = file.pages[2].tags[34853].value["GPSLatitude"]
        assert latitude == (47, 1, 22, 1, 30, 1)
    pages = Pages(stream)
    back = block_of_tiff(pages.read(2, "photo"))
    assert block[note_at : note_at + 50] in back
    assert values(back).items() >= values(block_of_tiff(block)).items()
    assert values(back).keys() - values(block_of_tiff(block)).keys() == {283, 296}
    second = block_of_tiff(pages.read(1, "photo"))
    assert values(second).keys() == {282, 283, 296}


@needs_exiftool
@pytest.mark.parametrize("order", "<>")
def test_exiftool_reads_the_same_from_jpeg_and_tiff(tmp_path, order):
    path = tmp_path / "photo.jpg"
    Image.fromarray(PIXELS).save(path)
    write_tags(
        path,
        f"-ExifByteOrder={'II' if order == '<' else 'MM'}",
        "-Artist=Z\u00fcrich",
        "-FNumber=5.6",
        "-UserComment=taken from the tower",
        "-GPSLatitude=47.375",
        "-GPSLatitudeRef=N",
        "-SubjectArea=1 2 3",
        "-InteropIndex=R98",
        "-LensModel=a lens of some make",
    )
    expected = read_tags(path, "-EXIF:all")
    with Image.open(path) as image:
        block = image.info["exif"].removeprefix(b"Exif\0\0")
    stream = written_tiff(order, False)
    add_to_tiff(stream, [block])
    (tmp_path / "photo.tif").write_bytes(stream.getvalue())
    found = read_tags(tmp_path / "photo.tif")
    assert not {"ExifTool:Warning", "ExifTool:Error"} & found.keys()
    expected = {
        name: value
        for name, value in expected.items()
        if not name.endswith(("File", "Resolution", "ResolutionUnit", "Positioning"))
    }
    assert len(expected) > 10
    assert expected == {name: found.get(name) for name in expected}


@pytest.mark.parametrize("big", [False, True])
def test_second_block_replaces_nothing(big):
    stream = written_tiff("<", big)
    add_to_tiff(stream, [camera_block("<")[0]])
    before = stream.getvalue()
    add_to_tiff(stream, [camera_block("<")[0]])
    assert stream.getvalue() == before


def test_tags_of_the_file_win():
    block = header("<") + table(
        "<", 8, [(282, RATIONAL, longs("<", 72, 1)), (305, ASCII, b"VueScan\0")]
    )
    stream = written_tiff("<", False)
    add_to_tiff(stream, [block])
    with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
        tags = file.pages.first.tags
        assert (tags[282].value, tags[305].value) == ((300, 1), "VueScan")


@pytest.mark.parametrize("block", [b"", b"II*\0", b"no block", header("<", 9999)])
def test_damaged_block_adds_nothing(block):
    stream = written_tiff("<", False)
    before = stream.getvalue()
    add_to_tiff(stream, [block])
    assert stream.getvalue() == before


def test_blocks_that_do_not_belong_to_the_file_are_refused():
    with pytest.raises(ValueError, match="byte order"):
        add_to_tiff(written_tiff(">", False), [camera_block("<")[0]])
    with pytest.raises(ValueError, match="more EXIF blocks than pages"):
        add_to_tiff(written_tiff("<", False), [b"", b""])


def test_classic_tiff_of_4_gib_is_refused_and_a_big_one_is_not(tmp_path):
    block, _ = camera_block("<")
    for big in (False, True):
        path = tmp_path / f"{big}.tif"
        path.write_bytes(written_tiff("<", big).getvalue())
        with open(path, "r+b") as stream:
            stream.truncate(2**32 - 20)  # A sparse file takes no room.
            if big:
                add_to_tiff(stream, [block])
                assert values(block_of_tiff(stream))[271] == "Canon"
            else:
                with pytest.raises(ValueError, match="no room"):
                    add_to_tiff(stream, [block])
                assert stream.seek(0, io.SEEK_END) == 2**32 - 20
                assert 271 not in tifffile.TiffFile(path).pages.first.tags


# --- Damage ---


def test_loops_end():
    to_itself = [(271, ASCII, b"Acme\0"), (34665, LONG, longs("<", 8))]
    block = header("<") + table("<", 8, to_itself, following=8)
    assert make_upright(block, width=40, height=60)[:30] == block[:30]
    assert block_of_tiff(block).count(b"Acme") == 2  # once below
    assert len(list(TiffReader(block).chain())) == 1


def test_claims_beyond_the_file_are_left_out():
    tags = [(271, ASCII, b"Acme\0"), (272, ASCII, b"Model\0")]
    block = bytearray(header("<") + table("<", 8, tags))
    block[14:18] = longs("<", 2**32 - 1)  # the length of the maker's name
    assert values(block_of_tiff(bytes(block))).keys() == {272}
    entries = (b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**64 - 1)) + bytes(100)
    assert block_of_tiff(entries) == b""


@pytest.mark.parametrize("number", [1, 2**40])
def test_large_claims_read_little(tmp_path, number):
    path = tmp_path / "sparse.tif"
    path.write_bytes(b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, number))
    # An offset of the Exif directory, or rather 100 million of them.
    with open(path, "ab") as stream:
        stream.write(struct.pack("<HHQQ", 34665, LONG, 10**8, 0))
    with open(path, "r+b") as stream:
        stream.truncate(2**30)
        tracemalloc.start()
        assert block_of_tiff(stream) == b""
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 50 * 2**20


def test_values_that_overlap_are_not_multiplied():
    # Each entry claims the whole file.
    size = 8 + 6 + 2_000 * 12
    entries = b"".join(
        struct.pack("<HHII", 40_000 + number % 2_000, 7, size, 0)
        for number in range(2_000)
    )
    file = header("<") + struct.pack("<H", 2_000) + entries + bytes(4)
    tracemalloc.start()
    block = block_of_tiff(file)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(block) < 2 * size
    assert most < 100 * size


@pytest.mark.parametrize("order", "<>")
def test_cut_blocks_keep_what_is_there(order):
    block, note_at = camera_block(order)
    for end in range(0, len(block), 5):
        upright = make_upright(block[:end], width=40, height=60)
        if end < 8 + 2 + 12:
            assert upright == b""
        else:
            assert len(upright) <= end
        if end >= 8 + 2 + 5 * 12:
            assert orientation(block[:end]) == 6
            assert orientation(upright) == 1
        if end > 840:
            assert block[note_at : note_at + 50] in upright


def test_flipped_and_cut_bytes_are_no_error():
    random = np.random.default_rng(0)
    sources = [camera_block(order)[0] for order in "<>"]
    sources += [
        tiff_file(
            order, True, sorted(described(order)), [(37510, UNDEFINED, b"words")], 2
        )
        for order in "<>"
    ]
    written = {order: written_tiff(order, False).getvalue() for order in "<>"}
    changed = 0
    for trial in range(300):
        source = sources[trial % 4]
        damaged = bytearray(source)
        for _ in range(random.integers(1, 6)):
            damaged[random.integers(len(damaged))] = random.integers(256)
        if random.random() < 0.3:
            del damaged[random.integers(len(damaged)) :]
        damaged = bytes(damaged)
        assert 1 <= orientation(damaged) <= 8
        upright = make_upright(damaged, width=40, height=60)
        assert len(upright) <= len(damaged)
        assert make_upright(upright, width=40, height=60) == upright
        described_block = block_of_tiff(damaged)
        assert len(described_block) <= 10 * len(source)
        changed += upright != make_upright(source, width=40, height=60)
        for block in (upright, described_block):
            stream = io.BytesIO(written[byte_order(block)])
            add_to_tiff(stream, [block])
            with tifffile.TiffFile(io.BytesIO(stream.getvalue())) as file:
                np.testing.assert_array_equal(file.asarray(), PIXELS)
    assert changed > 100
