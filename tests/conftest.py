"""Runs the tests on two virtual CPU devices, so that sharding is always exercised.

What is set here reaches the processes that tests start, too.
"""

import os
from pathlib import Path

import jaxtyping
import pytest

# Read when JAX starts, hence set before any test module imports it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)
os.environ["JAX_DEFAULT_PRNG_IMPL"] = "rbg"  # As train.py: it compiles much faster.

# Tiny networks take far longer to compile than to run.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

# What one test or process compiles, the others find again.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).parent.parent / ".pytest_cache" / "jax"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

# Shapes and types in signatures are checked at every call, wherever arrays are taken. (Not
# in `training`, whose state JAX builds from whatever leaves it is given.)
jaxtyping.install_import_hook(
    [
        f"colorgan_jax.{module}"
        for module in (
            "bulk",
            "export",
            "figures",
            "hints",
            "inference",
            "lab",
            "metrics",
            "networks.discriminator",
            "networks.generator",
            "params",
            "photos",
            "references",
            "upsampling",
        )
    ],
    "beartype.beartype",
)


def pytest_collection_modifyitems(items):
    """Puts the longest tests first, so that no process is left alone with them."""
    items.sort(key=lambda item: "training" not in item.path.parts)


@pytest.fixture
def unchecked():
    """Calls functions as users do, without the checks: for what these refuse themselves."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """The folder and the address of a survey that the tests of a module share."""
    # Imported here, since no other test needs a server, and JAX is set up by now.
    from survey_server import save_photos, serve

    folder = tmp_path_factory.mktemp("survey")
    save_photos(folder)
    with serve(folder) as url:
        yield folder, url


@pytest.fixture
def url(survey):
    return survey[1]


@pytest.fixture
def drawn(monkeypatch):
    """Gives the figures that were saved so far, so that a test can look into them."""
    from matplotlib.figure import Figure  # Not at the top: few tests draw.

    figures = []
    save = Figure.savefig

    def keep(figure, *arguments, **options):
        figures.append(figure)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return lambda: figures


@pytest.fixture
def real_photos():
    """The folder that COLORGAN_TEST_PHOTOS names: train, test and old hold real photos."""
    folder = os.environ.get("COLORGAN_TEST_PHOTOS")
    if not folder:
        pytest.skip("COLORGAN_TEST_PHOTOS names no folder of photos")
    return Path(folder)
