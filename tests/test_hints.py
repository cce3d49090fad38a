"""colorgan_jax.hints against a dense Gaussian process in float64, by loops and NumPy."""

import jax
import numpy as np
import pytest

from colorgan_jax import hints as module
from colorgan_jax.errors import HintsError
from colorgan_jax.hints import Hints, Kernel, make_hints

SIZE = 16
spread_hints = jax.jit(module.spread_hints, static_argnames="kernel")
KERNEL = Kernel(
    position=0.7,
    L=20.0,
    ab=30.0,
    features=((1, 2.0),),
    noise=0.1,
    spot=1.5,
    extremes=0.3,
)


def scene(seed=0, channels=3):
    random = np.random.default_rng(seed)
    L = random.uniform(0, 100, (SIZE, SIZE)).astype(np.float32)
    ab = random.uniform(-0.4, 0.4, (SIZE, SIZE, 2)).astype(np.float32)
    features = random.normal(1, 3, (SIZE, SIZE, channels)).astype(np.float32)
    return L, ab, [features]


def some_hints(count=5, seed=1):
    random = np.random.default_rng(seed)
    return make_hints(
        random.uniform(0, 1, (count, 2)),
        random.uniform(-80, 80, (count, 2)),
        random.uniform(0.03, 0.2, count),
    )


@pytest.mark.parametrize(
    ("positions", "ab", "radius", "message"),
    [
        ([(0.5, 0.5), (0.2, 0.2)], [(60, 0)], 0.1, r"not \[2, 2\] and \[1, 2\]"),
        (np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), 0.1, r"not \[2, 3, 2\]"),
        ([0.5, 0.5], [60, 0], 0.1, r"not \[2\] and \[2\]"),
        ([(0.5, 0.5)], [(60, 0)], [0.1, 0.1], r"one radius or 1, not \[2\]"),
        ([(300, 200)], [(60, 0)], 0.1, "fractions .* from 0 to 1"),
        ([(0.5, 0.5)], [(500, 0)], 0.1, "ab from -128 to 128"),
        ([(0.5, 0.5)], [(np.nan, 0)], 0.1, "ab from -128 to 128"),
        ([(0.5, 0.5)], [(60, 0)], -0.1, r"a radius from 0 to 0\.5"),
    ],
)
def test_what_no_hints_are_is_refused(positions, ab, radius, message):
    with pytest.raises(HintsError, match=message):
        make_hints(positions, ab, radius)


def weights_of_spot(hint_position, radius, size=SIZE):
    centers = (np.arange(size) + 0.5) / size
    deviation = max(radius / 2, 0.5 / size)
    y, x = (
        np.exp(-(((centers - center) / deviation) ** 2) / 2) for center in hint_position
    )
    weights = np.outer(y, x)
    return weights / weights.sum()


def gaussian_process(hints, L, ab, features):
    """Mean and confidence at each pixel, as the textbook has them."""
    real = np.asarray(hints.mask)
    positions, colors, radius = (
        np.asarray(array, np.float64)[real]
        for array in (hints.positions, hints.ab, hints.radius)
    )
    L, ab, features = (np.asarray(array, np.float64) for array in (L, ab, features[0]))
    features = features - features.mean((0, 1))
    features /= np.sqrt(((features**2).mean((0, 1)) + 1e-6) * features.shape[-1])
    image = np.concatenate([L[..., None] / 20, ab * 110 / 30, features / 2], axis=-1)
    centers = (np.arange(SIZE) + 0.5) / SIZE

    def variance(L):  # 0.3 at black and white, 1 in the middle.
        return 1 - 0.7 * (L / 50 - 1) ** 2

    def radius_at(y, x):
        apart = ((positions - [y, x]) ** 2).sum(1)
        return (radius / (apart + 1e-8) ** 2).sum() / (1 / (apart + 1e-8) ** 2).sum()

    def covariance(first, second):
        (p, looks, r), (q, others, s) = first, second
        r, s = 1.5 * r, 1.5 * s
        apart = np.sum((p - q) ** 2)
        smooth = np.exp(-(apart / 0.7**2 + np.sum((looks - others) ** 2)) / 2)
        spot = 2 * r * s / (r**2 + s**2) * np.exp(-apart / (r**2 + s**2))
        variances = [variance(look[0] * 20) for look in (looks, others)]
        return np.sqrt(np.prod(variances)) * smooth * (1 + 0.1 * spot)

    spots = []
    for position, r in zip(positions, radius, strict=True):
        weights = weights_of_spot(position, r)
        spots.append((position, np.einsum("hw,hwc->c", weights, image), r))
    difference = colors - [spot[1][1:3] * 30 for spot in spots]
    pixels = [
        (np.array([y, x]), image[i, j], radius_at(y, x))
        for i, y in enumerate(centers)
        for j, x in enumerate(centers)
    ]
    K = np.array([[covariance(a, b) for b in spots] for a in spots])
    K += 1e-4 * np.eye(len(K))
    k = np.array([[covariance(a, b) for b in spots] for a in pixels])
    # What the means in the middle of spots lack of the colors is spread again, twice.
    over_spots = np.array(
        [
            weights_of_spot(position, min(r, 3.5 / 256)).ravel()
            for position, r in zip(positions, radius, strict=True)
        ]
    )
    mean = k @ np.linalg.solve(K, difference)
    for _ in range(2):
        mean += k @ np.linalg.solve(K, difference - over_spots @ mean)
    confidence = np.sum(k * np.linalg.solve(K, k.T).T, axis=1) / 1.1
    confidence /= variance(L.ravel())
    return ab + mean.reshape(ab.shape) / 110, confidence.reshape(L.shape)


def mean_over_spot(ab, hints, hint):
    weights = weights_of_spot(hints.positions[hint], hints.radius[hint], len(ab))
    return 110 * np.einsum("hw,hwc->c", weights, np.asarray(ab))


def test_it_is_the_mean_and_the_variance_of_a_gaussian_process():
    hints, photo = some_hints(), scene()
    ab, confidence = spread_hints(hints, *photo, kernel=KERNEL)
    expected_ab, expected_confidence = gaussian_process(hints, *photo)
    np.testing.assert_allclose(110 * ab, 110 * expected_ab, atol=0.05)
    np.testing.assert_allclose(confidence, expected_confidence, atol=1e-3)


@pytest.mark.parametrize("junk", [0, np.nan, np.inf])
def test_without_hints_nothing_changes(junk):
    L, ab, features = scene()
    padding = np.full((16, 2), junk, np.float32)
    hints = Hints(padding, padding, padding[:, 0], np.zeros(16, bool))
    result, confidence = spread_hints(hints, L, ab, features)
    np.testing.assert_array_equal(result, ab)
    np.testing.assert_array_equal(confidence, 0)


def test_padding_changes_nothing():
    photo, few = scene(), some_hints(3)
    many = Hints(*(np.concatenate([array, array[:1]]) for array in few))
    many.mask[-1] = False
    for result, expected in zip(
        spread_hints(many, *photo), spread_hints(few, *photo), strict=True
    ):
        np.testing.assert_allclose(result, expected, atol=1e-5)


# In the middle, in corners and beside a border, far smaller than a pixel, one within a far
# larger spot, and neighbors of other colors.
@pytest.mark.parametrize(
    ("places", "radius"),
    [
        ([(31, 31)], [0.1]),
        ([(0, 0), (63, 63), (1, 30)], [0.03, 0.03, 0.03]),
        ([(25, 38)], [0]),
        ([(31, 31), (31, 38)], [0.3, 0.02]),
        ([(31, 31), (31, 35), (31, 40)], [0.02, 0.02, 0.02]),
    ],
)
def test_the_spot_of_a_hint_gets_its_color(places, radius):
    colors = np.array([(60, -40), (20, 50), (0, 70)])[: len(places)]
    hints = make_hints((np.array(places) + 0.5) / 64, colors, radius)
    L = np.broadcast_to(np.linspace(40, 60, 64), (64, 64))
    result, confidence = spread_hints(hints, L, np.full((64, 64, 2), 0.1), [])
    for place, color in zip(places, colors, strict=True):
        assert np.linalg.norm(110 * result[place] - color) < 2
        assert confidence[place] > 0.99


def test_a_spot_on_an_edge_gets_its_color_on_average():
    L = np.full((64, 64), 40.0)
    L[:, 32:] = 75
    hints = make_hints([(0.5, 0.5), (0.2, 0.5)], [(40, 20), (-30, 30)])
    result, _ = spread_hints(hints, L, np.zeros((64, 64, 2)), [])
    for hint, color in enumerate([(40, 20), (-30, 30)]):
        assert np.linalg.norm(mean_over_spot(result, hints, hint) - color) < 2


def test_colors_do_not_cross_an_edge():
    L = np.full((SIZE, SIZE), 20.0)
    L[:, SIZE // 2 :] = 90
    hints = make_hints([(0.5, 0.45)], [(60, 60)])
    result, confidence = spread_hints(hints, L, np.zeros((SIZE, SIZE, 2)), [])
    chroma = 110 * np.linalg.norm(result, axis=-1)
    assert chroma[:, : SIZE // 2].min() > 70  # Of 85.
    assert chroma[:, SIZE // 2 :].max() < 5
    assert (
        confidence[:, : SIZE // 2].min() > 0.8 > 0.1 > confidence[:, SIZE // 2 :].max()
    )


def test_hints_at_one_place_are_averaged():
    positions = [(0.3, 0.3)] * 4
    colors = np.array([(40, 0), (40, 0), (0, 40), (0, 40)])
    result, _ = spread_hints(make_hints(positions, colors), *scene())
    once, _ = spread_hints(make_hints(positions[:1], [(20, 20)]), *scene())
    np.testing.assert_allclose(110 * result, 110 * once, atol=0.2)


def test_it_runs_in_programs_of_jax():
    several = [some_hints(seed=seed) for seed in (1, 2)]
    photos = [scene(seed) for seed in (1, 2)]
    batch = jax.tree.map(
        lambda *arrays: np.stack(arrays), *zip(several, photos, strict=True)
    )
    results = jax.jit(jax.vmap(lambda hints, photo: spread_hints(hints, *photo)))(
        *batch
    )
    for index, (hints, photo) in enumerate(zip(several, photos, strict=True)):
        for result, expected in zip(results, spread_hints(hints, *photo), strict=True):
            np.testing.assert_allclose(result[index], expected, atol=1e-4)


def test_its_gradient_is_the_slope():
    hints, photo = some_hints(), scene()

    def brightness(colors, L):
        ab, confidence = spread_hints(hints._replace(ab=colors), L, *photo[1:])
        return (ab[3, 4] @ np.array([1.0, 2.0])) + confidence[7, 8]

    arguments = (hints.ab, photo[0])
    gradients = jax.jit(jax.grad(brightness, argnums=(0, 1)))(*arguments)
    random = np.random.default_rng(3)
    for argument, gradient in enumerate(gradients):
        assert np.isfinite(gradient).all()
        direction = random.normal(0, 1, gradient.shape).astype(np.float32)
        ends = []
        for sign in (1, -1):
            moved = list(arguments)
            moved[argument] = moved[argument] + sign * 0.5 * direction
            ends.append(float(brightness(*moved)))
        slope = np.sum(gradient * direction)
        np.testing.assert_allclose(ends[0] - ends[1], slope, rtol=0.02, atol=1e-3)


def test_another_hint_compiles_nothing():
    compiled = []

    @jax.jit
    def spread(hints, *photo):
        compiled.append(len(hints.mask))  # When it is traced.
        return module.spread_hints(hints, *photo)

    for count in (0, 1, 7, 16, 17, 32):
        hints = some_hints(count)
        assert hints.mask.sum() == count
        spread(hints, *scene())
    assert compiled == [16, 32]


def test_suggested_places_tell_most_of_the_whole_photo():
    photo, given = scene(), some_hints(2)
    L, ab, features = photo
    # That of each pixel, and what is left of it with one more hint in each cell.
    variance = 1 - 0.7 * (L / 50 - 1) ** 2
    cells = (np.arange(16) + 0.5) / 16
    places = np.stack(np.meshgrid(cells, cells, indexing="ij"), axis=-1).reshape(-1, 2)
    # All are as large, so that a further one changes none of the others.
    given = given._replace(radius=np.full(16, module.DEFAULT_RADIUS, np.float32))

    def left(place):
        hints = given._replace(
            positions=given.positions.at[2].set(place), mask=given.mask.at[2].set(True)
        )
        _, confidence = module.spread_hints(hints, *photo, kernel=KERNEL)
        return ((1 - confidence) * variance).sum()

    given = jax.tree.map(jax.numpy.asarray, given)
    best = places[np.argmin(jax.jit(jax.vmap(left))(places))]
    suggest = jax.jit(module.suggest_hints, static_argnames=("count", "kernel"))
    suggested = suggest(given, *photo, count=2, kernel=KERNEL)
    np.testing.assert_allclose(suggested[0], best)
    # The second is what comes first when the first is given.
    more = given._replace(
        positions=given.positions.at[2].set(best), mask=given.mask.at[2].set(True)
    )
    np.testing.assert_allclose(
        suggest(more, *photo, count=1, kernel=KERNEL)[0], suggested[1]
    )


def test_the_expected_error_falls_with_what_is_known():
    L = np.array([[0.0, 50.0, 100.0]])
    error = module.expected_error(L, kernel=KERNEL)
    np.testing.assert_allclose(
        error / error[0, 1], [[0.3**0.5, 1, 0.3**0.5]], rtol=1e-5
    )
    known = module.expected_error(L, np.array([[0.75, 0.75, 1.0]]), kernel=KERNEL)
    np.testing.assert_allclose(known[0] / error[0], [0.5, 0.5, 0], atol=1e-5)
