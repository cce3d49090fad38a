"""Where photos come from: a folder, TFDS, scikit-image."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from colorgan_jax.errors import DataError
from colorgan_jax.training.sources import SKIMAGE_PHOTOS, open_source

SIZE = 32


def photo_of(number):
    """A color photo like no other: its top left corner tells its number."""
    rgb = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    rgb[0, 0] = number
    return rgb


def test_a_folder_gives_the_photos_below_it(tmp_path):
    (tmp_path / "below").mkdir()
    Image.fromarray(photo_of(1)).save(tmp_path / "one.png")
    Image.fromarray(photo_of(2)).save(tmp_path / "below" / "two.PNG")
    (tmp_path / "notes.txt").write_text("no photo")
    source = open_source(str(tmp_path), SIZE)
    photos = {name: source.read(index) for index, name in enumerate(source.names)}
    assert len(photos) == 2
    np.testing.assert_array_equal(photos[str(tmp_path / "one.png")], photo_of(1))
    below = str(tmp_path / "below" / "two.PNG")
    np.testing.assert_array_equal(photos[below], photo_of(2))


def test_a_missing_folder_is_named_beside_the_alternatives(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*tfds:NAME"):
        open_source(str(tmp_path / "nowhere"), SIZE)


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_is_not_the_current_folder(name):
    with pytest.raises(DataError, match=r"source is empty.*a folder of photos"):
        open_source(name, SIZE)


def test_a_folder_that_moves_has_the_same_keys(tmp_path):
    below = tmp_path / "old" / "below"
    below.mkdir(parents=True)
    Image.fromarray(photo_of(1)).save(below / "one.png")
    keys = open_source(str(tmp_path / "old"), SIZE).keys
    (tmp_path / "old").rename(tmp_path / "new")
    assert open_source(f"{tmp_path}/new/", SIZE).keys == keys == ["below/one.png"]


class NumberedPhotos(tfds.core.GeneratorBasedBuilder):
    """A TFDS data set of the thirteen photos."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"name": tfds.features.Text(), "photo": tfds.features.Image()}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(13):
            file = io.BytesIO()
            Image.fromarray(photo_of(number)).save(file, "PNG")
            file.seek(0)
            yield number, {"name": str(number), "photo": file}


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_tfds_data_set_gives_its_photos(file_format, tmp_path, monkeypatch):
    monkeypatch.setattr(
        tfds,
        "builder",
        lambda _: NumberedPhotos(data_dir=tmp_path, file_format=file_format),
    )
    source = open_source("tfds:numbered_photos", SIZE)
    photos = {int(source.read(i)[0, 0, 0]): source.read(i) for i in range(13)}
    assert sorted(photos) == list(range(13))
    for number, rgb in photos.items():
        np.testing.assert_array_equal(rgb, photo_of(number))


@pytest.mark.parametrize("name", ["no_such_photos", "coco/no_such_config"])
def test_an_unknown_tfds_data_set_is_named(name):
    with pytest.raises(DataError, match=f"TFDS has no data set {name}"):
        open_source(f"tfds:{name}", SIZE)


def test_skimage_squares_held_out_show_nothing_of_those_for_training():
    source = open_source("skimage", SIZE)
    training = [i for i in range(len(source.names)) if i not in source.held_out]
    assert len(source.held_out) == 3 * len(SKIMAGE_PHOTOS)
    # Names end in the left edge of the square.
    for file in SKIMAGE_PHOTOS:
        lefts = {
            kind: [
                (int(source.names[i].split()[-1]), source.read(i).shape[1])
                for i in indices
                if source.names[i].startswith(file)
            ]
            for kind, indices in (("held out", source.held_out), ("train", training))
        }
        right_edges = [left + width for left, width in lefts["train"]]
        assert max(right_edges) <= min(left for left, _ in lefts["held out"])
