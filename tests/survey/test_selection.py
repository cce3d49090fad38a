"""Which photos a survey shows, and that they are alike in form."""

import numpy as np
import pytest
from PIL import Image

from colorgan_jax.errors import PhotoError, SurveyError
from colorgan_jax.photos import read_rgb
from colorgan_jax.survey.selection import choose_photos


@pytest.fixture
def folders(tmp_path):
    real, generated = tmp_path / "real", tmp_path / "generated"
    real.mkdir()
    generated.mkdir()
    return real, generated


def save(path, width=32, height=32, seed=0):
    path.parent.mkdir(exist_ok=True)
    random = np.random.default_rng([seed, width, height])
    pixels = random.integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def choose(folders, count=2, seed=0, report=None):
    report = pytest.fail if report is None else report.append
    return choose_photos(*folders, count=count, seed=seed, report=report)


def names(photos, kind):
    return {photo.name for photo in photos if photo.kind == kind}


def test_photos_of_one_size_are_untouched(folders):
    for number in range(4):
        save(folders[0] / f"r{number}.png", 40, 24, number)
        save(folders[1] / "below" / f"g{number}.png", 40, 24, 10 + number)
    photos = choose(folders)
    assert [photo.kind for photo in photos] == ["real"] * 2 + ["generated"] * 2
    for photo in photos:
        folder = folders[photo.kind == "generated"]
        np.testing.assert_array_equal(photo.pixels, read_rgb(folder / photo.name))
    assert all(name.startswith("below/g") for name in names(photos, "generated"))


def test_other_sizes_are_cropped_in_the_middle_and_shrunk_to_the_smallest(folders):
    # A white square between black margins: what a central crop keeps is white.
    for name, size, box in (
        ("wide.png", (90, 60), (15, 0, 75, 60)),
        ("tall.png", (40, 1000), (0, 480, 40, 520)),
    ):
        image = Image.new("RGB", size)
        image.paste("white", box)
        image.save(folders[0] / name)
    for name, size in (("small.png", (30, 30)), ("large.png", (2000, 1500))):
        Image.new("RGB", size, "white").save(folders[1] / name)
    for photo in choose(folders):
        np.testing.assert_array_equal(photo.pixels, np.full((30, 30, 3), 255))


def test_large_photos_are_shrunk_even_where_all_are_alike(folders):
    for folder in folders:
        save(folder / f"{folder.name}.png", 800, 700)
    assert {photo.pixels.shape for photo in choose(folders, 1)} == {(640, 640, 3)}


def test_a_scene_is_shown_once(folders):
    for number in range(6):
        save(folders[0] / f"{number}.jpg")
        save(folders[1] / f"{number}.png")
    chosen = set()
    for seed in range(10):
        photos = choose(folders, 3, seed)
        scenes = [photo.name.split(".")[0] for photo in photos]
        assert len(set(scenes)) == 6
        chosen.add(tuple(scenes))
    assert len(chosen) > 5
    again = choose(folders, 3, seed=4)
    assert [photo.name for photo in again] == [
        photo.name for photo in choose(folders, 3, seed=4)
    ]


def test_a_scene_is_shown_once_where_only_one_choice_allows_it(folders):
    for name in "abcdef":
        save(folders[0] / f"{name}.png")
    for name in "abc":
        save(folders[1] / f"{name}.png")
    for seed in range(5):
        assert names(choose(folders, 3, seed), "real") == {"d.png", "e.png", "f.png"}


def test_with_too_few_scenes_some_are_shown_twice_and_it_is_said(folders):
    for number in range(3):
        save(folders[0] / f"{number}.png")
        save(folders[1] / f"{number}.png")
    report = []
    assert len(choose(folders, 2, report=report)) == 4
    (sentence,) = report
    assert "shown twice" in sentence and sentence.endswith(" 1.")


def test_unreadable_photos_are_named_and_others_take_their_place(folders):
    for number in range(2):
        save(folders[0] / f"r{number}.png")
        save(folders[1] / f"g{number}.png")
    for number in range(8):
        (folders[0] / f"broken{number}.png").write_text("no photo")
    report = []
    photos = choose(folders, report=report)
    assert names(photos, "real") == {"r0.png", "r1.png"}
    assert report and all(line.startswith("Left out: ") for line in report)

    (folders[1] / "g1.png").write_text("no photo")
    with pytest.raises(SurveyError, match="generated holds 1 that can be read"):
        choose(folders, report=[])


def test_folders_that_cannot_be_compared_are_refused(folders, tmp_path):
    save(folders[0] / "a.png")
    with pytest.raises(SurveyError, match="must lie apart"):
        choose((folders[0], folders[0] / ".." / "real"), 1)
    with pytest.raises(SurveyError, match="must lie apart"):
        choose((tmp_path, folders[1]), 1)
    with pytest.raises(PhotoError, match="does not exist"):
        choose((folders[0], tmp_path / "nothing"), 1)
