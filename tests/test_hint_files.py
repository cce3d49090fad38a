"""Files of hints: what they mean, and what is said of those that are none."""

import json

import numpy as np
import pytest
import skimage.color

from colorgan_jax import read_hints
from colorgan_jax.errors import HintsError
from colorgan_jax.hint_files import read_film_hints


def write(path, *hints, **others):
    path.write_text(json.dumps({"version": 1, "hints": hints, **others}))
    return path


def read(path, *hints):
    found = read_hints(write(path, *hints))
    return [array[found.mask] for array in found[:3]]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "hints.json"


def test_a_point_is_x_and_y_and_its_color_that_of_srgb(path):
    positions, ab, radius = read(
        path,
        {"point": [0.25, 0.75], "color": "#8a2b3C"},
        {"point": [1, 0], "ab": [12.5, -30], "radius": 0.03},
    )
    np.testing.assert_allclose(positions, [(0.75, 0.25), (0, 1)])
    red = skimage.color.rgb2lab(np.array([0x8A, 0x2B, 0x3C]) / 255)[1:]
    np.testing.assert_allclose(ab, [red, (12.5, -30)], atol=0.02)
    np.testing.assert_allclose(radius, [3.5 / 256, 0.03], rtol=1e-6)


def test_a_stroke_is_covered_from_end_to_end(path):
    corners = [(0.1, 0.2), (0.5, 0.2), (0.5, 0.8)]
    positions, ab, radius = read(
        path, {"stroke": corners, "ab": [1, 2], "radius": 0.05}
    )
    y, x = positions.T
    np.testing.assert_allclose((positions[0], positions[-1]), [(0.2, 0.1), (0.8, 0.5)])
    on_first, on_second = np.isclose(y, 0.2), np.isclose(x, 0.5)
    assert (on_first | on_second).all() and on_first.sum() == 5 and len(x) == 11
    assert np.hypot(*np.diff(positions, axis=0).T).max() < 0.101
    assert (ab == [1, 2]).all() and np.allclose(radius, 0.05)
    # Of one place, and longer than there are spots for.
    assert len(read(path, {"stroke": [[0.5, 0.5]], "ab": [0, 0]})[0]) == 1
    long = {"stroke": [[0, 0], [1, 1]] * 50, "ab": [0, 0]}
    assert len(read(path, long)[0]) == 25


def test_a_rectangle_is_covered(path):
    positions, _, radius = read(
        path, {"rectangle": [0.1, 0.2, 0.9, 0.4], "color": "#7fb2e5"}
    )
    y, x = positions.T
    np.testing.assert_allclose(sorted(set(x.round(3))), [0.18, 0.34, 0.5, 0.66, 0.82])
    np.testing.assert_allclose(sorted(set(y.round(3))), [0.22, 0.26, 0.3, 0.34, 0.38])
    np.testing.assert_allclose(radius, 0.02, rtol=1e-6)
    small = {"rectangle": [0.5, 0.5, 0.501, 0.501], "ab": [0, 0]}
    np.testing.assert_allclose(read(path, small)[0], [(0.5005, 0.5005)])


def test_no_hints_are_hints_too(path):
    assert not read_hints(write(path)).mask.any()


GOOD = {"point": [0.5, 0.5], "ab": [0, 0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"is not JSON \(line 1, column 1: "),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "is not text"),
        ([], "the file is not a JSON object"),
        ({"hints": []}, 'the file has no "version"'),
        ({"version": 2, "hints": []}, "version is 2, but this release reads 1"),
        ({"version": 1, "hints": [], "photo": 3}, 'the file has an unknown "photo"'),
        ({"version": 1, "hints": {}}, '"hints" is not a list'),
        ([GOOD, 7], "hint 2: it is not a JSON object"),
        ([GOOD | {"colour": "#ffffff"}], 'hint 1: it has an unknown "colour"'),
        ([{"ab": [0, 0]}], 'one of "point" or "stroke" or "rectangle"'),
        ([GOOD | {"stroke": [[0, 0]]}], 'one of "point" or "stroke" or "rectangle"'),
        ([{"point": [0.5, 0.5]}], 'one of "color" or "ab"'),
        ([GOOD | {"point": [0.5]}], '"point" takes 2 numbers, not \\[0.5\\]'),
        ([GOOD | {"point": [120, 80]}], '"point" takes numbers from 0 to 1, not 120'),
        ([GOOD | {"point": [float("nan"), 0]}], '"point" takes numbers from 0 to 1'),
        ([GOOD | {"point": [True, 0]}], '"point" takes numbers from 0 to 1, not True'),
        ([GOOD | {"ab": ["1", 0]}], "\"ab\" takes numbers from -128 to 128, not '1'"),
        ([GOOD | {"radius": 2}], '"radius" takes numbers from 0 to 0.5, not 2'),
        ([{"point": [0, 0], "color": "red"}], "\"color\" is 'red' and not of the form"),
        ([{"stroke": [], "ab": [0, 0]}], '"stroke" is not a list of points'),
        ([{"rectangle": [0.5, 0, 0.1, 1], "ab": [0, 0]}], "edges are in another order"),
        ([GOOD] * 257, "need 257 spots, more than 256"),
    ],
)
def test_what_is_wrong_is_said(path, content, message):
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    elif isinstance(content, list) and content:
        write(path, *content)
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(HintsError, match=message) as error:
        read_hints(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(path):
    with pytest.raises(HintsError, match=r"hints.json cannot be read: No such file"):
        read_hints(path)


def write_film_hints(path, *frames):
    path.write_text(json.dumps({"version": 1, "frames": frames}))
    return path


def test_hints_of_a_film_come_in_the_order_of_their_times(path):
    frames = [{"time": 12.5, "hints": [GOOD]}, {"time": 3, "hints": [GOOD, GOOD]}]
    found = read_film_hints(write_film_hints(path, *frames))
    assert [(frame.time, int(frame.hints.mask.sum())) for frame in found] == [
        (3, 2),
        (12.5, 1),
    ]
    expected = read_hints(write(path, GOOD))
    np.testing.assert_array_equal(found[1].hints.ab, expected.ab)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"hints": []}, 'frame 2: it has no "time"'),
        ({"time": 1}, 'frame 2: it has no "hints"'),
        ({"time": -1, "hints": []}, '"time" takes numbers from 0'),
        ({"time": "1:30", "hints": []}, '"time" takes numbers from 0'),
        ({"time": float("inf"), "hints": []}, '"time" takes numbers from 0'),
        ({"time": 1, "hints": {}}, '"hints" is not a list'),
        ({"time": 1, "hints": [], "reference": "a.jpg"}, 'unknown "reference"'),
        ({"time": 1, "hints": [{"point": [0, 0]}]}, 'frame 2: hint 1: .* "color"'),
        ([], "frame 2: it is not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(path, frame, message):
    write_film_hints(path, {"time": 0, "hints": []}, frame)
    with pytest.raises(HintsError, match=message) as error:
        read_film_hints(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_hints_of_photos_and_films_are_told_apart(path):
    with pytest.raises(HintsError, match='stand in "frames"'):
        read_film_hints(write(path, GOOD))
    with pytest.raises(HintsError, match="colorgan video"):
        read_hints(write_film_hints(path))
