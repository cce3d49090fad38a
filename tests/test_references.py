"""Colors of a reference, against a dense Gaussian process in float64."""

import jax
import numpy as np

from colorgan_jax import Photo, make_reference
from colorgan_jax.references import Look, spread_reference

SIZE = 16


def a_look(seed):
    random = np.random.default_rng(seed)
    return Look(
        random.uniform(20, 80, (SIZE, SIZE)),
        random.uniform(-0.3, 0.3, (SIZE, SIZE, 2)),
        [random.normal(1, 3, (SIZE, SIZE, 4)) for _ in range(3)],
    )


def test_it_is_the_mean_of_a_gaussian_process():
    reference, photo = a_look(0), a_look(1)
    colors = np.random.default_rng(2).uniform(-60, 60, (SIZE, SIZE, 2))
    both = np.stack([reference.features[2], photo.features[2]])
    both = (both - both.mean((0, 1, 2))) / np.sqrt(both.var((0, 1, 2)) * 4) / 4.5
    first, second = (
        np.concatenate(
            [look.L[..., None] / 25, 110 * look.ab / 17, features], axis=-1
        ).reshape(SIZE**2, -1)
        for look, features in zip((reference, photo), both, strict=True)
    )

    def covariance(a, b):
        return np.exp(-((a[:, None] - b) ** 2).sum(-1) / 2)

    known = (colors - 110 * reference.ab).reshape(-1, 2)
    weights = np.linalg.solve(covariance(first, first) + np.eye(SIZE**2), known)
    expected = 110 * photo.ab.reshape(-1, 2) + covariance(second, first) @ weights
    result = jax.jit(spread_reference)(colors, reference, photo)
    np.testing.assert_allclose(110 * result.reshape(-1, 2), expected, atol=0.02)


def test_a_photo_of_the_same_place_gets_its_colors_and_another_none():
    reference = a_look(0)
    # A wall and a door: alike inside, unlike each other in all respects.
    for array in (reference.L, reference.ab, *reference.features):
        array[:, :8], array[:, 8:] = array[0, 0], array[0, 8] + 20
    reference.ab[:] = 0
    colors = np.zeros((SIZE, SIZE, 2))
    colors[:, :8], colors[:, 8:] = (30, 10), (-20, 40)
    moved = Look(*jax.tree.map(lambda array: np.roll(array, 3, axis=1), reference))
    result = 110 * spread_reference(colors, reference, moved)
    np.testing.assert_allclose(result, np.roll(colors, 3, axis=1), atol=1)
    darker = reference._replace(L=reference.L - 150)
    np.testing.assert_allclose(
        spread_reference(colors, reference, darker), 0, atol=0.01
    )


def test_a_reference_is_the_photo_in_lab():
    red = np.full((40, 60, 3), (255, 0, 0), np.uint8)
    wide = (red.astype(np.uint16)) * 257
    for pixels in (red, wide):
        L, ab = make_reference(Photo(pixels))
        # CIE Lab of sRGB's red, as Lindbloom gives it.
        np.testing.assert_allclose(L, 53.24, atol=0.02)
        np.testing.assert_allclose(
            ab, np.broadcast_to((80.09, 67.20), ab.shape), atol=0.05
        )
    gray = make_reference(Photo(red[..., 1]))
    np.testing.assert_allclose(gray.ab, 0, atol=0.01)
