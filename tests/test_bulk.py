"""Many photos: their order, what is in memory at a time, and what stops them."""

import contextlib
import threading
import time

import numpy as np
import pytest
from tiny_generator import random_params

from colorgan_jax import bulk
from colorgan_jax.errors import OutputError, ParamsError, PhotoError
from colorgan_jax.hints import make_hints
from colorgan_jax.inference import colorize_photo
from colorgan_jax.photos import Photo

MEGAPIXEL = 1_000_000
LIMIT = 50 * MEGAPIXEL


def pixels_of(photo):
    """Photos of these tests are named by how many pixels they pretend to have."""
    return photo


def photo_of(seed, height=12, width=20):
    squares = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Photo(squares.repeat(2, axis=0).repeat(2, axis=1))


class InFlight:
    """Counts pixels between the beginning of reading and the end of use."""

    def __init__(self):
        self.now = self.highest = 0
        self._lock = threading.Lock()

    def add(self, pixels):
        with self._lock:
            self.now += pixels
            self.highest = max(self.highest, self.now)


def test_photos_are_read_ahead_and_come_in_order():
    begun = threading.Event()

    def read(photo):
        if photo == 1:
            begun.set()
        time.sleep(0.2 if photo == 0 else 0)
        return 10 * photo

    results = bulk.read_ahead(range(30), read, count_pixels=pixels_of)
    assert next(results) == (0, 0)
    assert begun.wait(timeout=10)  # without being asked for
    assert list(results) == [(photo, 10 * photo) for photo in range(1, 30)]


def test_a_photo_that_cannot_be_read_is_told_in_its_place():
    def read(photo):
        if photo % 3 == 1:
            raise PhotoError(f"{photo} is damaged.")
        return "read"

    results = bulk.read_ahead(range(7), read, count_pixels=pixels_of)
    told = [str(result) for _, result in results]
    assert told == [
        *("read", "1 is damaged.", "read"),
        *("read", "4 is damaged.", "read"),
        "read",
    ]


def test_a_header_that_cannot_be_read_is_left_to_the_reader(tmp_path):
    files = [tmp_path / "none.png", tmp_path / "text.png"]
    files[1].write_text("no photo")
    results = list(bulk.read_ahead(files, lambda file: file.name))
    assert results == [(file, file.name) for file in files]


def test_an_error_that_concerns_no_photo_ends_reading():
    read_photos = []

    def read(photo):
        read_photos.append(photo)
        if photo == 3:
            raise RuntimeError("a defect")
        return photo

    results = bulk.read_ahead(
        (photo for photo in range(1000)), read, count_pixels=lambda _: 10 * MEGAPIXEL
    )
    with pytest.raises(RuntimeError, match="a defect"):
        list(results)
    assert len(read_photos) < 20


def test_closing_ends_reading():
    read_photos = []
    results = bulk.read_ahead(range(1000), read_photos.append, count_pixels=pixels_of)
    with contextlib.closing(results):
        next(results)
    assert len(read_photos) < 100
    count = len(read_photos)
    time.sleep(0.1)
    assert len(read_photos) == count


@pytest.mark.parametrize("largest", [10, 24, 70])
def test_what_is_read_ahead_is_bounded_by_pixels(largest):
    in_flight = InFlight()

    def read(photo):
        in_flight.add(photo)
        time.sleep(0.001)

    sizes = [MEGAPIXEL * (1 + number % 10) for number in range(60)]
    sizes.insert(30, MEGAPIXEL * largest)
    for photo, _ in bulk.read_ahead(sizes, read, count_pixels=pixels_of):
        in_flight.add(-photo)
    assert LIMIT / 2 < in_flight.highest <= max(LIMIT, MEGAPIXEL * largest)


def test_small_photos_are_not_read_long_before_their_turn():
    in_flight = InFlight()
    results = bulk.read_ahead(
        range(500), lambda _: in_flight.add(1), count_pixels=lambda _: 100
    )
    for _ in results:
        in_flight.add(-1)
        time.sleep(0.001)
    assert 5 < in_flight.highest <= 50


@pytest.mark.parametrize("largest", [10, 24, 70])
def test_what_is_colorized_is_in_memory_until_it_is_written(largest):
    in_flight = InFlight()

    def read(photo):
        in_flight.add(photo)
        return photo_of(photo)

    def write(photo, _):
        time.sleep(0.01)
        in_flight.add(-photo)

    sizes = [MEGAPIXEL * (1 + number % 10) for number in range(30)]
    sizes.insert(15, MEGAPIXEL * largest)
    results = bulk.colorize_photos(
        random_params(0), sizes, read=read, write=write, count_pixels=pixels_of
    )
    assert [photo for photo, _ in results] == sizes
    assert in_flight.now == 0
    assert LIMIT / 2 < in_flight.highest <= max(LIMIT, MEGAPIXEL * largest)


def test_photos_get_the_colors_that_they_get_alone_and_come_in_order():
    params = random_params(0)
    # Some go to the network by fours, the large ones and the last by themselves.
    sizes = [1, 1, 1, 1, 20, 1, 13, 1, 1, 1, 1, 1]

    def write(number, photo):
        time.sleep(0.2 if number == 0 else 0)
        return number, photo.pixels

    results = bulk.colorize_photos(
        params,
        range(len(sizes)),
        read=lambda number: photo_of(number, height=4 + number),
        write=write,
        count_pixels=lambda number: MEGAPIXEL * sizes[number],
        saturation=0.5,
    )
    for expected, (number, (written, rgb)) in enumerate(results):
        assert number == written == expected
        alone = colorize_photo(
            params, photo_of(number, height=4 + number), saturation=0.5
        )
        # The network rounds its last bits by the size of the batch.
        np.testing.assert_allclose(rgb.astype(int), alone.pixels, atol=1)
    assert number == len(sizes) - 1


def test_the_network_sees_four_photos_or_one_whatever_fails(monkeypatch):
    predict, seen = bulk.predict_photos_ab, []

    def count(params, photos, **options):
        seen.append(len(photos))
        return predict(params, photos, **options)

    def read(number):
        if number == 5:
            raise PhotoError("5 is damaged.")
        return photo_of(number)

    monkeypatch.setattr(bulk, "predict_photos_ab", count)
    results = bulk.colorize_photos(
        random_params(0),
        range(10),
        read=read,
        write=lambda number, _: number,
        count_pixels=pixels_of,
    )
    written = [value for _, value in results if not isinstance(value, PhotoError)]
    assert written == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert seen == [4, 1, 1, 1, 1, 1]


def test_each_photo_has_its_hints():
    random = np.random.default_rng(0)
    params = random_params(0)
    hints = {
        number: make_hints([random.uniform(0, 1, 2)], [random.uniform(-60, 60, 2)])
        for number in (1, 2, 5)
    }
    results = bulk.colorize_photos(
        params,
        range(9),
        read=photo_of,
        write=lambda _, photo: photo.pixels,
        count_pixels=pixels_of,
        hints=hints.get,
    )
    for number, pixels in results:
        alone = colorize_photo(params, photo_of(number), hints=hints.get(number))
        np.testing.assert_allclose(pixels.astype(int), alone.pixels, atol=1)


def test_colors_are_refined_in_order_and_in_one_thread():
    params = random_params(0)
    calls, main = [], threading.get_ident()

    def refine(photo, seen, ab):
        calls.append((photo, seen.shape, ab.shape, threading.get_ident() == main))
        return np.zeros_like(ab) if photo % 2 else ab

    results = bulk.colorize_photos(
        params,
        range(11),
        read=photo_of,
        write=lambda _, photo: photo.pixels,
        count_pixels=pixels_of,
        refine=refine,
    )
    for number, pixels in results:
        saturation = 0.0 if number % 2 else 1.0
        alone = colorize_photo(params, photo_of(number), saturation=saturation)
        np.testing.assert_allclose(pixels.astype(int), alone.pixels, atol=1)
    assert calls == [(number, (8, 8), (8, 8, 2), True) for number in range(11)]


def write_to_disk(fault):
    """Writes photos 0 to 39, of which one has a fault."""
    written = []

    def write(number, _):
        if number == 9:
            raise fault
        written.append(number)

    results = bulk.colorize_photos(
        random_params(0),
        range(40),
        read=photo_of,
        write=write,
        count_pixels=lambda _: 10 * MEGAPIXEL,
    )
    return written, results


def test_a_result_that_cannot_be_encoded_stops_no_other():
    fault = PhotoError("9.webp cannot be encoded: too wide.")
    written, results = write_to_disk(fault)
    assert [error for _, error in results] == [None] * 9 + [fault] + [None] * 30
    assert sorted(written) == [*range(9), *range(10, 40)]


def test_a_full_disk_stops_all():
    fault = OutputError("9.png cannot be written: No space left on device.")
    written, results = write_to_disk(fault)
    done = []
    with pytest.raises(OutputError, match="No space left"):
        done.extend(number for number, _ in results)
    assert done == list(range(9))
    # What had been begun is finished, no more.
    assert len(written) < 20


def test_params_of_something_else_are_refused_before_anything_is_read():
    results = bulk.colorize_photos({}, [0], read=pytest.fail, write=pytest.fail)
    with pytest.raises(ParamsError):
        next(results)
