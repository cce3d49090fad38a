"""The fast convolutions equal Flax's own, in value and in both gradients."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from colorgan_jax.networks import convolutions as layers
from colorgan_jax.networks import cpu

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
# Two have a kernel so much larger than the image that a CPU takes matrices; the last is
# large enough for Winograd's form.
SHAPES = [
    (1, 2, 2, 3, 1),
    (2, 4, 8, 1, 3),
    (3, 16, 6, 2, 2),
    (1, 2, 2, 128, 96),
    (1, 4, 2, 160, 128),
    (2, 12, 10, 64, 72),
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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_value_and_gradients_are_those_of_flax(name, shape):
    *image_shape, features = shape
    x = normal(*image_shape)
    kernel = normal(*kernel_shape(name, image_shape[-1], features), seed=1)

    y_shape = jax.eval_shape(flax_convolution(name), x, kernel).shape
    y_gradient = normal(*y_shape, seed=2)

    def value_and_gradients(convolution):
        @jax.jit
        def run(x, kernel, y_gradient):
            y, gradients = jax.vjp(convolution, x, kernel)
            return y, *gradients(y_gradient)

        return run(x, kernel, y_gradient)

    for actual, expected in zip(
        value_and_gradients(getattr(layers, name)),
        value_and_gradients(flax_convolution(name)),
        strict=True,
    ):
        assert_equal_but_for_rounding(actual, expected)


def test_the_shapes_above_reach_all_forms():
    def forms(small, large_channels):
        return (
            cpu.matrices_are_faster(small.shape, large_channels),
            cpu.winograd_is_faster(small, large_channels),
        )

    down = {
        forms(jax.ShapeDtypeStruct((b, h // 2, w // 2, o), jnp.float32), i)
        for b, h, w, i, o in SHAPES
    }
    up = {
        forms(jax.ShapeDtypeStruct((b, h, w, i), jnp.float32), o)
        for b, h, w, i, o in SHAPES
    }
    assert down == up == {(True, False), (False, True), (False, False)}


# Each form by itself, also those that this platform or these sizes would not choose.
# `large` is the image of twice the height and width, whichever goes in.
# Winograd's is for float32 only.
FORMS = [
    "gather_by_convolution",
    "gather_by_matrices",
    "gather_by_winograd",
    "scatter_by_convolution",
    "scatter_by_subpixels",
    "scatter_by_matrices",
    "scatter_by_winograd",
    "products_by_convolution",
    "products_by_matrices",
    "products_by_winograd",
]


@pytest.mark.parametrize("shape", [(1, 2, 2, 3, 5), (3, 4, 6, 1, 2), (2, 8, 4, 48, 1)])
@pytest.mark.parametrize(
    "form, dtype, relative",
    [(form, "float32", 1e-5) for form in FORMS]
    + [(form, "bfloat16", 2e-2) for form in FORMS if "winograd" not in form],
)
def test_each_form_is_the_convolution_of_flax(form, shape, dtype, relative):
    batch, height, width, large_channels, small_channels = shape
    large = normal(batch, height, width, large_channels)
    small = normal(batch, height // 2, width // 2, small_channels, seed=1)
    kernel = normal(4, 4, large_channels, small_channels, seed=2)
    # What the narrow type rounds off at the input is no error of the form.
    large, small, kernel = (
        np.asarray(jnp.asarray(a, dtype), np.float32) for a in (large, small, kernel)
    )
    down = flax_convolution("conv_down")
    if form.startswith("gather"):
        arguments, expected = (large, kernel), down(large, kernel)
    elif form.startswith("scatter"):
        arguments = (small, kernel)
        expected = flax_convolution("conv_up")(small, kernel)
    else:
        arguments = (large, small)
        expected = jax.vjp(lambda k: down(large, k), kernel)[1](small)[0]

    is_plain = form.endswith("by_convolution")
    function = jax.jit(getattr(layers, f"_{form}") if is_plain else getattr(cpu, form))
    actual = function(*(jnp.asarray(a, dtype) for a in arguments))
    assert actual.dtype == dtype
    assert_equal_but_for_rounding(actual, expected, relative)


@pytest.mark.parametrize(
    ("convolve", "size", "stride"),
    [
        (layers.conv_same, 1, 1),
        (layers.conv_same, 3, 2),
        (layers.conv_depthwise, 3, 1),
        (layers.conv_depthwise, 3, 2),
        (layers.conv_depthwise, 5, 1),
        (layers.conv_depthwise, 5, 2),
    ],
)
def test_convolutions_of_efficientnet_are_those_of_flax(convolve, size, stride):
    channels = 6
    groups = channels if convolve is layers.conv_depthwise else 1
    x = normal(2, 48, 6, channels)
    kernel = normal(size, size, channels // groups, channels, seed=1)
    gradient = normal(2, 48 // stride, 6 // stride, channels, seed=2)
    layer = nn.Conv(
        channels, (size, size), stride, feature_group_count=groups, use_bias=False
    )

    def by_flax(x, kernel):
        return layer.apply({"params": {"kernel": kernel}}, x)

    def value_and_gradients(convolution):
        y, gradients = jax.vjp(convolution, x, kernel)
        return y, *gradients(gradient)

    ours = functools.partial(convolve, stride=stride)
    for actual, expected in zip(
        value_and_gradients(ours), value_and_gradients(by_flax), strict=True
    ):
        assert_equal_but_for_rounding(actual, expected)


@pytest.mark.parametrize("name", FLAX_LAYERS)
@pytest.mark.parametrize("channels", [3, 64])
def test_vmap_is_the_convolution_of_each(name, channels):
    x = normal(3, 1, 2, 2, channels)
    kernels = normal(3, *kernel_shape(name, channels, 128), seed=1)
    convolve = getattr(layers, name)

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

    x_gradient, kernel_gradient = sum_and_gradients(getattr(layers, name))(
        sharded_x, replicated_kernel
    )
    expected = sum_and_gradients(flax_convolution(name))(x, kernel)
    assert x_gradient.sharding.is_equivalent_to(by_batch, x_gradient.ndim)
    assert_equal_but_for_rounding(x_gradient, expected[0])
    assert_equal_but_for_rounding(kernel_gradient, expected[1])


@pytest.mark.parametrize("size", [2, 32])
@pytest.mark.parametrize("name", FLAX_LAYERS)
def test_a_gpu_gets_convolutions_only(name, size):
    """Exported for a GPU from a machine without one, in sizes of the other forms."""
    channels = 512 if size == 2 else 64
    x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((4, 4, channels, channels), jnp.float32)
    convolve = jax.jit(
        jax.grad(lambda x, k: jnp.sum(getattr(layers, name)(x, k) ** 2), argnums=(0, 1))
    )

    def operations(platform):
        module = jax.export.export(convolve, platforms=[platform])(x, kernel)
        text = module.mlir_module()
        return text.count("stablehlo.convolution"), text.count("stablehlo.dot_general")

    # The value and the gradients of the image and of the kernel.
    assert operations("cuda") == (3, 0)
    if name != "conv_stride_one" or size > 2:
        convolutions, products = operations("cpu")
        assert convolutions == 0
        assert products >= 3


@pytest.mark.parametrize("shape", [(1, 3, 4, 2), (1, 4, 5, 2)])
def test_an_odd_size_cannot_be_halved(shape):
    with pytest.raises(ValueError, match="must be even"):
        layers.conv_down(jnp.zeros(shape), jnp.zeros((4, 4, 2, 1)))


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
