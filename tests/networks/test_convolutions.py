"""The convolutions equal Flax's own, in value and in both gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from colorgan_jax.networks import convolutions, layers

FLAX_LAYERS = {
    "conv_down": (nn.Conv, {"strides": 2, "padding": 1}),
    "conv_up": (
        nn.ConvTranspose,
        {"strides": (2, 2), "padding": "SAME", "transpose_kernel": True},
    ),
    "conv_stride_one": (nn.Conv, {"padding": 1}),
}
MODULES = {
    "conv_down": layers.DownConv,
    "conv_up": layers.UpConv,
    "conv_stride_one": layers.StrideOneConv,
}

# Batch, height and width of the image that goes in, its channels, those that come out.
# On a CPU conv_down and conv_up take all their forms here.
SHAPES = [
    (1, 2, 2, 3, 1),  # plain, the scatter by subpixels; conv_stride_one by taps
    (2, 4, 8, 1, 3),
    (3, 16, 6, 2, 2),
    (1, 2, 2, 128, 96),  # by matrices: a kernel so much larger than the image
    (1, 4, 2, 160, 128),
    (2, 12, 10, 64, 72),  # by Winograd
]


def flax_layer(name: str, features: int, **options) -> nn.Module:
    layer, settings = FLAX_LAYERS[name]
    return layer(features, (4, 4), **settings, **options)


def kernel_shape(name: str, channels: int, features: int) -> tuple[int, ...]:
    is_transposed = name == "conv_up"
    return (4, 4, features, channels) if is_transposed else (4, 4, channels, features)


def flax_convolution(name: str):
    def convolution(x, kernel):
        features = kernel.shape[2 if name == "conv_up" else 3]
        layer = flax_layer(name, features, use_bias=False)
        return layer.apply({"params": {"kernel": kernel}}, x)

    return convolution


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def assert_equal_but_for_rounding(actual, expected, relative=1e-5) -> None:
    assert actual.shape == expected.shape
    largest = np.abs(np.asarray(expected, np.float32)).max()
    np.testing.assert_allclose(
        np.asarray(actual, np.float32),
        np.asarray(expected, np.float32),
        rtol=0,
        atol=relative * largest,
    )


def value_and_gradients(convolution):
    """A function of the image, the kernel and the gradient of the output."""

    @jax.jit
    def run(x, kernel, y_gradient):
        y, gradients = jax.vjp(convolution, x, kernel)
        return y, *gradients(y_gradient)

    return run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_value_and_gradients_are_those_of_flax(name, shape):
    *image_shape, features = shape
    x = normal(*image_shape)
    kernel = normal(*kernel_shape(name, image_shape[-1], features), seed=1)

    y_shape = jax.eval_shape(flax_convolution(name), x, kernel).shape
    y_gradient = normal(*y_shape, seed=2)

    arguments = (x, kernel, y_gradient)
    for actual, expected in zip(
        value_and_gradients(getattr(convolutions, name))(*arguments),
        value_and_gradients(flax_convolution(name))(*arguments),
        strict=True,
    ):
        assert_equal_but_for_rounding(actual, expected)


@pytest.mark.parametrize("channels", [3, 128])
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_values_and_gradients_are_of_the_type_of_the_operands(name, channels):
    x = normal(1, 2, 4, channels)
    kernel = normal(*kernel_shape(name, channels, 96), seed=1)
    y_shape = jax.eval_shape(flax_convolution(name), x, kernel).shape
    arguments = (x, kernel, normal(*y_shape, seed=2))
    narrow = [jnp.asarray(argument, jnp.bfloat16) for argument in arguments]
    # What the narrow type rounds off at the input is no error of the convolution.
    wide = [np.asarray(argument, np.float32) for argument in narrow]

    for actual, expected in zip(
        value_and_gradients(getattr(convolutions, name))(*narrow),
        value_and_gradients(flax_convolution(name))(*wide),
        strict=True,
    ):
        assert actual.dtype == jnp.bfloat16
        assert_equal_but_for_rounding(actual, expected, 2e-2)


@pytest.mark.parametrize(
    ("convolve", "size", "stride"),
    [
        (convolutions.conv_same, 1, 1),
        (convolutions.conv_same, 3, 2),
        (convolutions.conv_depthwise, 3, 1),
        (convolutions.conv_depthwise, 3, 2),
        (convolutions.conv_depthwise, 5, 1),
        (convolutions.conv_depthwise, 5, 2),
    ],
)
def test_convolutions_of_efficientnet_are_those_of_flax(convolve, size, stride):
    channels = 6
    groups = channels if convolve is convolutions.conv_depthwise else 1
    x = normal(2, 48, 6, channels)
    kernel = normal(size, size, channels // groups, channels, seed=1)
    gradient = normal(2, 48 // stride, 6 // stride, channels, seed=2)
    layer = nn.Conv(
        channels, (size, size), stride, feature_group_count=groups, use_bias=False
    )

    def by_flax(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    ours = functools.partial(convolve, stride=stride)
    for actual, expected in zip(
        value_and_gradients(ours)(x, kernel, gradient),
        value_and_gradients(by_flax)(x, kernel, gradient),
        strict=True,
    ):
        assert_equal_but_for_rounding(actual, expected)


PLATFORMS = ("cpu", "cuda", "tpu")


# The shapes of an image and of a kernel: small ones, and channels of the full-size
# networks in sizes that have another form on a CPU when the batch size is known.
@pytest.mark.parametrize(
    ("convolve", "image_shape", "kernel_shape"),
    [
        (convolutions.conv_down, (4, 6, 3), (4, 4, 3, 5)),
        (convolutions.conv_down, (16, 16, 64), (4, 4, 64, 128)),
        (convolutions.conv_down, (2, 2, 512), (4, 4, 512, 512)),
        (convolutions.conv_up, (4, 6, 3), (4, 4, 5, 3)),
        (convolutions.conv_up, (8, 8, 128), (4, 4, 64, 128)),
        (convolutions.conv_up, (1, 1, 512), (4, 4, 512, 512)),
        (convolutions.conv_stride_one, (4, 6, 3), (4, 4, 3, 5)),
        (convolutions.conv_stride_one, (16, 16, 128), (4, 4, 128, 64)),
        (convolutions.conv_stride_one, (4, 4, 512), (4, 4, 512, 1)),
        (convolutions.conv_same, (6, 6, 8), (1, 1, 8, 5)),
        (functools.partial(convolutions.conv_same, stride=2), (6, 6, 3), (3, 3, 3, 5)),
        (
            functools.partial(convolutions.conv_depthwise, stride=1),
            (6, 6, 96),
            (5, 5, 1, 96),
        ),
        (
            functools.partial(convolutions.conv_depthwise, stride=2),
            (6, 6, 96),
            (3, 3, 1, 96),
        ),
    ],
)
def test_one_export_serves_any_batch_size_and_platform(
    convolve, image_shape, kernel_shape
):
    kernel = normal(*kernel_shape, seed=1)
    y_shape = jax.eval_shape(convolve, normal(1, *image_shape), kernel).shape[1:]
    (batch,) = jax.export.symbolic_shape("b")
    function = value_and_gradients(convolve)
    export = jax.export.export(function, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32),
        kernel,
        jax.ShapeDtypeStruct((batch, *y_shape), jnp.float32),
    )
    export = jax.export.deserialize(export.serialize())
    for batch in (1, 3):
        arguments = (normal(batch, *image_shape), kernel, normal(batch, *y_shape))
        for actual, expected in zip(
            export.call(*arguments), function(*arguments), strict=True
        ):
            assert_equal_but_for_rounding(actual, expected)


@pytest.mark.parametrize("name", FLAX_LAYERS)
@pytest.mark.parametrize("channels", [3, 64])
def test_vmap_is_the_convolution_of_each(name, channels):
    x = normal(3, 1, 2, 2, channels)
    kernels = normal(3, *kernel_shape(name, channels, 128), seed=1)
    convolve = getattr(convolutions, name)

    def gradients(convolution):
        def total(x, kernel):
            return jnp.sum(convolution(x, kernel) ** 2)

        return jax.jit(jax.vmap(jax.grad(total, argnums=(0, 1))))(x, kernels)

    values = jax.jit(jax.vmap(convolve))(x, kernels)
    one_by_one = jax.jit(flax_convolution(name))
    for value, image, kernel in zip(values, x, kernels, strict=True):
        assert_equal_but_for_rounding(value, one_by_one(image, kernel))
    for actual, expected in zip(
        gradients(convolve), gradients(flax_convolution(name)), strict=True
    ):
        assert_equal_but_for_rounding(actual, expected)


@pytest.mark.parametrize("name", FLAX_LAYERS)
@pytest.mark.parametrize("size, channels", [(2, 3), (2, 384), (6, 64)])
def test_a_batch_sharded_over_devices_gives_the_same(name, size, channels):
    mesh = jax.make_mesh((len(jax.devices()),), ("batch",), axis_types=(AxisType.Auto,))
    by_batch = NamedSharding(mesh, PartitionSpec("batch"))
    x = normal(2 * len(jax.devices()), size, size, channels)
    kernel = normal(*kernel_shape(name, channels, 96), seed=1)
    sharded_x = jax.device_put(x, by_batch)
    replicated_kernel = jax.device_put(kernel, NamedSharding(mesh, PartitionSpec()))

    def sum_and_gradients(convolution):
        def total(x, kernel):
            return jnp.sum(convolution(x, kernel) ** 2)

        return jax.jit(jax.grad(total, argnums=(0, 1)))

    x_gradient, kernel_gradient = sum_and_gradients(getattr(convolutions, name))(
        sharded_x, replicated_kernel
    )
    expected = sum_and_gradients(flax_convolution(name))(x, kernel)
    assert x_gradient.sharding.is_equivalent_to(by_batch, x_gradient.ndim)
    assert_equal_but_for_rounding(x_gradient, expected[0])
    assert_equal_but_for_rounding(kernel_gradient, expected[1])


@pytest.mark.parametrize("size, channels", [(2, 512), (32, 64)])
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_an_accelerator_gets_the_convolutions_that_it_has_fast_code_for(
    name, size, channels
):
    """Exported for a GPU from a machine without one, in sizes of a CPU's other forms."""
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((4, 4, channels, channels), jnp.float32)
    convolution = getattr(convolutions, name)
    y = jax.eval_shape(convolution, x, kernel)
    function = value_and_gradients(convolution)
    program = jax.export.export(function, platforms=["cuda"])(x, kernel, y)
    program = program.mlir_module()
    # The value and the gradients of the image and of the kernel.
    assert program.count("stablehlo.convolution") == 3
    assert "stablehlo.dot_general" not in program


@pytest.mark.parametrize("size, channels", [(2, 128), (12, 64)])
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_one_export_has_the_form_of_each_platform(name, size, channels):
    """With a known batch size, a CPU runs forms of its own."""
    x = normal(2, size, size, channels)
    kernel = normal(*kernel_shape(name, channels, 96), seed=1)
    convolution = jax.jit(getattr(convolutions, name))
    export = jax.export.export(convolution, platforms=PLATFORMS)(x, kernel)
    actual = jax.export.deserialize(export.serialize()).call(x, kernel)
    assert_equal_but_for_rounding(actual, flax_convolution(name)(x, kernel))


@pytest.mark.parametrize("shape", [(1, 3, 4, 2), (1, 4, 5, 2)])
def test_an_odd_size_cannot_be_halved(shape):
    with pytest.raises(ValueError, match="must be even"):
        convolutions.conv_down(jnp.zeros(shape), jnp.zeros((4, 4, 2, 1)))


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_layers_take_the_variables_of_flax(name, use_bias):
    x = normal(2, 4, 6, 3)
    layer = MODULES[name](5, use_bias=use_bias)
    flax = flax_layer(name, 5, use_bias=use_bias)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert shapes == jax.eval_shape(flax.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape, seed=1), shapes)
    assert_equal_but_for_rounding(layer.apply(variables, x), flax.apply(variables, x))


def test_kernels_start_with_the_deviation_of_pix2pix():
    variables = layers.DownConv(64).init(jax.random.key(0), jnp.zeros((1, 2, 2, 64)))
    np.testing.assert_allclose(np.std(variables["params"]["kernel"]), 0.02, rtol=0.02)
    assert not np.any(variables["params"]["bias"])


@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_layers_compute_in_the_type_asked_for(name):
    x = normal(1, 4, 4, 3)
    layer = MODULES[name](4, dtype=jnp.bfloat16)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape, seed=1), shapes)
    y = layer.apply(variables, x)
    assert y.dtype == jnp.bfloat16
    expected = flax_layer(name, 4).apply(variables, x)
    assert_equal_but_for_rounding(y, expected, 2e-2)
