"""colorgan colorize --hints."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from colorgan_jax import colorize_photo, load_params, photos, read_hints, read_photo
from colorgan_jax.__main__ import main

pytestmark = pytest.mark.usefixtures("private_compilation_cache", "empty_folder")

RED = {"point": [0.25, 0.5], "ab": [40, 25], "radius": 0.1}
BLUE = {"point": [0.75, 0.5], "ab": [10, -40], "radius": 0.1}


def save_photo(path, level=120):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(level - 20, level + 20, 48)
    Image.fromarray(np.tile(ramp, (32, 1)).astype(np.uint8)).save(path)


def save_hints(path, *hints):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps({"version": 1, "hints": hints}))


def test_the_spot_of_a_hint_gets_its_color(colorize, params):
    save_photo("old.png")
    save_hints("colors.json", RED, BLUE)
    assert colorize("old.png", "--hints", "colors.json") == (
        0,
        [str(Path("colorized/old.png"))],
        [],
    )
    lab = Image.fromarray(photos.read_rgb("colorized/old.png"))
    red, blue = (np.array(lab.getpixel(place), int) for place in ((12, 16), (36, 16)))
    assert red[0] > red[2] + 30 and blue[2] > blue[0] + 30
    expected = colorize_photo(
        load_params(params), read_photo("old.png"), hints=read_hints("colors.json")
    )
    np.testing.assert_array_equal(photos.read_rgb("colorized/old.png"), expected.pixels)


def test_other_hints_make_another_result_and_the_same_none(colorize):
    save_photo("old.png")
    save_hints("colors.json", RED)
    results = [str(Path("colorized") / name) for name in ("old.png", "old-2.png")]
    assert colorize("old.png")[1] == results[:1]
    assert colorize("old.png", "--hints", "colors.json")[1] == results[1:]
    status, lines, errors = colorize("old.png", "--hints", "colors.json")
    assert (status, lines) == (0, []) and "was made before" in errors[0]
    save_hints("colors.json", BLUE)
    assert colorize("old.png", "--hints", "colors.json")[1][0].endswith("old-3.png")


def test_a_folder_has_hints_for_some_photos(colorize):
    for name in ("a.jpg", "a.png", "b.png", "sub/a.png"):
        save_photo(f"album/{name}")
    assert colorize("album")[0] == 0
    without = {path: path.read_bytes() for path in Path("colorized").rglob("a.*")}
    # The first is for a.png alone, the second would be for any a.*, the last for none.
    save_hints("album/a.png.json", RED)
    save_hints("album/sub/a.json", BLUE)
    save_hints("album/lost.json", BLUE)
    status, lines, errors = colorize("album", "--hints", "album", "--output", "new")
    assert status == 0 and len(lines) == 4
    assert errors == [
        "note: album has hints for photos that are not among these:"
        f" {Path('album/lost.json')}."
    ]
    colors = {
        name: np.asarray(Image.open(Path("new") / name), int).mean((0, 1))
        for name in ("a.jpg", "a.png", "sub/a.png")
    }
    assert colors["a.png"][0] > colors["a.png"][2] + 30
    assert colors["sub/a.png"][2] > colors["sub/a.png"][0] + 10
    assert len(without) == 3
    old = np.asarray(Image.open("colorized/a.jpg"), int)
    np.testing.assert_array_equal(old, np.asarray(Image.open("new/a.jpg"), int))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--hints", "none.json"], "none.json cannot be read: No such file"),
        (["a.png", "--hints", "bad.json"], 'bad.json: the file has no "version"'),
        (["a.png", "b.png", "--hints", "good.json"], "but there are 2: give a folder"),
        (
            ["a.png", "--hints", "empty"],
            "folder empty has hints for none of the photos",
        ),
    ],
)
def test_hints_that_cannot_be_used_are_named_before_anything_is_written(
    colorize, words, message
):
    save_photo("a.png")
    save_photo("b.png")
    save_hints("good.json", RED)
    Path("bad.json").write_text("{}")
    Path("empty").mkdir()
    status, lines, errors = colorize(*words)
    assert status != 0 and lines == [] and not Path("colorized").exists()
    assert len(errors) == 1 and message in errors[0]


def test_hints_are_for_the_first_page(colorize):
    page = np.tile(np.linspace(100, 140, 48), (32, 1)).astype(np.uint8)
    with tifffile.TiffWriter("two.tif") as file:
        for _ in range(2):
            file.write(page, photometric="minisblack")
    save_hints("colors.json", RED)
    status, _, errors = colorize("two.tif", "--hints", "colors.json")
    assert status == 0
    assert errors == ["note: two.tif: of its 2 pages the hints are for the first."]
    first, second = tifffile.TiffFile("colorized/two.tif").pages
    red = first.asarray()[16, 12].astype(int)
    assert red[0] > red[2] + 30
    assert np.abs(first.asarray().astype(int) - second.asarray()).max() > 20


def test_standard_input_takes_hints(params, monkeypatch, capsysbinary):
    save_photo("old.png")
    save_hints("colors.json", RED)
    content = io.TextIOWrapper(io.BytesIO(Path("old.png").read_bytes()))
    monkeypatch.setattr("sys.stdin", content)
    words = ["colorize", "-", "--hints", "colors.json", "--params", params]
    assert main(words) == 0
    image = Image.open(io.BytesIO(capsysbinary.readouterr().out))
    red = np.array(image.getpixel((12, 16)), int)
    assert red[0] > red[2] + 30
