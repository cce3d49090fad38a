"""Compiler options, and the compilation cache."""

import jax
import jax.numpy as jnp
import pytest

from colorgan_jax import compilation


@pytest.fixture
def no_options_known():
    compilation.memory_saving_options.cache_clear()
    yield
    compilation.memory_saving_options.cache_clear()


def test_options_change_no_result():
    options = compilation.memory_saving_options()
    double = jax.jit(lambda x: jnp.sum(2 * x**2), compiler_options=options)
    assert double(jnp.arange(3.0)) == 10


def test_an_xla_that_lacks_the_option_goes_without(monkeypatch, no_options_known):
    jit = jax.jit

    def jit_of_another_xla(function, compiler_options=None, **options):
        if compiler_options:
            compiler_options = {"xla_cpu_unheard_of": "1"}
        return jit(function, compiler_options=compiler_options, **options)

    monkeypatch.setattr(jax, "jit", jit_of_another_xla)
    assert compilation.memory_saving_options() == {}
