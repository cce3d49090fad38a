"""The networks against a table written by hand from the report and from pix2pix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorgan_jax.networks.architecture import Architecture, unet_depth
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator

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


def bottleneck(inputs: int, features: int, size: int, outputs: int) -> int:
    """Parameters of EfficientNet's bottleneck, with BatchNorm folded into biases."""
    expand = (inputs + 1) * features if features > inputs else 0
    return expand + (size**2 + 1) * features + (features + 1) * outputs


# From table 1 of "EfficientNet", whose channels Lite0 shares; the others as above, here
# with 32 filters and at most 128, and skips of EfficientNet's widths.
EFFICIENTNET_GENERATOR = {
    "encoder_1": (128, 16, (9 + 1) * 32 + bottleneck(32, 32, 3, 16)),
    "encoder_2": (64, 24, bottleneck(16, 96, 3, 24) + bottleneck(24, 144, 3, 24)),
    "encoder_3": (32, 40, bottleneck(24, 144, 5, 40) + bottleneck(40, 240, 5, 40)),
    "encoder_4": (
        16,
        112,
        bottleneck(40, 240, 3, 80)
        + 2 * bottleneck(80, 480, 3, 80)
        + bottleneck(80, 480, 5, 112)
        + 2 * bottleneck(112, 672, 5, 112),
    ),
    "encoder_5": (
        8,
        320,
        bottleneck(112, 672, 5, 192)
        + 3 * bottleneck(192, 1152, 5, 192)
        + bottleneck(192, 1152, 3, 320),
    ),
    "encoder_6": (4, 128, 16 * 320 * 128 + 2 * 128),
    "encoder_7": (2, 128, 16 * 128 * 128 + 2 * 128),
    "encoder_8": (1, 128, 16 * 128 * 128 + 2 * 128),
    "decoder_1": (2, 128, 16 * 128 * 128 + 2 * 128),
    "decoder_2": (4, 128, 16 * (128 + 128) * 128 + 2 * 128),
    "decoder_3": (8, 128, 16 * (128 + 128) * 128 + 2 * 128),
    "decoder_4": (16, 128, 16 * (128 + 320) * 128 + 2 * 128),
    "decoder_5": (32, 128, 16 * (128 + 112) * 128 + 2 * 128),
    "decoder_6": (64, 64, 16 * (128 + 40) * 64 + 2 * 64),
    "decoder_7": (128, 32, 16 * (64 + 24) * 32 + 2 * 32),
    "decoder_8": (256, 2, 16 * (32 + 16) * 2 + 2),
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


def test_generator_with_efficientnet_and_a_limit_of_filters():
    network = Generator(filters=32, maximum_filters=128, encoder="efficientnet")
    blocks = describe(network, jnp.zeros((1, 256, 256, 1)))
    assert blocks == EFFICIENTNET_GENERATOR


@pytest.mark.parametrize(
    "generator",
    [
        Generator(folded=True),
        Generator(filters=4, image_size=8, folded=True),
        Generator(filters=8, maximum_filters=16, image_size=64, folded=True),
        Generator(filters=8, image_size=64, encoder="efficientnet", folded=True),
    ],
)
def test_the_parameters_that_are_expected_are_those_of_flax(generator):
    L = jnp.zeros((1, generator.image_size, generator.image_size, 1))
    init = functools.partial(generator.init, train=False)
    made = jax.eval_shape(init, jax.random.key(0), L)["params"]
    shapes = jax.tree.map(lambda array: array.shape, made)
    architecture = Architecture(
        generator.filters,
        generator.maximum_filters,
        generator.image_size,
        generator.encoder,
    )
    assert architecture.layer_shapes() == shapes
    assert list(architecture.layer_shapes())[-1] == (
        f"decoder_{unet_depth(L.shape[1])}"
    )


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


@pytest.mark.parametrize(("halvings", "patch"), [(3, 70), (2, 34), (1, 16)])
def test_each_logit_sees_a_patch(halvings, patch):
    L = jax.random.normal(jax.random.key(0), (1, 128, 128, 1))
    ab = jax.random.normal(jax.random.key(1), (1, 128, 128, 2))
    network = Discriminator(filters=4, halvings=halvings)
    variables = network.init(jax.random.key(2), L, ab, train=False)
    middle = 64 // 2**halvings - 1

    def central_logit(L):
        return network.apply(variables, L, ab, train=False)[0, middle, middle, 0]

    seen = np.nonzero(np.asarray(jax.grad(central_logit)(L))[0, :, :, 0])
    assert [np.ptp(axis) + 1 for axis in seen] == [patch, patch]


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
        ({"encoder": "resnet"}, "encoder is resnet: it must be unet or efficientnet"),
        (
            {"encoder": "efficientnet", "image_size": 16},
            "image_size is 16.* 32 or more",
        ),
        (
            {"encoder": "efficientnet", "frozen_blocks": 6},
            "frozen_blocks is 6.* from 0 to 5",
        ),
        ({"encoder": "efficientnet", "frozen_blocks": -1}, "frozen_blocks is -1"),
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
