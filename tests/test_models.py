"""The networks against a table written by hand from the report and from pix2pix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorgan_jax.models import Discriminator, Generator, unet_depth

# Block: (output height and width, output channels, parameters). A 4x4 convolution has
# 16 * inputs * outputs weights; BatchNorm has 2 * outputs parameters, and where there
# is none the convolution has a bias of `outputs`.
GENERATOR = {
    "encoder_1": (128, 64, 16 * 1 * 64 + 64),
    "encoder_2": (64, 128, 16 * 64 * 128 + 2 * 128),
    "encoder_3": (32, 256, 16 * 128 * 256 + 2 * 256),
    "encoder_4": (16, 512, 16 * 256 * 512 + 2 * 512),
    "encoder_5": (8, 512, 16 * 512 * 512 + 2 * 512),
    "encoder_6": (4, 512, 16 * 512 * 512 + 2 * 512),
    "encoder_7": (2, 512, 16 * 512 * 512 + 2 * 512),
    "encoder_8": (1, 512, 16 * 512 * 512 + 2 * 512),
    "decoder_1": (2, 512, 16 * 512 * 512 + 2 * 512),
    "decoder_2": (4, 512, 16 * (512 + 512) * 512 + 2 * 512),
    "decoder_3": (8, 512, 16 * (512 + 512) * 512 + 2 * 512),
    "decoder_4": (16, 512, 16 * (512 + 512) * 512 + 2 * 512),
    "decoder_5": (32, 256, 16 * (512 + 512) * 256 + 2 * 256),
    "decoder_6": (64, 128, 16 * (256 + 256) * 128 + 2 * 128),
    "decoder_7": (128, 64, 16 * (128 + 128) * 64 + 2 * 64),
    "decoder_8": (256, 2, 16 * (64 + 64) * 2 + 2),
}
# VGG16's convolutions are 3x3 and have a bias; the others are as above, here with 32
# filters and at most 128, and skips of VGG16's widths.
VGG16_GENERATOR = {
    "encoder_1": (64, 128, 9 * (1 + 64) * 64 + 9 * (64 + 128) * 128 + 2 * (64 + 128)),
    "encoder_2": (32, 256, 9 * 128 * 256 + 2 * 9 * 256 * 256 + 3 * 256),
    "encoder_3": (16, 512, 9 * 256 * 512 + 2 * 9 * 512 * 512 + 3 * 512),
    "encoder_4": (8, 512, 3 * 9 * 512 * 512 + 3 * 512),
    "encoder_5": (4, 128, 16 * 512 * 128 + 2 * 128),
    "encoder_6": (2, 128, 16 * 128 * 128 + 2 * 128),
    "encoder_7": (1, 128, 16 * 128 * 128 + 2 * 128),
    "decoder_1": (2, 128, 16 * 128 * 128 + 2 * 128),
    "decoder_2": (4, 128, 16 * (128 + 128) * 128 + 2 * 128),
    "decoder_3": (8, 128, 16 * (128 + 128) * 128 + 2 * 128),
    "decoder_4": (16, 128, 16 * (128 + 512) * 128 + 2 * 128),
    "decoder_5": (32, 64, 16 * (128 + 512) * 64 + 2 * 64),
    "decoder_6": (64, 32, 16 * (64 + 256) * 32 + 2 * 32),
    "decoder_7": (128, 2, 16 * (32 + 128) * 2 + 2),
}
DISCRIMINATOR = {
    "conv_1": (128, 64, 16 * 3 * 64 + 64),
    "conv_2": (64, 128, 16 * 64 * 128),
    "conv_3": (32, 256, 16 * 128 * 256),
    "conv_4": (31, 512, 16 * 256 * 512),
    "conv_5": (30, 1, 16 * 512 * 1 + 1),
}
DISCRIMINATOR_NORMS = 2 * 128 + 2 * 256 + 2 * 512


def describe(network, *inputs):
    """{block: (output size, output channels, parameters)}, without computing."""
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), *inputs, train=False)
    )
    _, captured = jax.eval_shape(
        lambda v: network.apply(
            v, *inputs, train=False, capture_intermediates=True, mutable="intermediates"
        ),
        variables,
    )
    return {
        name: (
            *captured["intermediates"][name]["__call__"][0].shape[2:],
            sum(leaf.size for leaf in jax.tree.leaves(params)),
        )
        for name, params in variables["params"].items()
    }


def test_generator_is_the_reports():
    assert describe(Generator(), jnp.zeros((1, 256, 256, 1))) == GENERATOR
    # The generator of pix2pix's own PyTorch code has 54,413,955 parameters: two more
    # channels in and one more out, no bias in the first block, no BatchNorm in the
    # eighth (which the report has).
    ours = sum(count for _, _, count in GENERATOR.values())
    assert ours + 16 * 2 * 64 + (16 * 128 + 1) - 64 - 2 * 512 == 54_413_955


def test_generator_with_vgg16_and_a_limit_of_filters():
    network = Generator(
        filters=32, maximum_filters=128, image_size=128, encoder="vgg16"
    )
    blocks = describe(network, jnp.zeros((1, 128, 128, 1)))
    assert blocks == VGG16_GENERATOR
    # torchvision's VGG16 has 14,714,688 parameters before its classifier, of which the
    # first convolution loses two of its three input channels.
    ours = sum(blocks[f"encoder_{block}"][2] for block in range(1, 5))
    assert ours == 14_714_688 - 2 * 9 * 64


def test_discriminator_is_the_reports():
    inputs = jnp.zeros((1, 256, 256, 1)), jnp.zeros((1, 256, 256, 2))
    blocks = describe(Discriminator(), *inputs)
    norms = [blocks.pop(f"norm_{block}")[2] for block in (2, 3, 4)]
    assert blocks == DISCRIMINATOR
    assert sum(norms) == DISCRIMINATOR_NORMS


def test_initial_values_are_pix2pixs():
    variables = jax.jit(Discriminator().init, static_argnames="train")(
        jax.random.key(0),
        jnp.zeros((1, 32, 32, 1)),
        jnp.zeros((1, 32, 32, 2)),
        train=False,
    )
    params = variables["params"]
    kernel = params["conv_4"]["kernel"]
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 0.02], atol=1e-4)
    scale = params["norm_4"]["scale"]
    np.testing.assert_allclose([scale.mean(), scale.std()], [1, 0.02], atol=5e-3)
    assert not params["conv_1"]["bias"].any()
    assert not params["norm_4"]["bias"].any()


def test_each_logit_sees_a_patch_of_70_pixels():
    L = jax.random.normal(jax.random.key(0), (1, 128, 128, 1))
    ab = jax.random.normal(jax.random.key(1), (1, 128, 128, 2))
    network = Discriminator(filters=4)
    variables = network.init(jax.random.key(2), L, ab, train=False)

    def central_logit(L):
        return network.apply(variables, L, ab, train=False)[0, 7, 7, 0]

    seen = np.nonzero(np.asarray(jax.grad(central_logit)(L))[0, :, :, 0])
    assert [np.ptp(axis) + 1 for axis in seen] == [70, 70]


def test_dropout_draws_noise_in_training_only():
    network = Generator(filters=4, image_size=32)
    L = jax.random.normal(jax.random.key(0), (4, 32, 32, 1))
    variables = network.init(jax.random.key(1), L, train=False)

    def train_output(seed):
        return network.apply(
            variables,
            L,
            train=True,
            mutable="batch_stats",
            rngs={"dropout": jax.random.key(seed)},
        )[0]

    np.testing.assert_array_equal(train_output(0), train_output(0))
    assert np.abs(train_output(0) - train_output(1)).max() > 1e-4
    # No random stream is given here: drawing from it would raise.
    assert network.apply(variables, L, train=False).shape == (4, 32, 32, 2)


def test_sizes_that_do_not_halve_to_one_pixel_are_refused():
    assert [unet_depth(size) for size in (8, 64, 256)] == [3, 6, 8]
    for size in (0, 4, 48, 255):
        with pytest.raises(ValueError, match="power of two"):
            unet_depth(size)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "resnet"}, "encoder is resnet: it must be unet or vgg16"),
        ({"encoder": "vgg16", "image_size": 16}, "image_size is 16.* 32 or more"),
        ({"encoder": "vgg16", "frozen_blocks": 5}, "frozen_blocks is 5.* from 0 to 4"),
        ({"encoder": "vgg16", "frozen_blocks": -1}, "frozen_blocks is -1"),
        ({"frozen_blocks": 1}, "frozen_blocks is 1.*unet it must be 0"),
    ],
)
def test_impossible_encoders_are_refused(values, message):
    network = Generator(**{"filters": 4, "image_size": 32} | values)
    size = network.image_size
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda: network.init(
                jax.random.key(0), jnp.zeros((1, size, size, 1)), train=False
            )
        )
