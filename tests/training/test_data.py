"""The pipeline: which photos a run gets, in which batches, in which colors."""

import logging
import os
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import skimage.color
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

from colorgan_jax.errors import DataError
from colorgan_jax.training import data
from colorgan_jax.training.sources import open_source
from colorgan_jax.training.split import read_split, write_split
from configs import quickstart

SIZE = 32


@pytest.fixture(scope="module")
def sharding():
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("batch"))


def config_for(source, **values):
    config = quickstart.get_config()
    config.image_size = SIZE
    config.batch_size = 4
    config.data.source = source if isinstance(source, tuple) else str(source)
    config.data.train_photos = 10
    config.data.validation_photos = 3
    config.data.update(values)
    return config


def photo_of(number):
    """A color photo like no other: its top left corner tells its number."""
    rgb = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    rgb[0, 0] = number
    return rgb


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirteen photos as PNG, losslessly."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(13):
        Image.fromarray(photo_of(number)).save(folder / f"{number:02d}.png")
    return folder


def numbers(photos):
    return [int(pixels[0, 0, 0]) for pixels in photos.load(np.arange(len(photos)))]


def batches_of(photos, sharding, first_step=0, last_step=6, seed=0):
    batches = data.training_batches(
        photos,
        image_size=SIZE,
        batch_size=4,
        seed=seed,
        first_step=first_step,
        last_step=last_step,
        sharding=sharding,
    )
    return [jax.device_get(batch) for batch in batches]


def assert_equal(batches, others):
    jax.tree.map(np.testing.assert_array_equal, batches, others)


def test_a_folder_is_split_by_the_seed(folder):
    config = config_for(folder)
    train, validation = (numbers(photos) for photos in data.load_photos(config))
    assert (len(train), len(validation)) == (10, 3)
    assert sorted(train + validation) == list(range(13))
    assert [numbers(photos) for photos in data.load_photos(config)] == [
        train,
        validation,
    ]
    config.seed = 1
    assert numbers(data.load_photos(config)[1]) != validation


def test_fewer_photos_than_asked_for_are_split_in_proportion(folder):
    train, validation = data.load_photos(
        config_for(folder, train_photos=100, validation_photos=30)
    )
    assert (len(train), len(validation)) == (10, 3)
    # As in the report, a sixth may be for validation, however many would be trained on.
    train, validation = data.load_photos(
        config_for(folder, train_photos=10_000, validation_photos=2)
    )
    assert (len(train), len(validation)) == (11, 2)
    for every in (0, None):
        train, validation = data.load_photos(config_for(folder, train_photos=every))
        assert (len(train), len(validation)) == (10, 3)


def test_unusable_photos_are_left_out_and_named(folder, tmp_path, caplog):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    gray = np.repeat(photo_of(50)[..., :1], 3, axis=-1)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    whole = (folder / "00.png").read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "empty.webp").touch()
    with caplog.at_level(logging.INFO, logger="absl"):
        train, validation = data.load_photos(config_for(tmp_path, train_photos=0))
    assert sorted(numbers(train) + numbers(validation)) == list(range(13))
    for name in ("gray.png", "short.png", "text.jpg", "empty.webp"):
        assert caplog.text.count(name) == 1
    assert "3 photos that cannot be read and 1 that are nearly gray" in caplog.text


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_photos_are_one_clear_error(count, folder, tmp_path):
    for file in sorted(folder.iterdir())[:count]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DataError, match="usable photos"):
        data.load_photos(config_for(tmp_path))


def test_batches_are_opencvs_lab_of_the_photos(folder, sharding):
    train, _ = data.load_photos(config_for(folder))
    batch = batches_of(train, sharding)[1]
    positions, flips, _ = data.random_choices(len(train), batch_size=4, seed=0, step=1)
    for L, ab, position, flip in zip(
        batch["L"], batch["ab"], positions, flips, strict=True
    ):
        rgb = photo_of(numbers(train)[position]).astype(np.float32) / 255
        if flip:
            rgb = cv2.flip(rgb, 1)  # 1: left and right change places.
        expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
        # OpenCV interpolates in a table; test_lab.py has the exact comparison.
        np.testing.assert_allclose(L * 50 + 50, expected[..., :1], atol=0.3)
        np.testing.assert_allclose(ab * 110, expected[..., 1:], atol=1)
    assert flips.any()
    assert not flips.all()


def test_the_mean_color_is_scikit_images(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (120, 3), np.uint8)
    for number, color in enumerate(colors):
        photo = np.broadcast_to(color, (8, 8, 3))
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    train, _ = data.load_photos(
        config_for(tmp_path, train_photos=119, validation_photos=1, minimum_color=0.0)
    )
    used = train.load(np.arange(len(train)))[:, 0, 0]
    expected = skimage.color.rgb2lab(used)[:, 1:].mean(axis=0)
    np.testing.assert_allclose(data.mean_ab(train, 4), expected, atol=0.01)


def test_an_epoch_shows_every_photo_once_and_epochs_differ():
    epochs = [
        np.concatenate(
            [
                data.random_choices(12, batch_size=4, seed=0, step=step)[0]
                for step in range(3 * epoch, 3 * epoch + 3)
            ]
        )
        for epoch in range(4)
    ]
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_half_of_the_photos_are_flipped_others_in_each_epoch():
    flips = np.array(
        [
            data.random_choices(4000, batch_size=4000, seed=3, step=epoch)[1]
            for epoch in range(4)
        ]
    )
    # The standard deviation of the rate of 16,000 fair coins is 0.004.
    assert abs(flips.mean() - 0.5) < 0.016
    assert 0.4 < (flips[0] == flips[1]).mean() < 0.6


@pytest.mark.parametrize("memory_gigabytes", [1.0, 1e-6])
def test_crops_are_squares_of_the_photo_of_all_sizes(
    tmp_path, sharding, memory_gigabytes
):
    rows, columns = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    # Red tells the row, green the column of each pixel.
    photo = np.stack([3 * rows, 3 * columns, 0 * rows], axis=-1).astype(np.uint8)
    for number in range(5):
        Image.fromarray(photo).save(tmp_path / f"{number}.png")
    config = config_for(
        tmp_path,
        train_photos=4,
        validation_photos=1,
        smallest_crop=0.5,
        memory_gigabytes=memory_gigabytes,
    )
    train, validation = data.load_photos(config)
    assert validation.load(np.arange(1)).shape == (1, SIZE, SIZE, 3)
    batches = data.training_batches_on_host(
        train, image_size=SIZE, batch_size=4, seed=0, first_step=0, last_step=100
    )
    crops = np.concatenate([rgb for rgb, _ in batches])
    red, green, _ = np.moveaxis(crops.astype(float) / 3, -1, 0)
    assert max(np.ptp(red, axis=2).max(), np.ptp(green, axis=1).max()) < 0.4
    heights, widths = [], []
    for places, sides in ((red[:, :, 0], heights), (green[:, 0], widths)):
        first, last = places[:, 0], places[:, -1]
        even = np.linspace(first, last, SIZE, axis=-1)
        np.testing.assert_allclose(places, even, atol=0.6)
        # From the middle of the first pixel to the middle of the last one.
        sides += [(last - first) * SIZE / (SIZE - 1)]
        assert first.min() < 1
        assert last.max() > 62
    np.testing.assert_allclose(heights, widths, atol=1)
    assert abs(np.min(heights) - SIZE) < 1
    assert abs(np.max(heights) - 64) < 1
    assert abs(np.mean(heights) - 48) < 2


def test_equal_seeds_give_equal_batches(folder, sharding):
    config = config_for(folder)
    runs = [batches_of(data.load_photos(config)[0], sharding) for _ in range(2)]
    assert_equal(*runs)
    other = batches_of(data.load_photos(config)[0], sharding, seed=1)
    assert not np.array_equal(runs[0][0]["L"], other[0]["L"])


def test_a_resumed_pipeline_goes_on_with_the_next_batch(folder, sharding):
    train, _ = data.load_photos(config_for(folder))
    whole = batches_of(train, sharding, last_step=7)
    # Two batches an epoch: step 3 lies inside the second one.
    assert_equal(batches_of(train, sharding, first_step=3, last_step=7), whole[3:])


def test_photos_that_do_not_fit_into_memory_are_read_anew(folder, sharding):
    kept, _ = data.load_photos(config_for(folder))
    anew, _ = data.load_photos(config_for(folder, memory_gigabytes=1e-6))
    assert len(kept.pixels) >= 10
    assert not anew.pixels
    assert_equal(batches_of(anew, sharding), batches_of(kept, sharding))


def test_a_photo_that_vanishes_is_named(folder, tmp_path, sharding):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    train, _ = data.load_photos(config_for(tmp_path, memory_gigabytes=1e-6))
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"no longer: .*\.png cannot be opened"):
        batches_of(train, sharding)


def test_validation_counts_every_photo_once(folder, sharding):
    _, validation = data.load_photos(
        config_for(folder, train_photos=6, validation_photos=7)
    )
    batches = [
        jax.device_get(batch)
        for batch in data.validation_batches(
            validation, batch_size=4, sharding=sharding
        )
    ]
    masks = np.concatenate([batch["mask"] for batch in batches])
    np.testing.assert_array_equal(masks, [1] * 7 + [0])
    L = np.concatenate([batch["L"] for batch in batches])[:7]
    pixels = validation.load(np.arange(7)).astype(np.float32) / 255
    expected = [cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., :1] for rgb in pixels]
    np.testing.assert_allclose(L * 50 + 50, expected, atol=0.3)


def test_rows_of_a_batch_are_the_same_however_many_hosts_share_it(folder):
    train, _ = data.load_photos(config_for(folder))

    def batches_of_rows(first, last):
        return list(
            data.training_batches_on_host(
                train,
                image_size=SIZE,
                batch_size=4,
                seed=0,
                first_step=0,
                last_step=5,
                rows=slice(first, last),
            )
        )

    whole = batches_of_rows(0, 4)
    parts = [batches_of_rows(row, row + 1) for row in range(4)]
    for batch, shares in zip(whole, zip(*parts, strict=True), strict=True):
        for one, several in zip(batch, zip(*shares, strict=True), strict=True):
            np.testing.assert_array_equal(one, np.concatenate(several))


def test_a_row_has_the_photos_whose_number_modulo_the_batch_size_it_is():
    for step in range(20):
        positions, _, _ = data.random_choices(23, batch_size=4, seed=1, step=step)
        np.testing.assert_array_equal(positions % 4, np.arange(4))


@pytest.fixture
def changed(folder, tmp_path):
    """A folder like the other one, and the split of a run with ten of its photos."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = config_for(folder, train_photos=8, validation_photos=2)
    return tmp_path, data.split_of(*data.load_photos(config))


def test_a_run_keeps_its_photos_in_a_folder_that_grows(folder, changed, caplog):
    other, split = changed
    assert split.unused == 3
    for name in ("!first.png", "zlast.png"):
        Image.fromarray(photo_of(77)).save(other / name)
    # As many as are there, which another draw would take.
    config = config_for(other, train_photos=None, seed=1)
    kept = [numbers(photos) for photos in data.load_photos(config, split)]
    before = data.load_photos(config_for(folder, train_photos=8, validation_photos=2))
    assert kept == [numbers(photos) for photos in before]
    assert f"New photos in {other}: 2, not used" in caplog.text


def test_an_unchanged_folder_is_no_news(changed, caplog):
    other, split = changed
    data.load_photos(config_for(other), split)
    assert "New photos" not in caplog.text


def test_photos_of_a_run_that_are_missing_or_damaged_are_named(changed):
    other, split = changed
    file = other / split.training[3]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=rf"{file.name} is damaged .* of this run: put"):
        data.load_photos(config_for(other), split)
    file.unlink()
    with pytest.raises(
        DataError, match=rf"Of the 10 photos of this run 1 cannot .*{file.name}"
    ):
        data.load_photos(config_for(other), split)


def test_a_seed_gives_the_photos_that_it_always_gave(folder):
    """As version 0.1 drew them: figures of both versions are of the same photos."""
    train, validation = data.load_photos(config_for(folder))
    assert numbers(train) == [4, 5, 12, 0, 3, 6, 9, 11, 8, 1]
    assert numbers(validation) == [10, 2, 7]
    train, validation = data.load_photos(config_for("skimage", train_photos=6))
    assert train.indices.tolist() == [94, 173, 82, 141, 178, 124]
    assert validation.indices.tolist() == [155, 71, 182]


def test_names_that_are_no_text_are_escaped(folder, tmp_path, caplog):
    root = os.fsencode(tmp_path)
    for number, file in enumerate(folder.iterdir()):
        Path(os.fsdecode(root + b"/M\xfcller %d.png" % number)).write_bytes(
            file.read_bytes()
        )
    Path(os.fsdecode(root + b"/kaputt-\xfc.png")).write_bytes(b"\x89PNG\r\n\x1a\nxx")
    gray = np.repeat(photo_of(50)[..., :1], 3, axis=-1)
    Image.fromarray(gray).save(Path(os.fsdecode(root + b"/grau-\xfc.png")))
    with caplog.at_level(logging.INFO, logger="absl"):
        photos = data.load_photos(config_for(tmp_path))
    assert [len(some) for some in photos] == [10, 3]
    for name in ("kaputt-", "grau-"):
        assert rf"{name}\xfc.png" in caplog.text
    assert caplog.text.isascii()
    split = data.split_of(*photos)
    write_split(tmp_path, split)
    again = data.load_photos(config_for(tmp_path), read_split(tmp_path))
    for some, others in zip(photos, again, strict=True):
        assert numbers(some) == numbers(others)


@pytest.fixture
def two_folders(folder, tmp_path):
    """The folder, and one of the same name with five others of the same names."""
    other = tmp_path / "other" / folder.name
    other.mkdir(parents=True)
    for number in range(5):
        Image.fromarray(photo_of(20 + number)).save(other / f"{number:02d}.png")
    return str(folder), str(other)


def test_photos_of_the_same_name_in_several_folders_are_told_apart(
    two_folders, tmp_path, caplog
):
    config = config_for(two_folders, train_photos=None)
    photos = data.load_photos(config)
    assert sorted(numbers(photos[0]) + numbers(photos[1])) == [
        *range(13),
        *range(20, 25),
    ]
    write_split(tmp_path, data.split_of(*photos))
    # A run that resumes has another order of folders, and another photo in one.
    Image.fromarray(photo_of(77)).save(Path(two_folders[1]) / "new.png")
    config.data.source = two_folders[::-1]
    again = data.load_photos(config, read_split(tmp_path))
    for some, others in zip(photos, again, strict=True):
        assert numbers(some) == numbers(others)
    assert f"New photos in {', '.join(two_folders[::-1])}: 1, not" in caplog.text


def test_validation_photos_stay_those_of_their_folder_when_others_join_it(
    folder, two_folders, caplog
):
    _, alone = data.load_photos(config_for(folder))
    config = config_for(two_folders, train_photos=None, validation_source=str(folder))
    with caplog.at_level(logging.INFO, logger="absl"):
        train, validation = data.load_photos(config)
    assert numbers(validation) == numbers(alone)
    assert sorted(numbers(train)) == sorted(
        {*range(13), *range(20, 25)} - set(numbers(alone))
    )
    assert (
        f"Of the photos of {', '.join(two_folders)}, 3 are for validation"
        in caplog.text
    )
    config.data.train_photos = 6
    train, validation = data.load_photos(config)
    assert numbers(validation) == numbers(alone)
    assert len(train) == 6


def test_a_photo_for_validation_is_not_trained_on_under_another_name(folder, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    for number in (3, 8, 11, 12):
        (links / f"link {number}.png").symlink_to(folder / f"{number:02d}.png")
    config = config_for(folder, train_photos=None, validation_source=str(links))
    train, validation = data.load_photos(config)
    chosen = set(numbers(validation))
    assert len(chosen) == 3
    assert chosen < {3, 8, 11, 12}
    assert sorted(numbers(train)) == sorted(set(range(13)) - chosen)


def test_folders_that_overlap_give_each_photo_once(folder, tmp_path, caplog):
    links = tmp_path / "links"
    links.mkdir()
    (links / "link.png").symlink_to(folder / "07.png")
    Image.fromarray(photo_of(30)).save(links / "own.png")
    config = config_for((str(folder), str(links)), train_photos=None)
    with caplog.at_level(logging.INFO, logger="absl"):
        train, validation = data.load_photos(config)
    assert sorted(numbers(train) + numbers(validation)) == [*range(13), 30]
    assert f"1 photos of {links} are the same files" in caplog.text


def test_a_list_names_the_validation_photos(two_folders, tmp_path):
    names = Path(two_folders[0]).name, f"other/{Path(two_folders[1]).name}"
    parent = Path(two_folders[0]).parent.name
    listed = tmp_path / "ids.txt"
    listed.write_text(f"{names[1]}/04.png\n{parent}/{names[0]}/09.png\n\n")
    config = config_for(two_folders, train_photos=None, validation_source=str(listed))
    photos = data.load_photos(config)
    train, validation = map(numbers, photos)
    assert validation == [24, 9]
    assert sorted(train) == sorted({*range(13), *range(20, 25)} - {9, 24})
    # A run that resumes has its own record of them.
    listed.unlink()
    again = data.load_photos(config, data.split_of(*photos))
    assert [numbers(photos) for photos in again] == [train, validation]

    listed.write_text("04.png\nnothing.png\n12.png\n")
    config.data.source = two_folders[0]
    with pytest.raises(
        DataError,
        match=r"of the 3 photos that .*ids\.txt lists 1 are not .*nothing\.png\).*00\.png",
    ):
        data.load_photos(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is empty"),
        ("nowhere", r"nowhere does not exist.*NAME\.txt"),
        ("nowhere.txt", r"nowhere\.txt cannot be read: No such file"),
        ("blank.txt", r"blank\.txt names no photos"),
        ("empty", "empty holds no photos"),
    ],
)
def test_an_impossible_validation_source_is_one_sentence(
    name, message, folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("blank.txt").write_text("\n")
    Path("empty").mkdir()
    config = config_for(folder, validation_source=name)
    with pytest.raises(DataError, match=message):
        data.load_photos(config)


def test_an_empty_one_of_several_folders_is_named(folder, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} holds no photos"):
        data.load_photos(config_for((str(folder), str(tmp_path))))
    with pytest.raises(DataError, match="source is empty"):
        data.load_photos(config_for(()))


@pytest.mark.parametrize("apart", [False, True])
def test_photos_that_a_source_holds_out_are_never_trained_on(apart, folder):
    config = config_for(("skimage", str(folder)), train_photos=None)
    if apart:
        config.data.validation_source = str(folder)
    train, validation = data.load_photos(config)
    alone = open_source("skimage", SIZE)
    held_out = {f"skimage/{alone.keys[index]}" for index in alone.held_out}
    split = data.split_of(train, validation)
    assert not held_out & set(split.training)
    assert held_out.isdisjoint(split.validation) == apart
    of_folder = [key for key in split.training if not key.startswith("skimage/")]
    assert len(of_folder) == (10 if apart else 13)
