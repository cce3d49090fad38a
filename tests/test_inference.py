"""colorgan_jax.inference against the Flax generator, scikit-image and OpenCV."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import skimage.color

from colorgan_jax.errors import ParamsError
from colorgan_jax.hints import Hints, make_hints, spread_hints
from colorgan_jax.inference import colorize, colorize_photo, predict_ab, where_to_ask
from colorgan_jax.lab import limit_chroma, rgb_to_lab
from colorgan_jax.networks.generator import Generator
from colorgan_jax.params import (
    RELEASED_PARAMS,
    fingerprint,
    fold_batch_norm,
    image_size,
    load_params,
    load_training,
    save_params,
)
from colorgan_jax.photos import Photo, read_photo, resize_photo
from configs import pretrained

SIZE = 16
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def variables():
    """A generator's variables with random values everywhere, no 0 or 1 left."""
    random = np.random.default_rng(0)
    generator = Generator(filters=4, image_size=SIZE)
    shapes = jax.eval_shape(
        lambda: generator.init(
            {"params": jax.random.key(0)}, jnp.zeros((1, SIZE, SIZE, 1)), train=False
        )
    )

    def fill(path, array):
        values = random.normal(0, 0.15, array.shape)
        if path[-1].key in ("scale", "var"):
            values = random.uniform(0.5, 2, array.shape)
        return jnp.asarray(values, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module")
def params(variables):
    return jax.jit(fold_batch_norm)(variables)


@pytest.fixture(scope="module")
def unfolded(variables):
    """The Flax generator itself in inference mode: L to ab, scaled for the network."""
    generator = Generator(filters=4, image_size=SIZE)
    return jax.jit(lambda L: generator.apply(variables, L, train=False))


def lightness(*shape):
    """Smooth L [..., H, W] from 5 to 95 with some grain, different in each image."""
    random = np.random.default_rng(1)
    *batch, height, width = shape
    y = np.linspace(0, 1, height)[:, None]
    x = np.linspace(0, 1, width)
    phase = random.uniform(0, 6, (*batch, 1, 1))
    waves = np.sin(6 * y + phase) * np.cos(5 * x - phase)
    L = 50 + 35 * waves + random.normal(0, 3, shape)
    return np.clip(L, 5, 95).astype(np.float32)


def photo(height, width):
    """A color photo uint8 [H, W, 3]."""
    red, green = lightness(height, width), lightness(width, height).T
    return (2.55 * np.stack([red, green, 100 - red], axis=-1)).astype(np.uint8)


def test_folded_network_equals_the_generator_in_inference_mode(params, unfolded):
    L = lightness(3, SIZE, SIZE)[..., None] / 50 - 1
    expected = unfolded(L)
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(predict_ab(params, L), expected, atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def efficientnet_variables():
    """Random ones of a generator whose encoder begins with EfficientNet's layers."""
    generator = Generator(filters=4, image_size=64, encoder="efficientnet")
    shapes = jax.eval_shape(
        lambda: generator.init(
            jax.random.key(0), jnp.zeros((1, 64, 64, 1)), train=False
        )
    )
    random = np.random.default_rng(0)

    def fill(path, array):
        if path[-1].key in ("scale", "var"):
            return random.uniform(0.5, 2, array.shape).astype(np.float32)
        # Keeps what passes through the layers, most of them linear, from growing.
        deviation = np.sqrt(1 / np.prod(array.shape[:-1])) if array.ndim > 1 else 0.1
        return random.normal(0, deviation, array.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module")
def efficientnet_params(efficientnet_variables):
    return fold_batch_norm(efficientnet_variables)


def test_folded_network_with_efficientnet_equals_the_generator(
    efficientnet_variables, efficientnet_params
):
    generator = Generator(filters=4, image_size=64, encoder="efficientnet")
    L = lightness(3, 64, 64)[..., None] / 50 - 1
    expected = jax.jit(lambda v, L: generator.apply(v, L, train=False))(
        efficientnet_variables, L
    )
    assert np.std(expected) > 0.05
    assert image_size(efficientnet_params) == 64
    np.testing.assert_allclose(
        jax.jit(predict_ab)(efficientnet_params, L), expected, atol=1e-5, rtol=0
    )


def test_wrong_params_with_efficientnet_are_refused_by_name(efficientnet_params):
    def without(name):
        return {key: value for key, value in efficientnet_params.items() if key != name}

    narrow = {"kernel": np.zeros((1, 1, 16, 64)), "bias": np.zeros(64)}
    for wrong, message in [
        (without("stem"), r"lack stem\.kernel"),
        (without("bottleneck_16_project"), r"lack bottleneck_16_project\.kernel"),
        (without("encoder_6"), "depth 5 has no layer decoder_6"),
        (
            {**efficientnet_params, "bottleneck_2_expand": narrow},
            r"2_expand\.kernel has shape \(1, 1, 16, 64\) instead of \(1, 1, 16, 96\)",
        ),
        (
            {**efficientnet_params, "bottleneck_17_expand": narrow},
            "depth 6 has no layer bottleneck_17_expand",
        ),
        ({**efficientnet_params, "encoder_4": narrow}, "no layer encoder_4"),
    ]:
        with pytest.raises(ParamsError, match=message):
            image_size(wrong)


def test_folding_a_full_size_generator_keeps_its_layers():
    generator = Generator(filters=64, image_size=256)
    variables = jax.eval_shape(
        lambda: generator.init(
            {"params": jax.random.key(0)}, jnp.zeros((1, 256, 256, 1)), train=False
        )
    )
    folded = jax.eval_shape(fold_batch_norm, variables)
    assert image_size(folded) == 256
    assert len(folded) == 16
    # The report's channels; the inputs of decoder blocks are doubled by the skips.
    encoder = [1, 64, 128, 256, 512, 512, 512, 512, 512]
    inputs = [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    outputs = [512, 512, 512, 512, 256, 128, 64, 2]
    for block in range(1, 9):
        kernel = folded[f"encoder_{block}"]["kernel"].shape
        assert kernel == (4, 4, encoder[block - 1], encoder[block])
        kernel = folded[f"decoder_{block}"]["kernel"].shape
        assert kernel == (4, 4, outputs[block - 1], inputs[block - 1])
    arrays = jax.tree.leaves(folded)
    assert sum(array.size for array in arrays) == 54_400_000 + 3_008 + 2_498


def test_colors_are_those_of_the_network_where_srgb_has_them(params, unfolded):
    L = lightness(2, SIZE, SIZE)
    ab = unfolded(L[..., None] / 50 - 1) * 110
    lab = np.concatenate([L[..., None], ab], axis=-1).astype(float)
    linear = skimage.color.lab2xyz(lab) @ skimage.color.colorconv.rgb_from_xyz.T
    shown = np.all((linear > 0) & (linear < 1), axis=-1)
    assert 0.3 < shown.mean() < 1
    expected = skimage.color.lab2rgb(lab)
    rgb = np.asarray(colorize(params, L))
    np.testing.assert_allclose(rgb[shown], expected[shown], atol=2e-3, rtol=0)


@pytest.mark.parametrize("saturation", [0.0, 0.25, 0.5])
def test_saturation_multiplies_ab(params, unfolded, saturation):
    L = lightness(2, SIZE, SIZE)
    ab = saturation * unfolded(L[..., None] / 50 - 1) * 110
    shown = np.all(np.abs(ab) < 15, axis=-1) & (L > 25) & (L < 80)
    assert shown.mean() > 0.05
    rgb = colorize(params, L, saturation=saturation)
    result = skimage.color.rgb2lab(np.asarray(rgb, float))[..., 1:]
    np.testing.assert_allclose(result[shown], ab[shown], atol=0.05, rtol=0)


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (2, 45, 70), (1, 3, 1, 90)])
def test_lightness_is_the_given_one(params, shape):
    L = lightness(*shape)
    rgb = np.asarray(colorize(params, L))
    assert rgb.shape == (*shape, 3) and rgb.dtype == np.float32
    assert rgb.min() >= 0 and rgb.max() <= 1
    assert np.ptp(rgb, axis=-1).mean() > 0.05  # it did put color in
    result = skimage.color.rgb2lab(rgb.astype(float))[..., 0]
    np.testing.assert_allclose(result, L, atol=0.02, rtol=0)


def test_leading_dimensions_are_colorized_one_by_one(params):
    L = lightness(2, 3, 7, 50)
    together = colorize(params, L)
    assert together.shape == (2, 3, 7, 50, 3)
    np.testing.assert_allclose(together[1, 2], colorize(params, L[1, 2]), atol=1e-5)


@pytest.mark.parametrize("shape", [(0, SIZE, SIZE), (0, 8, 8), (2, 0, 20, 30)])
def test_a_batch_may_be_empty(params, shape):
    assert colorize(params, np.zeros(shape, np.float32)).shape == (*shape, 3)


def test_jit_and_vmap_change_nothing(params):
    L = lightness(3, 20, 24)
    expected = colorize(params, L)
    np.testing.assert_allclose(jax.jit(colorize)(params, L), expected, atol=1e-5)
    mapped = jax.vmap(colorize, in_axes=(None, 0))(params, L)
    np.testing.assert_allclose(mapped, expected, atol=1e-5)


def test_colorize_can_be_lowered_and_takes_keywords(params):
    L = lightness(20, 24)
    compiled = colorize.lower(params, L, saturation=0.5).compile()
    expected = colorize(params=params, L=L, saturation=0.5)
    np.testing.assert_allclose(compiled(params, L, saturation=0.5), expected, atol=1e-6)


@pytest.mark.parametrize("exported", ["colorize", "predict_ab"])
def test_one_artifact_serves_every_batch_size_and_platform(params, exported):
    function, channels, atol = {
        "colorize": (colorize, (), 1e-5),
        "predict_ab": (jax.jit(predict_ab), (1,), 1e-5),
    }[exported]
    (batch,) = jax.export.symbolic_shape("b")
    shapes = (
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params),
        jax.ShapeDtypeStruct((batch, SIZE, SIZE, *channels), jnp.float32),
    )
    artifact = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(*shapes)
    loaded = jax.export.deserialize(artifact.serialize())
    for count in (1, 5):
        L = lightness(count, SIZE, SIZE).reshape(count, SIZE, SIZE, *channels)
        L = L / 50 - 1 if channels else L
        np.testing.assert_allclose(
            loaded.call(params, L), function(params, L), atol=atol, rtol=0
        )


@jax.jit
def gradients(params, L):
    """Of a weighted mean of the colors, by the parameters and by L."""

    def mean(params, L):
        return jnp.sum(colorize(params, L) * jnp.arange(3.0)) / L.size

    return jax.grad(mean, argnums=(0, 1))(params, L)


def test_gradients_equal_finite_differences(params):
    # Pale colors of medium lightness, where no chroma is limited and no gradient cut.
    L = 40 + 0.2 * lightness(20, 24)
    pale = {**params, "decoder_4": jax.tree.map(lambda x: x / 50, params["decoder_4"])}
    by_params, by_L = gradients(pale, L)

    def slope(move, step):
        ends = [np.asarray(colorize(*move(sign * step)), float) for sign in (1, -1)]
        return np.sum((ends[0] - ends[1]) * np.arange(3)) / L.size / (2 * step)

    def move_bias(step):
        last = {**pale["decoder_4"], "bias": pale["decoder_4"]["bias"] + step}
        return {**pale, "decoder_4": last}, L

    def move_L(step):
        return pale, L + np.float32(step)

    np.testing.assert_allclose(
        jnp.sum(by_params["decoder_4"]["bias"]), slope(move_bias, 1e-3), rtol=0.01
    )
    np.testing.assert_allclose(jnp.sum(by_L), slope(move_L, 0.05), rtol=0.01)


def test_gradients_are_finite_outside_the_gamut_and_at_black_and_white(params):
    L = lightness(20, 24)
    L[:4], L[4:8] = 0, 100
    for gradient in jax.tree.leaves(gradients(params, L)):
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize(
    ("L", "error", "message"),
    [
        (np.zeros(5, np.float32), ValueError, r"\[\.\.\., height, width\].*\(5,\)"),
        (np.zeros((4, 0), np.float32), ValueError, r"\(4, 0\)"),
        (np.zeros((8, 8), np.uint8), TypeError, r"uint8.*rgb_to_lab"),
        (
            np.zeros((9, 8, 3), np.float32),
            ValueError,
            r"\(9, 8, 3\): pass colorgan_jax\.lab\.rgb_to_lab\(rgb\)\[\.\.\., 0\]",
        ),
        (
            np.zeros((8, 8, 1), np.float32),
            ValueError,
            r"\(8, 8, 1\): pass L\[\.\.\., 0\]",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_lightness_is_refused(params, L, error, message):
    with pytest.raises(error, match=message):
        colorize(params, L)


@pytest.mark.usefixtures("unchecked")
def test_params_that_are_not_a_generators_are_refused(params, variables):
    def without(name):
        return {key: value for key, value in params.items() if key != name}

    wide = {"kernel": np.zeros((4, 4, 9, 16)), "bias": np.zeros(16)}
    cases = [
        (variables, "fold_batch_norm"),
        (variables["params"], r"lack encoder_1\.kernel"),
        ({}, "no encoder_1"),
        (without("decoder_3"), r"lack decoder_3\.kernel"),
        ({**params, "decoder_9": wide}, "no layer decoder_9"),
        ({**params, "encoder_3": wide}, r"\(4, 4, 9, 16\) instead of \(4, 4, 8, 16\)"),
    ]
    for wrong, message in cases:
        with pytest.raises(ParamsError, match=message):
            colorize(wrong, lightness(SIZE, SIZE))


@pytest.mark.usefixtures("unchecked")
def test_predict_ab_names_the_size_that_it_takes(params):
    with pytest.raises(ValueError, match=r"\[B, 16, 16, 1\], not \(1, 64, 64, 1\)"):
        predict_ab(params, jnp.zeros((1, 64, 64, 1)))


@pytest.mark.parametrize("saturation", [1.0, 0.3])
def test_colorize_photo_equals_colorize_at_the_networks_size(params, saturation):
    rgb = photo(SIZE, SIZE)
    L = rgb_to_lab(rgb / np.float32(255))[..., 0]
    expected = 255 * colorize(params, L, saturation=saturation)
    result = colorize_photo(params, Photo(rgb), saturation=saturation)
    difference = result.pixels - expected
    assert np.abs(difference).max() < 0.51  # rounding to 8 bits


# The second has more pixels than are converted at a time, and one row of the third has; the
# last two are smaller than the network's size along one axis.
@pytest.mark.parametrize(
    ("height", "width"), [(90, 61), (401, 700), (2, 70_000), (5, 90), (90, 5)]
)
def test_colorize_photo_equals_colorize_to_within_one_level(params, height, width):
    rgb = photo(height, width)
    result = colorize_photo(params, Photo(rgb)).pixels
    assert result.shape == rgb.shape and result.dtype == np.uint8
    L = rgb_to_lab(rgb / np.float32(255))[..., 0]
    difference = np.abs(result - 255 * np.asarray(colorize(params, L)))
    assert difference.max() < 1


@pytest.mark.parametrize("saturation", [1.0, 8.0])
def test_a_photo_of_16_bits_equals_colorize_and_one_of_8_bits(params, saturation):
    rgb = photo(300, 600)
    wide = Photo(rgb * np.uint16(257))
    result = colorize_photo(params, wide, saturation=saturation).pixels
    assert result.shape == rgb.shape and result.dtype == np.uint16
    L = rgb_to_lab(rgb / np.float32(255))[..., 0]
    expected = np.asarray(colorize(params, L, saturation=saturation))
    np.testing.assert_allclose(result / 65535, expected, atol=2e-3, rtol=0)
    eight = colorize_photo(params, Photo(rgb), saturation=saturation).pixels
    np.testing.assert_allclose(result / 257, eight, atol=0.51, rtol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colorize_photo_keeps_the_lightness_to_one_level(params, dtype):
    white = np.iinfo(dtype).max
    random = np.random.default_rng(5)
    levels = np.linspace(0, white, 300 * 500).reshape(300, 500)
    levels = np.clip(levels + random.normal(0, white / 20, levels.shape), 0, white)
    rgb = levels.astype(dtype)[..., None].repeat(3, axis=-1)
    result = colorize_photo(params, Photo(rgb), saturation=3.0).pixels
    L = skimage.color.rgb2lab(result / white)[..., 0]
    gray = white * skimage.color.lab2rgb(np.stack([L, 0 * L, 0 * L], axis=-1))[..., 1]
    assert np.ptp(result.astype(int), axis=-1).mean() > white / 10  # color was put in
    assert np.abs(gray - rgb[..., 0]).max() < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_real_photos_keep_their_lightness_to_one_level(params, dtype, real_photos):
    def gray_levels(pixels):
        L = skimage.color.rgb2lab(pixels / np.float64(white))[..., 0]
        lab = np.stack([L, 0 * L, 0 * L], axis=-1)
        return white * skimage.color.lab2rgb(lab)[..., 1]

    white = np.iinfo(dtype).max
    for path in sorted((real_photos / "old").iterdir()):
        pixels = read_photo(path).rgb8()[::2, ::2]
        if dtype == np.uint16:  # Enlarged, it has levels between those of 8 bits.
            height, width, _ = pixels.shape
            pixels = resize_photo(pixels * np.uint16(257), height + 9, width + 9)
        result = colorize_photo(params, Photo(pixels)).pixels
        assert result.dtype == dtype
        difference = np.abs(gray_levels(result) - gray_levels(pixels))
        assert difference.max() < 1, path.name


def test_a_photo_of_one_color_is_seen_alike_at_every_size(params):
    # Averaging over areas keeps it what it is, so that the colors do not depend on the size.
    small, large = np.full((SIZE, SIZE), 60.0), np.full((200, 333), 60.0)
    expected = np.asarray(colorize(params, small)).mean(axis=(0, 1))
    actual = np.asarray(colorize(params, large)).mean(axis=(0, 1))
    np.testing.assert_allclose(actual, expected, atol=0.02)


def test_the_network_sees_the_lightness_averaged_over_areas(params):
    blocks = lightness(SIZE, SIZE)
    noise = np.random.default_rng(3).normal(0, 4, (SIZE, 8, SIZE, 8))
    noise -= noise.mean(axis=(1, 3), keepdims=True)
    large = (blocks[:, None, :, None] + noise).reshape(8 * SIZE, 8 * SIZE)
    ab = np.asarray(predict_ab(params, blocks[None, ..., None] / 50 - 1))[0] * 110
    lab = rgb_to_lab(colorize(params, large.astype(np.float32), saturation=0.2))
    expected = cv2.resize(0.2 * ab, large.shape[::-1], interpolation=cv2.INTER_CUBIC)
    shown = (large > 25) & (large < 75)
    np.testing.assert_allclose(
        np.asarray(lab)[..., 1:][shown], expected[shown], atol=0.2, rtol=0
    )


def test_colorize_photo_keeps_lightness(params):
    rgb = photo(80, 120)
    result = colorize_photo(params, Photo(rgb)).pixels
    before = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    after = cv2.cvtColor(result.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    # Rounding to 8 bits is worth up to half a unit of L in saturated colors.
    np.testing.assert_allclose(after[..., 0], before[..., 0], atol=0.6, rtol=0)
    assert np.abs(after[..., 1:] - before[..., 1:]).mean() > 5


def test_colorize_photo_compiles_nothing_for_another_size(params):
    colorize_photo(params, Photo(photo(64, 48)))
    compilations = []

    def listener(event, duration, **_):
        if "backend_compile" in event:
            compilations.append(event)

    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        colorize_photo(params, Photo(photo(120, 33)))
        assert compilations == []
        jax.jit(lambda x: x + 123)(jnp.zeros(77))  # the listener does hear compilations
        assert compilations != []
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 3), np.int16),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_colorize_photo_refuses_other_arrays(params, pixels):
    with pytest.raises(ValueError, match=r"uint8 or uint16 of shape \[height, width\]"):
        colorize_photo(params, Photo(pixels))


@pytest.mark.parametrize("saturation", [-1.0, np.nan, np.inf])
def test_colorize_photo_refuses_a_saturation_that_is_none(params, saturation):
    with pytest.raises(ValueError, match="from 0 on, not"):
        colorize_photo(params, Photo(np.zeros((4, 4), np.uint8)), saturation=saturation)


def test_saved_params_come_back_from_the_file_and_the_work_directory(tmp_path, params):
    training = {"config": {"betas": [0.5, 0.999], "seed": None}, "step": 766}
    path = tmp_path / "params.safetensors"
    path.write_bytes(b"an older file")
    save_params(path, params, training)
    assert os.listdir(tmp_path) == [path.name]
    for source in (path, tmp_path, str(tmp_path)):
        loaded = load_params(source)
        jax.tree.map(np.testing.assert_array_equal, loaded, params)
        assert load_training(source) == training


def test_half_precision_takes_half_the_space(tmp_path, efficientnet_params):
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_params(whole, efficientnet_params, {"step": 1})
    save_params(half, efficientnet_params, {"step": 1}, half_precision=True)
    arrays = jax.tree.leaves(efficientnet_params)
    values = sum(array.size for array in arrays)
    assert half.stat().st_size < 2 * values + 100 * len(arrays)  # A name and a shape.
    assert whole.stat().st_size > 4 * values
    assert load_training(half) == {"step": 1}
    loaded = load_params(half)
    assert {array.dtype for array in jax.tree.leaves(loaded)} == {jnp.float32.dtype}
    # 11 bits of precision, and steps of 2**-24 below the smallest normal number.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2**-11, atol=2**-25),
        loaded,
        dict(efficientnet_params),
    )


@pytest.mark.parametrize("value", [65_505.0, -1e6, np.inf, np.nan])
def test_half_precision_refuses_what_it_cannot_hold(tmp_path, params, value):
    bias = np.array(params["decoder_2"]["bias"])
    bias[1] = value
    large = {**params, "decoder_2": {**params["decoder_2"], "bias": bias}}
    with pytest.raises(ParamsError, match=r"decoder_2\.bias .* half precision"):
        save_params(tmp_path / "half.safetensors", large, {}, half_precision=True)
    assert os.listdir(tmp_path) == []


def test_the_released_parameters_are_small_and_say_how_they_were_trained():
    assert RELEASED_PARAMS.stat().st_size <= 40_000_000
    assert image_size(load_params()) == 256
    assert load_training()["step"] > 0
    assert load_training()["config"]["generator"]["encoder"] == "efficientnet"


def test_the_released_parameters_have_a_name():
    named, file = load_params("released"), load_params(RELEASED_PARAMS)
    assert fingerprint(named) == fingerprint(file) == fingerprint(load_params())


def test_the_released_parameters_are_of_the_pretrained_recipe():
    trained, recipe = load_training()["config"], pretrained.get_config().to_dict()
    for name in ("batch_size", "epochs", "generator", "optimizer"):
        assert trained[name] == recipe[name]
    # L1 alone: when they were trained, a config said so by an epoch that never comes.
    assert trained["loss"]["adversarial_from_epoch"] == trained["epochs"]
    assert recipe["loss"]["adversarial_weight"] == 0
    assert trained["loss"]["l1_weight"] == recipe["loss"]["l1_weight"]


def test_the_file_can_be_read_without_this_package(tmp_path, params):
    save_params(tmp_path / "params.safetensors", params, {"step": 766})
    with safetensors.safe_open(tmp_path / "params.safetensors", "numpy") as file:
        metadata = file.metadata()
        kernel = file.get_tensor("encoder_1.kernel")
    assert (
        metadata["version"] == "2" and json.loads(metadata["training"])["step"] == 766
    )
    np.testing.assert_array_equal(kernel, params["encoder_1"]["kernel"])


def test_a_failed_save_leaves_the_older_file_and_nothing_else(
    tmp_path, params, monkeypatch
):
    path = tmp_path / "params.safetensors"
    save_params(path, params, {})
    before = path.read_bytes()

    def fill_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fill_disk)
    with pytest.raises(OSError, match=r"params\.safetensors cannot be written: No spa"):
        save_params(path, params, {})
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]


@pytest.mark.usefixtures("unchecked")
def test_save_params_refuses_what_load_params_would_refuse(tmp_path, variables):
    with pytest.raises(ParamsError, match="fold_batch_norm"):
        save_params(tmp_path / "params.safetensors", variables, {})
    assert os.listdir(tmp_path) == []


def test_load_params_names_what_is_wrong_with_a_file(tmp_path, params):
    good = tmp_path / "good.safetensors"
    save_params(good, params, {})
    arrays = safetensors.numpy.load_file(good)
    with safetensors.safe_open(good, "numpy") as file:
        metadata = file.metadata()

    def written(name, arrays, metadata):
        path = tmp_path / name
        safetensors.numpy.save_file(arrays, path, metadata)
        return path

    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(good.read_bytes()[:-100])
    text = tmp_path / "text.safetensors"
    text.write_text("not parameters")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    workdir = tmp_path / "workdir"
    workdir.mkdir()
    fewer = {key: array for key, array in arrays.items() if key != "decoder_2.bias"}
    wrong = {**arrays, "encoder_2.kernel": np.zeros((4, 4, 5, 8), np.float32)}

    for path, message in [
        (tmp_path / "nothing", "does not exist"),
        (workdir, r"holds no params\.safetensors"),
        (truncated, "damaged or no safetensors file"),
        (text, "damaged or no safetensors file"),
        (empty, "damaged or no safetensors file"),
        (written("plain", arrays, None), "not one of colorgan_jax"),
        (
            written("other", arrays, {**metadata, "format": "pt"}),
            "not one of colorgan_jax",
        ),
        (
            written("older", arrays, {**metadata, "version": "1"}),
            "format version 1, but this colorgan_jax reads version 2",
        ),
        (
            written("newer", arrays, {**metadata, "version": "3"}),
            "format version 3, but this colorgan_jax reads version 2",
        ),
        (written("fewer", fewer, metadata), r"lack decoder_2\.bias"),
        (
            written("wrong", wrong, metadata),
            r"encoder_2\.kernel has shape \(4, 4, 5, 8\) instead of \(4, 4, 4, 8\)",
        ),
    ]:
        with pytest.raises(ParamsError, match=message) as error:
            load_params(path)
        assert str(path) in str(error.value)


def test_colorize_imports_neither_tensorflow_nor_orbax(tmp_path, params):
    save_params(tmp_path / "params.safetensors", params, {})
    program = (
        "import sys, numpy, colorgan_jax\n"
        f"params = colorgan_jax.load_params({str(tmp_path)!r})\n"
        "rgb = colorgan_jax.colorize(params, numpy.full((32, 32), 50.0))\n"
        "assert rgb.shape == (32, 32, 3)\n"
        "slow = {'tensorflow', 'orbax', 'tensorstore', 'optax', 'flax.nnx'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "[]\n", result.stderr


def some_hints(random, count=3):
    return make_hints(
        random.uniform(0.1, 0.9, (count, 2)), random.uniform(-40, 40, (count, 2)), 0.05
    )


@pytest.mark.parametrize("saturation", [1.0, 1.5])
def test_hints_correct_what_the_network_predicts(params, saturation):
    random = np.random.default_rng(5)
    L, hints = (
        random.uniform(30, 70, (SIZE, SIZE)).astype(np.float32),
        some_hints(random),
    )
    variables = {"params": params}
    generator = Generator.from_params(params)
    seen = L[None, ..., None] / 50 - 1
    features = generator.apply(variables, seen, train=False, method="encode")
    ab = saturation * generator.apply(variables, seen, train=False)[0]
    ab, _ = spread_hints(hints, L, ab, [block[0] for block in features])
    expected = limit_chroma(np.concatenate([L[..., None], 110 * ab], axis=-1))
    result = rgb_to_lab(colorize(params, L, hints=hints, saturation=saturation))
    np.testing.assert_allclose(result, expected, atol=0.05)


def test_colorize_and_colorize_photo_agree_with_hints(params, tmp_path):
    random = np.random.default_rng(6)
    pixels = cv2.resize(
        random.integers(60, 200, (6, 8), np.uint8),
        (96, 40),
        interpolation=cv2.INTER_CUBIC,
    )
    hints = some_hints(random)
    L = skimage.color.rgb2lab(np.stack([pixels] * 3, axis=-1))[..., 0].astype(
        np.float32
    )
    expected = colorize(params, L, hints=hints)
    result = colorize_photo(params, Photo(pixels), hints=hints).pixels
    np.testing.assert_allclose(result, 255 * np.asarray(expected), atol=1.51)
    without = colorize_photo(params, Photo(pixels)).pixels
    assert np.abs(result.astype(int) - without).max() > 20


def test_each_image_of_a_batch_has_its_hints(params):
    random = np.random.default_rng(7)
    L = random.uniform(30, 70, (2, 1, 20, 30)).astype(np.float32)
    each = [some_hints(random), some_hints(random, 0)]
    hints = Hints(*(np.stack(arrays)[:, None] for arrays in zip(*each, strict=True)))
    result = colorize(params, L, hints=hints)
    for index in range(2):
        alone = colorize(params, L[index, 0], hints=each[index])
        np.testing.assert_allclose(result[index, 0], alone, atol=1e-4)
    np.testing.assert_allclose(result[1], colorize(params, L[1]), atol=1e-4)
    with pytest.raises(
        ValueError, match=r"leading dimensions \(2, 1\), its hints \(\)"
    ):
        colorize(params, L, hints=each[0])


def test_a_person_is_asked_where_little_is_known(params):
    L = lightness(2, 40, 60)
    places, error = where_to_ask(params, L, count=3)
    assert places.shape == (2, 3, 2) and error.shape == (2, SIZE, SIZE)
    assert 0 < places.min() and places.max() < 1
    # What is told there lowers the error there, and the next place is another one.
    hints = [make_hints(three, np.zeros((3, 2))) for three in places]
    hints = Hints(*map(np.stack, zip(*hints, strict=True)))
    more, less = where_to_ask(params, L, hints=hints, count=1)
    for image in range(2):
        rows, columns = (np.asarray(places[image]) * SIZE).astype(int).T
        before, after = (array[image][rows, columns] for array in (error, less))
        assert (after < 0.7 * before).all()
        apart = np.linalg.norm(more[image] - places[image], axis=-1)
        assert apart.min() > 0.05
    assert (less <= error + 1e-5).all()


@pytest.mark.usefixtures("unchecked")
def test_where_to_ask_refuses_what_colorize_refuses(params):
    with pytest.raises(TypeError, match="where_to_ask takes L as floats"):
        where_to_ask(params, np.zeros((SIZE, SIZE), np.uint8))
    places, error = where_to_ask(params, jnp.zeros((0, SIZE, SIZE)), count=2)
    assert places.shape == (0, 2, 2) and error.shape == (0, SIZE, SIZE)
