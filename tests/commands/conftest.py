"""What the tests of commands share: an empty folder, tiny random parameters,
and running `colorgan colorize` with them."""

import functools
import signal

import jax
import pytest
from tiny_generator import random_params

from colorgan_jax.__main__ import main
from colorgan_jax.params import save_params


@pytest.fixture
def private_compilation_cache(tmp_path_factory, monkeypatch):
    """Keeps the tests out of the user's cache, and what they set out of other tests."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """An empty current folder, so that paths are short and relative."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def heeded_ctrl_c():
    """Programs started by a test heed Ctrl-C, also where pytest runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def params(tmp_path_factory):
    """The params file of a random generator for 8x8 pixels that gives strong color."""
    path = tmp_path_factory.mktemp("workdir") / "params.safetensors"
    save_params(path, random_params(seed=0), {})
    return str(path)


@pytest.fixture
def run_command(params, capsys):
    """Runs a command and returns its status, the lines of results, and those of errors."""

    def run(command, *words):
        status = main([command, *map(str, words), "--params", params])
        output = capsys.readouterr()
        return status, output.out.splitlines(), output.err.splitlines()

    return run


@pytest.fixture
def colorize(run_command):
    return functools.partial(run_command, "colorize")
