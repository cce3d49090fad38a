"""Files of hints, as `colorgan colorize --hints` takes them.

They are laid out like this:

    {
      "version": 1,
      "hints": [
        {"point": [0.42, 0.31], "color": "#8a2b3c"},
        {"point": [0.1, 0.9], "ab": [12.5, -30], "radius": 0.03},
        {"stroke": [[0.2, 0.5], [0.3, 0.6], [0.3, 0.7]], "color": "#556b2f"},
        {"rectangle": [0.0, 0.0, 1.0, 0.2], "color": "#7fb2e5"}
      ]
    }

Places are fractions of the width and the height of the photo as viewers show it, x before
y, from the upper left corner; a rectangle is its left, upper, right and lower edge. Of
"color", sRGB, the hue and the strength count: the lightness is the photo's. "ab" is CIE a
and b. "radius" is that of a point or of a stroke's brush, as a fraction of the width and
the height.
"""

import itertools
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from colorgan_jax.errors import HintsError
from colorgan_jax.hints import (
    DEFAULT_RADIUS,
    HIGHEST_AB,
    LARGEST_RADIUS,
    Hints,
    make_hints,
)
from colorgan_jax.lab import rgb_to_lab

_VERSION = 1
_SHAPES = ("point", "stroke", "rectangle")
_COLORS = ("color", "ab")
# Strokes and rectangles are covered by spots: so many along a stroke, or along each side.
_SPOTS_OF_STROKE = 25
_SPOTS_OF_SIDE = 5
# Of one file: colorizing takes time and memory for each.
_MOST_SPOTS = 256
# Of a film's frames, in seconds.
_LATEST_TIME = 1e6

# x, y and radius
_Spot = tuple[float, float, float]


class KeyFrame(NamedTuple):
    """Hints for one frame of a film.

    Attributes:
      time: seconds from the film's beginning: the frame that is shown then.
      hints: for that frame.
    """

    time: float
    hints: Hints


def read_hints(path: str | os.PathLike) -> Hints:
    """Reads a file of hints, which is laid out as at the top of this module.

    Raises:
      HintsError: it cannot be read, or is no such file; says what is wrong where.
    """
    content = _read_json(path)
    try:
        _check_content(content, "hints")
        return _hints(content["hints"])
    except HintsError as error:
        raise HintsError(f"{path}: {error}") from error


def read_film_hints(path: str | os.PathLike) -> list[KeyFrame]:
    """Reads a file of hints for a film, in the order of their times.

    In place of "hints" it has

        "frames": [{"time": 12.5, "hints": [...]}, ...]

    with times in seconds from the film's beginning.

    Raises:
      HintsError: as `read_hints`.
    """
    content = _read_json(path)
    try:
        _check_content(content, "frames")
        return sorted(
            (
                _key_frame(number, frame)
                for number, frame in enumerate(content["frames"], start=1)
            ),
            key=lambda frame: frame.time,
        )
    except HintsError as error:
        raise HintsError(f"{path}: {error}") from error


def _read_json(path: str | os.PathLike) -> Any:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise HintsError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise HintsError(f"{path} is no file of hints: it is not text.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        problem = ""
        if isinstance(error, json.JSONDecodeError):
            problem = f" (line {error.lineno}, column {error.colno}: {error.msg})"
        raise HintsError(
            f"{path} is no file of hints: it is not JSON{problem}."
        ) from error


def _check_content(content: Any, key: str) -> None:
    """Refuses a file without a list under this key, and of another version."""
    if key == "hints" and isinstance(content, dict) and "frames" in content:
        raise HintsError("its hints are for a film (colorgan video).")
    if key == "frames" and isinstance(content, dict) and "hints" in content:
        raise HintsError(
            'its hints are for a photo: for a film they stand in "frames".'
        )
    _check_keys("the file", content, required=("version", key))
    if content["version"] != _VERSION:
        raise HintsError(
            f"its version is {content['version']!r}, but this release reads {_VERSION}."
        )
    _check_list(content, key)


def _check_list(content: dict[str, Any], key: str) -> None:
    if not isinstance(content[key], list):
        raise HintsError(f'"{key}" is not a list.')


def _key_frame(number: int, frame: Any) -> KeyFrame:
    try:
        _check_keys("it", frame, required=("time", "hints"))
        _check_list(frame, "hints")
        (time,) = _numbers([frame["time"]], "time", 1, 0, _LATEST_TIME)
        return KeyFrame(time, _hints(frame["hints"]))
    except HintsError as error:
        raise HintsError(f"frame {number}: {error}") from error


def _hints(content: list[Any]) -> Hints:
    spots: list[_Spot] = []
    colors = []
    for number, hint in enumerate(content, start=1):
        try:
            color = _color(hint)
            covered = list(_spots(hint))
        except HintsError as error:
            raise HintsError(f"hint {number}: {error}") from error
        spots += covered
        colors += [color] * len(covered)
    if len(spots) > _MOST_SPOTS:
        raise HintsError(
            f"its hints need {len(spots)} spots, more than {_MOST_SPOTS}: leave some out."
        )
    x, y, radius = np.array(spots).reshape(-1, 3).T
    return make_hints(np.stack([y, x], axis=-1), np.array(colors), radius)


def _color(hint: Any) -> tuple[float, float]:
    """The CIE a and b of a hint, whose keys are checked as well."""
    _check_keys("it", hint, optional=(*_SHAPES, *_COLORS, "radius"))
    for kinds in (_SHAPES, _COLORS):
        if sum(kind in hint for kind in kinds) != 1:
            names = " or ".join(f'"{kind}"' for kind in kinds)
            raise HintsError(f"it must have one of {names}.")
    if "ab" in hint:
        a, b = _numbers(hint["ab"], "ab", 2, -HIGHEST_AB, HIGHEST_AB)
        return a, b
    color = hint["color"]
    if not (isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color)):
        raise HintsError(f'"color" is {color!r} and not of the form "#rrggbb".')
    rgb = np.array(list(bytes.fromhex(color[1:])), np.float32) / 255
    _, a, b = np.asarray(rgb_to_lab(rgb)).tolist()
    return a, b


def _spots(hint: dict) -> Iterator[_Spot]:
    """The spots that cover a hint's shape."""
    radius = DEFAULT_RADIUS
    if "radius" in hint:
        (radius,) = _numbers([hint["radius"]], "radius", 1, 0, LARGEST_RADIUS)
    if "point" in hint:
        x, y = _numbers(hint["point"], "point", 2)
        yield x, y, radius
    elif "stroke" in hint:
        if not isinstance(hint["stroke"], list) or not hint["stroke"]:
            raise HintsError('"stroke" is not a list of points.')
        points = np.array([_numbers(point, "stroke", 2) for point in hint["stroke"]])
        steps = np.hypot(*np.diff(points, axis=0).T)
        along = np.concatenate([[0], np.cumsum(steps)])
        apart = max(2 * radius, along[-1] / (_SPOTS_OF_STROKE - 1), 1e-6)
        places = np.linspace(0, along[-1], math.ceil(along[-1] / apart) + 1)
        x, y = (np.interp(places, along, axis).tolist() for axis in points.T)
        yield from zip(x, y, itertools.repeat(radius))
    else:
        left, top, right, bottom = _numbers(hint["rectangle"], "rectangle", 4)
        if left >= right or top >= bottom:
            raise HintsError(
                '"rectangle" is not [left, upper, right, lower edge]: its edges are in'
                " another order."
            )
        sides = (right - left, bottom - top)
        columns, rows = (
            min(math.ceil(side / max(2 * radius, 1e-6)), _SPOTS_OF_SIDE)
            for side in sides
        )
        radius = max(radius, min(sides[0] / columns, sides[1] / rows) / 2)
        for row, column in itertools.product(range(rows), range(columns)):
            yield (
                left + (column + 0.5) / columns * sides[0],
                top + (row + 0.5) / rows * sides[1],
                radius,
            )


def _check_keys(
    what: str,
    content: Any,
    *,
    required: tuple[str, ...] = (),
    optional: tuple[str, ...] = (),
) -> None:
    if not isinstance(content, dict):
        raise HintsError(f"{what} is not a JSON object, {{...}}.")
    for key in required:
        if key not in content:
            raise HintsError(f'{what} has no "{key}".')
    for key in content:
        if key not in (*required, *optional):
            raise HintsError(f'{what} has an unknown "{key}".')


def _numbers(
    value: Any, key: str, count: int, lowest: float = 0, highest: float = 1
) -> list[float]:
    """Reads a list of numbers, or refuses it."""
    if not isinstance(value, list) or len(value) != count:
        raise HintsError(f'"{key}" takes {count} numbers, not {value!r}.')
    for number in value:
        # NaN is never within; true and false are numbers to Python.
        if (
            isinstance(number, bool)
            or not isinstance(number, int | float)
            or not lowest <= number <= highest
        ):
            raise HintsError(
                f'"{key}" takes numbers from {lowest:g} to {highest:g}, not {number!r}.'
            )
    return [float(number) for number in value]
