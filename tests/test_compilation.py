"""A network compiled for a CPU: the same function, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from colorgan_jax import compilation
from colorgan_jax.compilation import jit_network
from colorgan_jax.networks import winograd


def double(x):
    return jnp.sum(2 * x**2)


def test_it_is_a_part_of_transformed_functions():
    compiled = jit_network(double)
    x = jnp.arange(3.0)
    assert compiled(x) == 10
    np.testing.assert_array_equal(jax.grad(compiled)(x), [0, 4, 8])
    np.testing.assert_array_equal(jax.jit(jax.grad(compiled))(x), [0, 4, 8])
    np.testing.assert_array_equal(jax.vmap(compiled)(x[:, None]), [0, 2, 8])
    assert jax.jit(lambda x: compiled(x) + 1)(x) == 11


def test_options_of_jit_hold():
    x = jnp.arange(3.0)
    jit_network(lambda x: x + 1, donate_argnums=0)(x)
    assert x.is_deleted()


@pytest.fixture
def no_options_known():
    compilation.memory_saving_options.cache_clear()
    yield
    compilation.memory_saving_options.cache_clear()


def test_an_xla_that_lacks_the_option_compiles_all_the_same(
    monkeypatch, no_options_known
):
    jit = jax.jit

    def jit_of_another_xla(function, compiler_options=None, **options):
        if compiler_options:
            compiler_options = {"xla_cpu_unheard_of": "1"}
        return jit(function, compiler_options=compiler_options, **options)

    monkeypatch.setattr(jax, "jit", jit_of_another_xla)
    assert jit_network(double)(jnp.arange(3.0)) == 10


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="for CPUs only")
def test_kernels_are_not_prepared_all_at_once():
    def six_layers(image, kernels):
        for kernel in kernels:
            image = winograd.convolve(image, kernel, padding=1)
        return image

    def temporary_bytes(compiler_options):
        compiled = jax.jit(six_layers, compiler_options=compiler_options)
        image = jax.ShapeDtypeStruct((1, 16, 16, 64), jnp.float32)
        kernels = [jax.ShapeDtypeStruct((4, 4, 64, 64), jnp.float32)] * 6
        memory = compiled.lower(image, kernels).compile().memory_analysis()
        return memory.temp_size_in_bytes

    # The combined kernels of one layer: 25 matrices of 64x64 floats.
    one_layer = 25 * 64 * 64 * 4
    default, ours = (
        temporary_bytes({}),
        temporary_bytes(compilation.memory_saving_options()),
    )
    assert default - ours > 3 * one_layer
