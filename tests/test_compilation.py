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


def traced_times(folder, monkeypatch):
    """A function kept in a folder, called by a new process each time, and its traces."""
    monkeypatch.setattr(compilation, "_cache_folder", lambda: folder)
    traces = []

    def call(size=3, factor=2.0):
        def multiply(tree, factor):  # anew, since JAX remembers what it has traced
            traces.append(tree["x"].shape)
            return factor * tree["x"]

        tree = {"x": jnp.arange(size, dtype=jnp.float32)}
        return compilation.kept_jit(multiply)(tree, jnp.float32(factor)).tolist()

    return call, traces


def test_a_kept_program_is_not_traced_again(tmp_path, monkeypatch):
    call, traces = traced_times(tmp_path, monkeypatch)
    assert call() == [0, 2, 4] and len(traces) == 1
    assert call(factor=5.0) == [0, 5, 10] and len(traces) == 1
    assert call(size=2) == [0, 2] and len(traces) == 2  # another shape, another program


def test_a_damaged_program_is_made_anew(tmp_path, monkeypatch):
    call, traces = traced_times(tmp_path, monkeypatch)
    call()
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"damaged")
    assert call() == [0, 2, 4] and len(traces) == 2
    assert call() == [0, 2, 4] and len(traces) == 2


def test_a_change_of_the_source_makes_programs_anew(tmp_path, monkeypatch):
    call, traces = traced_times(tmp_path / "cache", monkeypatch)
    (tmp_path / "cache").mkdir()
    package = tmp_path / "package"
    package.mkdir()
    (package / "lab.py").write_text("old")
    monkeypatch.setattr(compilation, "__file__", str(package / "compilation.py"))
    call()
    (package / "lab.py").write_text("newer")
    assert call() == [0, 2, 4] and len(traces) == 2


def test_where_nothing_can_be_kept_it_works_all_the_same(tmp_path, monkeypatch):
    for folder in (None, tmp_path / "missing"):
        call, traces = traced_times(folder, monkeypatch)
        assert call() == [0, 2, 4]
        assert call() == [0, 2, 4] and len(traces) == 2
