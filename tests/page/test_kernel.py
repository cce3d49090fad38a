"""The page's JavaScript beside the Python that it follows, in a browser."""

import itertools
import json

import jax
import numpy as np
import pytest
from browser import needs_chromium, open_browser
from running_server import run_server
from tiny_generator import random_params

from colorgan_jax import hint_files, hints, lab, upsampling
from colorgan_jax.errors import HintsError
from colorgan_jax.page.server import create_server

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs JavaScript with the exports of a module in `m`; gives what it returns."""
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    with run_server(create_server(random_params(seed=0))) as url:
        browser.get(f"{url}/icon.svg")  # A page of the same origin, without scripts.
        browser.set_script_timeout(60)

        def run_script(module, script, *arguments):
            return browser.execute_async_script(
                f"""const [a, done] = [arguments[0], arguments[arguments.length - 1]];
                import("/{module}").then((m) => {{ {script} }})
                  .then(done, (error) => done({{ error: error.message }}));""",
                arguments,
            )

        yield run_script
        browser.quit()


def example(seed, *, size=48, count=7):
    """A smooth photo, features of three blocks, and hints of different sizes."""
    random = np.random.default_rng(seed)
    L = upsampling.resize(random.uniform(0, 100, (6, 6, 1)), size, size)[..., 0]
    ab = upsampling.resize(random.uniform(-0.4, 0.4, (5, 5, 2)), size, size)
    features = [
        random.normal(0, 1 + block, (size >> block, size >> block, 5 + block))
        for block in range(1, 5)
    ] + [random.normal(0, 2, (1, 1, 9))]
    positions = random.uniform(0, 1, (count, 2))
    colors = random.uniform(-60, 60, (count, 2))
    radius = random.uniform(0.005, 0.1, count)
    to_float = [np.asarray(x, np.float32) for x in (L, ab)]
    features = [feature.astype(np.float32) for feature in features]
    return *to_float, features, hints.make_hints(positions, colors, radius)


def to_double(array):
    return array.astype(np.float64) if array.dtype == np.float32 else array


@pytest.mark.parametrize(
    "seed, options", [(0, {}), (1, {"count": 1}), (2, {"count": 30}), (3, {"size": 96})]
)
def test_hints_spread_as_in_python(run, seed, options):
    L, ab, features, known = example(seed, **options)
    # In double precision, as JavaScript computes: where hints overlap, a few digits are lost.
    with jax.enable_x64(True):
        wide = jax.tree.map(to_double, (known, L, ab, features))
        expected = np.asarray(hints.spread_hints(*wide)[0])
    count = int(known.mask.sum())
    spots = [
        {"y": y, "x": x, "a": a, "b": b, "radius": radius}
        for (y, x), (a, b), radius in zip(
            known.positions[:count].tolist(),
            known.ab[:count].tolist(),
            known.radius[:count].tolist(),
            strict=True,
        )
    ]
    blocks = [
        [block, [1, feature.shape[2], *feature.shape[:2]], feature.transpose(2, 0, 1)]
        for block, feature in enumerate(features, start=1)
    ]
    found = run(
        "hints.js",
        """const blocks = new Map(a[3].map(([block, dims, data]) =>
             [block, { dims, data: Float32Array.from(data) }]));
           const grid = m.featureGrid(blocks, a[4]);
           return Array.from(m.spreadHints(
             a[0], Float32Array.from(a[1]), Float32Array.from(a[2]), grid, a[4]));""",
        spots,
        L.ravel().tolist(),
        (lab.AB_SCALE * ab).ravel().tolist(),
        [[block, dims, data.ravel().tolist()] for block, dims, data in blocks],
        len(L),
    )
    found = np.reshape(found, ab.shape) / lab.AB_SCALE
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(expected - ab).max() > 0.1  # The hints do something.


@pytest.mark.parametrize("old, new", [*itertools.product((1, 3, 5, 64), repeat=2)])
def test_sizes_change_as_in_python(run, old, new):
    image = np.random.default_rng(0).normal(size=(old, 7, 2)).astype(np.float32)
    found = run(
        "resize.js",
        "return Array.from(m.resize(Float32Array.from(a[0]), a[1], a[2], 9));",
        image.ravel().tolist(),
        image.shape,
        new,
    )
    expected = upsampling.resize(image, new, 9)
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, atol=1e-5)


def test_all_colors_are_painted_as_in_python(run):
    random = np.random.default_rng(0)
    colors = random.uniform((0, -120, -120), (100, 120, 120), (3000, 3))
    found = run(
        "lab.js",
        """const out = new Uint8ClampedArray(3 * a[0].length);
           a[0].forEach(([L, A, B], k) => m.paint(L, A, B, out, 3 * k));
           return Array.from(out);""",
        colors.tolist(),
    )
    expected = 255 * lab.lab_to_rgb(lab.limit_chroma(colors.astype(np.float32)))
    assert np.abs(np.reshape(found, (-1, 3)) - np.asarray(expected)).max() <= 1


HINTS = [
    {"point": [0.4, 0.3], "color": "#8a2b3c"},
    {"point": [0, 1], "ab": [12.5, -30], "radius": 0.03},
    {"stroke": [[0.2, 0.5]], "ab": [0, 0]},
    {"stroke": [[0.2, 0.5], [0.2, 0.5], [0.3, 0.6], [0.9, 0.7]], "ab": [1, 2]},
    {"stroke": [[0, 0], [1, 1]], "ab": [1, 2], "radius": 0.2},
    {"rectangle": [0, 0.1, 1, 0.2], "ab": [3, 4]},
    {"rectangle": [0.1, 0.1, 0.11, 0.9], "ab": [3, 4], "radius": 0.3},
]


@pytest.mark.parametrize("hint", HINTS)
def test_files_of_hints_name_the_same_spots(run, tmp_path, hint):
    text = json.dumps({"version": 1, "hints": [hint]})
    (tmp_path / "hints.json").write_text(text)
    expected = hint_files.read_hints(tmp_path / "hints.json")
    found = run("hint_files.js", "return m.allSpots(m.readHints(a[0]));", text)
    names = ("y", "x", "radius", "a", "b")
    found = np.array([[spot[name] for name in names] for spot in found])
    count = int(expected.mask.sum())
    np.testing.assert_allclose(found[:, :2], expected.positions[:count], atol=1e-6)
    np.testing.assert_allclose(found[:, 2], expected.radius[:count], atol=1e-6)
    np.testing.assert_allclose(found[:, 3:], expected.ab[:count], atol=1e-3)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"hints": []},
        {"version": 1},
        {"version": 1, "hints": {}},
        {"version": 1, "hints": [], "more": 1},
        {"version": 1, "hints": [1]},
        {"version": 1, "hints": [{"point": [0.1, 0.2]}]},
        {"version": 1, "hints": [{"ab": [1, 2]}]},
        {"version": 1, "hints": [{"point": [0.1, 0.2], "color": "red"}]},
        {"version": 1, "hints": [{"point": [0.1], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"point": [0.1, None], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"point": [0.1, True], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"point": [0.1, 1.2], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"point": [0.1, 0.2], "ab": [1, 200]}]},
        {"version": 1, "hints": [{"point": [0.1, 0.2], "ab": [1, 2], "size": 3}]},
        {"version": 1, "hints": [{"point": [0, 0], "ab": [1, 2], "radius": 0.6}]},
        {"version": 1, "hints": [{"stroke": [], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"rectangle": [0.5, 0, 0.4, 1], "ab": [1, 2]}]},
        {"version": 1, "hints": [{"rectangle": [0, 0, 1, 1], "ab": [0, 0]}] * 20},
    ],
)
def test_files_that_python_refuses_are_refused(run, tmp_path, content):
    text = json.dumps(content)
    (tmp_path / "hints.json").write_text(text)
    with pytest.raises(HintsError):
        hint_files.read_hints(tmp_path / "hints.json")
    found = run("hint_files.js", "return m.readHints(a[0]);", text)
    assert isinstance(found, dict) and found.get("error"), found
