"""Nothing is lost, and nothing is done twice: where the results of `colorgan colorize` go."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from colorgan_jax import paths
from colorgan_jax.commands import rendering
from colorgan_jax.commands.outputs import MANIFEST
from colorgan_jax.errors import PhotoError
from colorgan_jax.photos import read_photo
from colorgan_jax.photos.xmp import add_provenance, read_provenance

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("private_compilation_cache", "empty_folder")


def save(path, height=24, width=32, level=120, **options):
    """Writes a photo whose size and level tell it from others."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(level - 40, level + 40, width)
    Image.fromarray(np.tile(ramp, (height, 1)).astype(np.uint8)).save(path, **options)


def state(folder="."):
    """Contents and times of all files below a folder."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("provenance", [[], ["--no-provenance"]])
def test_a_second_run_makes_what_is_missing_and_touches_nothing_else(
    colorize, provenance
):
    formats = ["jpg", "png", "webp", "tif", "avif", "jp2", "gif"]
    for number, extension in enumerate(formats):
        save(f"album/{number}.{extension}")
    assert colorize("album", *provenance)[0] == 0
    Path("colorized/2.webp").unlink()
    before = state("colorized")
    status, lines, errors = colorize("album", *provenance)
    assert status == 0 and lines == [f"[3/7] {Path('colorized/2.webp')}"]
    assert errors == [
        "note: 6 of 7 photos were colorized before and are skipped; --overwrite colorizes"
        " them anew."
    ]
    after = state("colorized")
    del after[Path("colorized/2.webp")]
    before.pop(Path("colorized", MANIFEST), None)
    after.pop(Path("colorized", MANIFEST), None)
    assert after == before


def test_a_killed_run_is_resumed(params, tmp_path):
    for number in range(12):
        save(f"album/{number:02}.png", height=600, width=600)
    command = [sys.executable, "-m", "colorgan_jax", "colorize", "album"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.Popen(
        [*command, "--params", params],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    run.stdout.readline()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    whole = {
        path: content
        for path, content in state("colorized").items()
        if path.suffix == ".png"
    }
    assert 1 <= len(whole) < 12
    subprocess.run([*command, "--params", params], env=environment, check=True)
    after = state("colorized")
    results = [path for path in after if path.suffix == ".png"]
    assert [path.name for path in results] == [f"{n:02}.png" for n in range(12)]
    assert whole.items() <= after.items()
    for path in results:
        assert read_photo(path).pixels.shape == (600, 600, 3)


def test_other_options_get_a_new_number_or_replace_when_asked(colorize):
    save("a.png")
    colorize("a.png")
    first = state("colorized")
    status, lines, errors = colorize("a.png", "--saturation=2")
    assert status == 0 and lines == [str(Path("colorized/a-2.png"))]
    assert errors == [
        f"note: {Path('colorized/a.png')} was made with other weights or options and"
        f" stays; the new result is {Path('colorized/a-2.png')}."
    ]
    assert first.items() <= state("colorized").items()
    # Whatever its number, a result is found again.
    second = state("colorized")
    assert colorize("a.png", "--saturation=2")[1] == []
    Path("colorized/a.png").unlink()
    assert colorize("a.png", "--saturation=2")[1] == []
    assert state("colorized").items() <= second.items()
    colorize("a.png", "--saturation=3", "--overwrite")
    assert os.listdir("colorized") == ["a-2.png"]
    assert state("colorized") != second


def test_of_several_results_the_one_of_the_same_options_is_replaced(colorize):
    save("a.png")
    colorize("a.png")
    colorize("a.png", "--saturation=2")
    colorize("a.png", "--saturation=3")
    before = state("colorized")

    def replaced():
        after = state("colorized")
        assert after.keys() == before.keys()
        return [path.name for path in after if after[path] != before[path]]

    colorize("a.png", "--saturation=2", "--overwrite")
    assert replaced() == ["a-2.png"]
    before = state("colorized")
    colorize("a.png", "--overwrite")
    assert replaced() == ["a.png"]
    before = state("colorized")
    # If there is none, the plain name is.
    colorize("a.png", "--saturation=4", "--overwrite")
    assert replaced() == ["a.png"]


def test_a_photo_that_changed_is_another(colorize):
    save("a.png")
    colorize("a.png")
    before = state("colorized")
    save("a.png", level=60)
    _, lines, errors = colorize("a.png")
    assert lines == [str(Path("colorized/a-2.png"))]
    assert errors == [
        f"note: {Path('colorized/a.png')} is there already, not made of this photo as it"
        f" is now, and stays; the result is {Path('colorized/a-2.png')}."
    ]
    assert before.items() <= state("colorized").items()


def test_a_quality_without_effect_makes_no_other_result(colorize):
    save("a.jpg")
    colorize("a.jpg", "--format=png")
    assert colorize("a.jpg", "--format=png", "--quality=60")[1] == []
    assert os.listdir("colorized") == ["a.png"]


def test_what_is_not_ours_is_neither_replaced_nor_taken_for_a_result(colorize):
    save("a.png")
    save("colorized/a.png", height=9)
    Path("colorized/a-2.png").symlink_to("nowhere")
    Path("colorized/a-3.png").write_text("notes")
    before = state("colorized")
    assert colorize("a.png")[1] == [str(Path("colorized/a-4.png"))]
    assert before.items() <= state("colorized").items()
    assert not Path("nowhere").exists()
    assert colorize("a.png", "--saturation=2", "--overwrite")[0] == 0
    assert (
        before.items() <= state("colorized").items()
    )  # The result of before is known.
    Path("colorized/a-4.png").unlink()
    assert colorize("a.png", "--overwrite")[1] == [str(Path("colorized/a.png"))]
    assert read_photo("colorized/a.png").pixels.shape == (24, 32, 3)


def test_a_missing_photo_does_not_change_where_the_others_go(colorize):
    save("a.png")
    for _ in range(2):
        status, lines, _ = colorize("missing.png", "a.png", "--overwrite")
        assert status == 1 and lines == [f"[2/2] {Path('colorized/a.png')}"]


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_a_photo_is_never_replaced(colorize, options):
    for name in ("scan.png", "scan-2.png", "SCAN.png", "out/link.png"):
        save(name)
    os.link("scan.png", "out/scan.png")
    Path("out/SCAN.png").symlink_to("../SCAN.png")
    before = state()
    colorize("scan.png", "scan-2.png", "--output=.", *options)
    colorize("scan.png", "SCAN.png", "--output=out", *options)
    assert before.items() <= state().items()


def test_without_provenance_a_line_of_the_manifest_tells(colorize):
    for name in "abc":
        save(f"album/{name}.png")
    colorize("album", "--no-provenance")
    for name in "abc":
        xmp = read_photo(f"colorized/{name}.png").metadata.xmp
        assert read_provenance(xmp) is None and b"colorgan" not in xmp
    save("colorized/a.png", height=5)  # Somebody's own, whatever the manifest says.
    manifest = Path("colorized", MANIFEST)
    # The last line was cut. Let it be that of c: results end in any order.
    notes = sorted(
        manifest.read_text().splitlines(), key=lambda note: '"c.png"' in note
    )
    manifest.write_text("\n".join(notes)[:-20])
    before = state("colorized")
    status, lines, _ = colorize("album", "--no-provenance")
    assert status == 0
    assert lines == [
        f"[1/3] {Path('colorized/a-2.png')}",
        f"[3/3] {Path('colorized/c-2.png')}",
    ]
    del before[manifest]
    assert before.items() <= state("colorized").items()
    assert colorize("album", "--no-provenance")[1] == []
    notes = manifest.read_text().split("\n")
    whole = [json.loads(line) for line in notes if line.endswith("}")]
    assert {"a-2.png", "c-2.png"} <= {note["result"] for note in whole}


def test_results_say_that_their_colors_are_generated(colorize):
    save("a.jpg")
    colorize("a.jpg")
    xmp = read_photo("colorized/a.jpg").metadata.xmp
    assert b"digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in xmp
    assert b"colorgan_jax" in xmp
    source, settings = read_provenance(xmp)
    assert source and settings


def test_a_file_that_appears_meanwhile_is_kept(colorize, monkeypatch):
    save("a.png")
    status = paths.UnfinishedFile.status

    def appear(file):
        Path("colorized/a.png").write_text("of another program")
        return status(file)

    monkeypatch.setattr(paths.UnfinishedFile, "status", appear)
    assert colorize("a.png")[1] == [str(Path("colorized/a-2.png"))]
    assert Path("colorized/a.png").read_text() == "of another program"


def test_a_file_system_without_links_keeps_files_as_well(colorize, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")  # as FAT does

    monkeypatch.setattr(os, "link", refuse)
    test_a_file_that_appears_meanwhile_is_kept(colorize, monkeypatch)
    assert sorted(os.listdir("colorized")) == ["a-2.png", "a.png"]
    assert read_photo("colorized/a-2.png").pixels.shape == (24, 32, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipes_and_link_loops_are_named_and_the_others_go_on(colorize):
    save("album/z.png")
    os.mkfifo("album/pipe.jpg")
    Path("album/loop.jpg").symlink_to("loop.jpg")
    Path("album/up").symlink_to("..")
    status, lines, errors = colorize("album")
    assert status == 1 and lines == [f"[3/3] {Path('colorized/z.png')}"]
    left_out, loop, pipe, count = errors
    assert left_out == f"note: 1 file is left out: {Path('album/up')}."
    assert loop.startswith(f"error: {Path('album/loop.jpg')} cannot be opened: ")
    assert pipe == f"error: {Path('album/pipe.jpg')} is a named pipe, not a photo."
    assert count == "error: 2 of 3 photos could not be colorized."


def test_two_names_of_one_file_count_once_and_are_told(colorize):
    save("album/a.png")
    Path("album/b.png").symlink_to("a.png")
    _, lines, errors = colorize("album", "album/../album/a.png")
    assert lines == [str(Path("colorized/a.png"))]
    assert errors == [
        "note: 2 files are left out, since another name of the same photo is among"
        f" these: {Path('album/b.png')}, album/../album/a.png."
    ]


def test_results_that_lie_in_a_folder_are_not_colorized_again(colorize):
    save("album/a.png")
    colorize("album", "--output=album/pale", "--saturation=0.5")
    for _ in range(2):
        status, lines, errors = colorize("album", "--output=album/vivid")
        assert status == 0
        assert errors[-1] == (
            "note: 1 of 2 photos are left out, since they are results of colorgan; those"
            " that are named themselves are not."
        )
    photos = sorted(str(path) for path in Path("album").rglob("*.png"))
    assert photos == ["album/a.png", "album/pale/a.png", "album/vivid/a.png"]
    listed = colorize("album", "--output=new", "--list")[1]
    assert "album/pale/a.png is left out: it is a result of colorgan." in listed
    lines = colorize("album/pale/a.png", "--output=album/vivid")[1]
    assert lines == ["album/vivid/a-2.png"]


def test_a_folder_that_cannot_be_read_does_not_keep_the_others(colorize, monkeypatch):
    for name in ("album/a.png", "album/locked/b.png", "album/sub/c.png"):
        save(name)
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "locked":  # For root nothing is locked.
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    status, lines, errors = colorize("album")
    assert status == 1
    assert lines == ["[1/2] colorized/a.png", "[2/2] colorized/sub/c.png"]
    assert errors == [
        "error: The folder album/locked cannot be read: Permission denied."
    ]
    assert colorize("album/locked")[2] == errors


def test_names_that_differ_in_case_are_different_photos(colorize):
    for number, name in enumerate(("DSC1.JPG", "DSC1.jpg", "other.png")):
        save(f"album/{name}", height=20 + number)
    if len(os.listdir("album")) < 3:
        pytest.skip("The file system ignores case.")
    assert len(colorize("album")[1]) == 3
    assert read_photo("colorized/DSC1.JPG").pixels.shape[0] == 20
    assert read_photo("colorized/DSC1.jpg").pixels.shape[0] == 21


def test_photos_that_need_a_package_are_left_out_and_it_is_named(colorize, monkeypatch):
    for name in ("pillow_heif", "rawpy"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    save("album/a.png")
    Path("album/b.heic").touch()
    status, lines, errors = colorize("album")
    assert status == 0 and len(lines) == 1
    assert errors == [
        f"note: 1 file is left out: {Path('album/b.heic')}. HEIC photos need a package"
        " more: pip install 'colorgan_jax[heif]'."
    ]


def test_the_list_shows_what_is_to_be_done_and_does_nothing(colorize):
    save("album/a.png")
    save("album/b.bmp")
    Path("album/c.png").write_text("no photo")
    Path("album/d.txt").write_text("no photo, either")
    colorize("album/a.png")
    before = state()
    status, lines, errors = colorize("album", "--list")
    assert status == 1 and state() == before
    assert lines == [
        f"{Path('album/a.png')} is done: {Path('colorized/a.png')}",
        f"{Path('album/b.bmp')} -> {Path('colorized/b.png')}",
    ]
    assert len(errors) == 2 and "c.png" in errors[1] and "d.txt" in errors[0]


def test_all_pages_of_a_tiff_are_colorized_into_one(colorize):
    random = np.random.default_rng(0)
    pages = [random.integers(0, 65536, (10 + n, 20), "uint16") for n in range(3)]
    with tifffile.TiffWriter("pages.tif") as writer:
        for page in pages:
            writer.write(page, photometric="minisblack")
    assert colorize("pages.tif")[0] == 0
    with tifffile.TiffFile("colorized/pages.tif") as result:
        assert len(result.pages) == 3
        for page, before in zip(result.pages, pages, strict=True):
            assert page.dtype == np.uint16 and page.shape == (*before.shape, 3)
    assert colorize("pages.tif")[1] == []
    _, _, notes = colorize("pages.tif", "--format=png")
    assert notes[-1] == "note: pages.tif: of its 3 pages this is the first."


def test_of_a_pyramid_the_photo_is_colorized_and_that_is_told(colorize):
    gray = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    with tifffile.TiffWriter("pyramid.tif") as writer:
        writer.write(gray, photometric="minisblack")
        writer.write(gray[::2, ::2], photometric="minisblack", subfiletype=1)
    _, lines, notes = colorize("pyramid.tif")
    assert lines == [str(Path("colorized/pyramid.tif"))]
    told = "note: pyramid.tif: reduced copies and masks in its file are left out."
    assert notes == [told]
    with tifffile.TiffFile("colorized/pyramid.tif") as result:
        assert [page.shape for page in result.pages] == [(48, 64, 3)]


def test_16_bit_jpeg_2000_of_a_small_photo_becomes_tiff(colorize):
    gray = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    Image.fromarray(gray).save("small.jp2")
    assert colorize("small.jp2")[1] == [str(Path("colorized/small.tif"))]
    assert read_photo("colorized/small.tif").pixels.dtype == np.uint16


def test_side_by_side_shows_gray_and_color(colorize):
    save("a.png")
    gray = np.array(Image.open("a.png"))
    colorize("a.png", "--output=plain")
    colorize("a.png", "--side-by-side")
    result = read_photo("colorized/a.png").pixels
    assert result.shape == (24, 64, 3)
    left = result[:, :32].astype(int)
    assert np.abs(left - gray[..., None]).max() <= 1
    np.testing.assert_array_equal(result[:, 32:], read_photo("plain/a.png").pixels)


def test_another_format_and_quality(colorize):
    save("a.png", height=200, width=200)
    for word, name, format in [
        ("tiff", "a.tif", "TIFF"),
        ("png", "a.png", "PNG"),
        ("jpeg", "a.jpg", "JPEG"),
        ("webp", "a.webp", "WEBP"),
    ]:
        colorize("a.png", "--format", word)
        with Image.open(f"colorized/{name}") as image:
            assert image.format == format
    # From a lossless photo WebP is lossless, unless a quality is asked for.
    lossless = read_photo("colorized/a.webp")
    assert lossless.lossless
    np.testing.assert_array_equal(lossless.pixels, read_photo("colorized/a.png").pixels)
    colorize("a.png", "--format=webp", "--quality=50", "--output=rough")
    assert not read_photo("rough/a.webp").lossless
    colorize("a.png", "--format=jpeg", "--quality=30", "--output=rough")
    assert os.path.getsize("rough/a.jpg") < 0.8 * os.path.getsize("colorized/a.jpg")


def test_what_a_format_loses_is_said(colorize):
    alpha = np.full((20, 20), 100, np.uint8)
    Image.fromarray(np.dstack([alpha] * 4)).save("a.png", dpi=(300, 300))
    _, _, notes = colorize("a.png", "--format=jpeg")
    assert notes == ["note: a.png: JPEG has no transparency, it is on white instead."]
    with Image.open("colorized/a.jpg") as image:
        assert image.info["dpi"] == (300, 300)


def test_provenance_takes_the_place_of_xmp_that_leaves_it_no_room(colorize):
    packet = add_provenance(None, source="0", settings="0", version="1")
    words = (
        b"<!--" + b"x" * (65_490 - len(packet)) + b"-->"
    )  # A segment ends at 65,502.
    save("a.jpg", xmp=packet.replace(b"<rdf:RDF", words + b"<rdf:RDF"))
    _, _, notes = colorize("a.jpg")
    assert notes == [
        "note: a.jpg: its XMP left no room for that of the result and was left out."
    ]
    xmp = read_photo("colorized/a.jpg").metadata.xmp
    assert len(xmp) < 5000 and read_provenance(xmp) not in (None, ("0", "0"))
    assert colorize("a.jpg")[1] == []  # It is known as finished.


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_standard_input_goes_to_standard_output(params, format):
    encoded = io.BytesIO()
    wide = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(wide).save(encoded, format)
    run = subprocess.run(
        [sys.executable, "-m", "colorgan_jax", "colorize", "-", "--params", params],
        input=encoded.getvalue(),
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=True,
    )
    assert run.stderr == b""
    result = read_photo(run.stdout)
    assert result.format == format and result.pixels.shape == (20, 30, 3)
    assert result.pixels.dtype == np.uint16
    assert os.listdir() == []


def test_standard_input_stands_alone(colorize):
    save("a.png")
    status, lines, errors = colorize("-", "a.png")
    assert (status, lines) == (1, [])
    assert errors == ["error: - stands alone: the result goes to standard output."]


def test_what_cannot_be_encoded_or_read_on_is_named_once(colorize, monkeypatch):
    page = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    with tifffile.TiffWriter("two.tif") as file:
        for _ in range(2):
            file.write(page, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile("two.tif") as file:
        start = file.pages[1].dataoffsets[0]
    content = bytearray(Path("two.tif").read_bytes())
    content[start : start + 20] = bytes(20)
    Path("two.tif").write_bytes(content)
    save("wide.webp")

    def refuse(*arguments, **options):
        raise PhotoError("it is too wide.")

    monkeypatch.setattr(rendering, "encode_photo", refuse)
    status, lines, errors = colorize("two.tif", "wide.webp")
    assert status == 1 and lines == [] and len(errors) == 3
    assert errors[0].startswith("error: two.tif is damaged or cut short: ")
    assert errors[1] == "error: wide.webp cannot be encoded: it is too wide."
    assert not list(Path("colorized").iterdir())
