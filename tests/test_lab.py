"""colorgan_jax.lab against OpenCV, scikit-image and published values."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color

from colorgan_jax.lab import (
    decode_levels,
    encode_srgb,
    from_network,
    lab_to_levels,
    lab_to_rgb,
    levels_to_lightness,
    limit_chroma,
    rgb_to_lab,
    to_network,
)


def rgb_grid(steps):
    """The whole sRGB cube as an image [steps, steps * steps, 3]."""
    axis = np.linspace(0, 1, steps, dtype=np.float32)
    cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    return cube.reshape(steps, steps * steps, 3)


def saturated_lab(count=20_000):
    """Random Lab colors, most of them outside the sRGB gamut."""
    random = np.random.default_rng(0)
    lab = random.uniform([2, -110, -110], [98, 110, 110], size=(count, 3))
    return lab.astype(np.float32)


def skimage_linear_rgb(lab):
    """Linear rgb, not clipped, in float64 and by scikit-image's own numbers."""
    xyz = skimage.color.lab2xyz(np.asarray(lab, np.float64))
    return xyz @ skimage.color.colorconv.rgb_from_xyz.T


def test_equals_scikit_image_over_the_srgb_cube():
    rgb = rgb_grid(33)
    expected = skimage.color.rgb2lab(rgb.astype(np.float64), illuminant="D65")
    # Measured: 0.00004 in L, 0.005 in ab. scikit-image's white point is rounded
    # differently from the white of its own matrix, hence more than float32's error.
    error = np.abs(rgb_to_lab(rgb) - expected)
    assert error[..., 0].max() < 1e-4
    assert error.max() < 0.006


def test_equals_opencv_over_the_srgb_cube():
    rgb = rgb_grid(33)
    expected = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    # Measured: 0.14 in L, 0.40 in a, 0.25 in b; 0.014 on average. The error is
    # OpenCV's, which interpolates in a table: it is as far from scikit-image.
    error = np.abs(rgb_to_lab(rgb) - expected)
    assert np.all(error.max(axis=(0, 1)) < [0.15, 0.40, 0.25])
    assert error.mean() < 0.02


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ([1, 1, 1], [100, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 0, 0], [53.24, 80.09, 67.20]),
        ([0, 1, 0], [87.74, -86.18, 83.18]),
        ([0, 0, 1], [32.30, 79.19, -107.86]),
        ([1, 1, 0], [97.14, -21.55, 94.48]),
    ],
)
def test_published_values(rgb, lab):
    # As printed by brucelindbloom.com's calculator (sRGB, D65).
    np.testing.assert_allclose(
        rgb_to_lab(np.array(rgb, np.float32)), lab, atol=0.02, rtol=0
    )


def test_gray_has_no_color():
    gray = np.repeat(np.arange(256, dtype=np.float32)[:, None] / 255, 3, axis=1)
    np.testing.assert_allclose(rgb_to_lab(gray)[:, 1:], 0, atol=1e-4)


def test_every_8_bit_color_survives_the_round_trip_and_limit_chroma():
    @jax.jit
    def round_trip(rgb):
        lab = rgb_to_lab(rgb)
        return lab_to_rgb(lab), jnp.all(limit_chroma(lab) == lab)

    axis = np.arange(256, dtype=np.float32) / 255
    green, blue = np.meshgrid(axis, axis, indexing="ij")
    # Four values of red at a time: 64 calls with 262,144 colors each.
    for reds in axis.reshape(64, 4):
        rgb = np.stack([np.stack([green * 0 + r, green, blue], -1) for r in reds])
        result, untouched = round_trip(rgb)
        np.testing.assert_allclose(result, rgb, atol=2e-5, rtol=0)
        assert untouched


def test_lab_to_rgb_equals_scikit_image():
    lab = saturated_lab()
    # scikit-image sets negative Z to zero before it goes on to rgb.
    lab = lab[lab[:, 2] / 200 < (lab[:, 0] + 16) / 116]
    expected = np.clip(skimage_linear_rgb(lab), 0, 1)
    expected = np.where(
        expected <= 0.0031308, 12.92 * expected, 1.055 * expected ** (1 / 2.4) - 0.055
    )
    # Its constants (7.787, 0.2068966) are rounded: a quarter of an 8-bit step.
    np.testing.assert_allclose(lab_to_rgb(lab), expected, atol=1e-3, rtol=0)


def test_gradients_are_finite_at_black_white_the_kinks_and_outside_the_gamut():
    kink = 0.04045
    rgb = np.array(
        [[0, 0, 0], [1, 1, 1], [kink] * 3, [1, 0, 0], [-0.1, 0.5, 1.2], [0, 0, 1]],
        np.float32,
    )
    lab = np.concatenate(
        [np.asarray(rgb_to_lab(np.clip(rgb, 0, 1))), saturated_lab(1000)]
        + [np.array([[0, 50, -50], [100, 0, 0], [8, 0, 0]], np.float32)]
    )
    for function, colors in [
        (rgb_to_lab, rgb),
        (lab_to_rgb, lab),
        (lambda lab: lab_to_rgb(limit_chroma(lab)), lab),
    ]:
        jacobian = jax.vmap(jax.jacrev(function))(colors)
        assert np.all(np.isfinite(jacobian))


def test_gradients_equal_finite_differences_of_scikit_image():
    rgb = np.random.default_rng(0).uniform(0.1, 0.9, (50, 3))
    step = 1e-5
    differences = np.stack(
        [
            (skimage.color.rgb2lab(rgb + d) - skimage.color.rgb2lab(rgb - d)) / 2 / step
            for d in step * np.eye(3)
        ],
        axis=-1,
    )
    jacobian = jax.vmap(jax.jacrev(rgb_to_lab))(rgb.astype(np.float32))
    np.testing.assert_allclose(jacobian, differences, rtol=1e-3, atol=0.05)
    inverse = jax.vmap(jax.jacrev(lab_to_rgb))(
        skimage.color.rgb2lab(rgb).astype(np.float32)
    )
    np.testing.assert_allclose(
        inverse, np.linalg.inv(differences), rtol=1e-3, atol=1e-5
    )


def test_limit_chroma_keeps_lightness_where_clipping_changes_it():
    lab = saturated_lab()
    limited = skimage.color.rgb2lab(np.asarray(lab_to_rgb(limit_chroma(lab)), float))
    clipped = skimage.color.rgb2lab(np.asarray(lab_to_rgb(lab), float))
    # The tolerance at the gamut's surface is worth up to 0.01 in L near black.
    np.testing.assert_allclose(limited[:, 0], lab[:, 0], atol=0.01, rtol=0)
    assert np.abs(clipped[:, 0] - lab[:, 0]).max() > 20


def test_limit_chroma_stays_in_gamut_keeps_hue_and_is_maximal():
    lab = saturated_lab()
    limited = np.asarray(limit_chroma(lab))
    linear = skimage_linear_rgb(limited)
    # scikit-image's white point differs by 1e-4 from that of its own matrix.
    assert linear.min() > -1e-4 and linear.max() < 1 + 2e-4

    np.testing.assert_array_equal(limited[:, 0], lab[:, 0])
    factor = np.linalg.norm(limited[:, 1:], axis=1) / np.linalg.norm(lab[:, 1:], axis=1)
    np.testing.assert_allclose(limited[:, 1:], lab[:, 1:] * factor[:, None], atol=1e-4)

    changed = factor < 1
    assert changed.mean() > 0.5
    larger = lab[changed] * np.stack([np.ones(changed.sum()), *[factor[changed]] * 2]).T
    larger[:, 1:] += 0.01 * lab[changed, 1:]
    linear = skimage_linear_rgb(larger)
    outside = (linear.min(axis=1) < 0) | (linear.max(axis=1) > 1)
    # All but those beside the ridge of yellow, where the gamut is re-entered.
    assert outside.mean() > 0.999


def test_limit_chroma_turns_impossible_lightness_gray():
    lab = np.array([[0, 60, 40], [100, 60, 40], [-5, 60, 40], [120, 60, 40]])
    limited = limit_chroma(lab.astype(np.float32))
    np.testing.assert_allclose(limited[:, 1:], 0, atol=0.2)
    rgb = lab_to_rgb(limited)
    np.testing.assert_allclose(rgb, [[0] * 3, [1] * 3, [0] * 3, [1] * 3], atol=2e-3)


def levels_of(lab, white, limit):
    """Levels [..., 3] and which colors are outside the gamut."""
    convert = jax.jit(lab_to_levels, static_argnames=("white", "limit"))
    levels, outside = convert(*np.moveaxis(lab, -1, 0), white=white, limit=limit)
    return np.stack(levels, axis=-1), np.asarray(outside)


def lab_grid():
    """L, a and b in steps of 1, 2.5 and 2.5, five sixths of them outside the gamut."""
    axes = (
        np.linspace(0, 100, 101),
        np.linspace(-110, 110, 89),
        np.linspace(-110, 110, 89),
    )
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(np.float32)


# Measured: 0.68 and 108, half a level of rounding and, in dark blue, what limit_chroma lets
# lie outside the gamut and lab_to_levels does not.
@pytest.mark.parametrize(("white", "tolerance"), [(255, 0.7), (65535, 120)])
def test_levels_are_those_of_lab_to_rgb_over_a_grid(white, tolerance):
    lab = lab_grid()
    expected = white * np.asarray(lab_to_rgb(limit_chroma(lab)))
    levels, _ = levels_of(lab, white, limit=True)
    np.testing.assert_allclose(levels, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("white", "tolerance"), [(255, 0.501), (65535, 0.9)])
def test_levels_that_need_no_limit_are_the_same_without(white, tolerance):
    lab = lab_grid()
    levels, outside = levels_of(lab, white, limit=False)
    expected = white * np.asarray(lab_to_rgb(lab))
    np.testing.assert_allclose(levels[~outside], expected[~outside], atol=tolerance)
    linear = skimage_linear_rgb(lab)
    # scikit-image's white point differs by 1e-4 from that of its own matrix.
    clearly_outside = (linear.min(axis=-1) < -1e-4) | (linear.max(axis=-1) > 1 + 2e-4)
    clearly_inside = (linear.min(axis=-1) > 1e-4) & (linear.max(axis=-1) < 1 - 2e-4)
    assert np.all(outside[clearly_outside]) and not np.any(outside[clearly_inside])
    assert 0.15 < clearly_inside.mean() < 0.2


def gray_level(L, white):
    """The level, not rounded, of the gray of this lightness."""
    Y = np.where(L > 8, ((L + 16) / 116) ** 3, L * 27 / 24389)
    power = 1.055 * np.maximum(Y, 0.001) ** (1 / 2.4) - 0.055
    return white * np.where(Y > 0.0031308, power, 12.92 * Y)


@pytest.mark.parametrize("white", [255, 65535])
def test_levels_have_the_given_lightness_to_one_level(white):
    lab = lab_grid()
    levels, _ = levels_of(lab, white, limit=True)
    assert levels.min() >= 0 and levels.max() <= white
    # In double precision.
    linear = levels / white
    linear = np.where(
        linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4
    )
    Y = linear @ [0.212671, 0.715160, 0.072169]
    L = np.where(Y > 216 / 24389, 116 * np.cbrt(Y) - 16, Y * 24389 / 27)
    error = gray_level(L, white) - gray_level(lab[..., 0].astype(float), white)
    # Measured: 0.54 and 0.63, half a level of it rounding.
    assert np.abs(error).max() < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_gray_level_survives_lightness_and_back(dtype):
    white = np.iinfo(dtype).max
    gray = np.arange(white + 1, dtype=dtype)[:, None].repeat(3, axis=1)
    L = levels_to_lightness(jnp.asarray(gray), decode_levels(white))
    lab = np.stack([L, np.zeros_like(L), np.zeros_like(L)], axis=-1)
    levels, outside = levels_of(lab, white, limit=False)
    np.testing.assert_array_equal(levels, gray)
    assert not outside.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lightness_of_levels_equals_scikit_image(dtype):
    white = np.iinfo(dtype).max
    rgb = np.random.default_rng(0).integers(0, white + 1, (200, 300, 3), dtype)
    rgb[:20] //= 50  # dark ones, too
    L = jax.jit(levels_to_lightness)(rgb, decode_levels(white))
    expected = skimage.color.rgb2lab(rgb / white)[..., 0]
    # Measured: 0.0002. A level of 16 bits is worth 0.001 or more.
    np.testing.assert_allclose(L, expected, atol=4e-4, rtol=0)


def test_network_scaling_fills_but_never_exceeds_the_range_of_tanh():
    L, ab = to_network(rgb_to_lab(rgb_grid(33)))
    assert L.shape == (33, 33 * 33, 1) and ab.shape == (33, 33 * 33, 2)
    np.testing.assert_allclose([L.min(), L.max()], [-1, 1], atol=1e-5)
    assert 0.95 < np.abs(ab).max() < 1


def test_network_scaling_is_the_stated_one_and_inverts():
    lab = saturated_lab(100).reshape(4, 25, 3)
    L, ab = to_network(lab)
    np.testing.assert_allclose(L[..., 0], lab[..., 0] / 50 - 1, atol=1e-6)
    np.testing.assert_allclose(ab, lab[..., 1:] / 110, atol=1e-6)
    np.testing.assert_allclose(from_network(L, ab), lab, atol=2e-5)


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb, limit_chroma])
@pytest.mark.usefixtures("unchecked")
def test_bytes_and_wrong_channels_are_refused(function):
    with pytest.raises(TypeError, match="uint8"):
        function(np.zeros((4, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        function(np.zeros((3, 4), np.float32))


@pytest.mark.parametrize("library", [np, jnp], ids=["NumPy", "JAX"])
def test_transfer_curve_equals_scikit_image(library):
    linear = np.linspace(0, 1, 4097, dtype=np.float32)
    expected = skimage.color.xyz2rgb(
        linear[:, None].astype(np.float64) @ skimage.color.rgb2xyz(np.ones((1, 3)))
    )
    encoded = encode_srgb(library.asarray(linear))
    assert isinstance(encoded, np.ndarray) == (library is np)
    np.testing.assert_allclose(encoded, expected[:, 1], rtol=0, atol=1e-6)


def test_transfer_curve_keeps_double_precision_in_numpy():
    linear = np.array([0.001, 0.2, 0.5])
    expected = [0.01292, 1.055 * 0.2 ** (1 / 2.4) - 0.055, 0.7353569830524495]
    np.testing.assert_allclose(encode_srgb(linear), expected, rtol=1e-13)
