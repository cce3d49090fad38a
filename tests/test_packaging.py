"""What is installed for which use: pyproject.toml, requirements files and what they bring."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image
from tiny_generator import random_params

from colorgan_jax.params import save_params

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]

# In the place of an environment with only some distributions: importing others fails.
BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def requirements(*extras):
    """Those of the core and of extras, which may name other extras."""
    found = {Requirement(text) for text in PROJECT["dependencies"]}
    for extra in extras:
        for text in EXTRAS[extra]:
            requirement = Requirement(text)
            if requirement.name == PROJECT["name"]:
                found |= requirements(*requirement.extras)
            else:
                found.add(requirement)
    return found


def read_requirements(name):
    lines = [line.partition("#")[0] for line in (ROOT / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line.strip()]


def test_requirements_files_are_the_core_and_the_extras():
    users, developers = map(
        read_requirements, ("requirements.txt", "requirements-dev.txt")
    )
    assert set(users) == requirements("all")
    assert set(users + developers) == requirements("all", "dev")
    assert len(set(users + developers)) == len(users + developers)


def test_the_extra_all_is_all_but_what_binds_the_others():
    (everything,) = map(Requirement, EXTRAS["all"])
    assert everything.extras == set(EXTRAS) - {"all", "dev", "bulk"}


def test_one_package_has_one_bound():
    everything = requirements(*EXTRAS)
    named = {
        (requirement.name.lower(), str(requirement.marker))
        for requirement in everything
    }
    assert len(named) == len(everything)


def test_the_core_is_small():
    heavy = {"tensorflow", "tensorflow-cpu", "tensorflow-datasets", "matplotlib"}
    installed = distributions_of(requirements())
    assert installed.isdisjoint(heavy | {"scikit-image", "pyarrow", "pandas"})
    assert {"jax", "flax", "numpy", "opencv-python", "pillow"} <= installed


def test_extras_that_texts_name_exist():
    texts = [
        path.read_text()
        for pattern in ("*.md", "docs/*", "configs/*.py", "colorgan_jax/**/*.py")
        for path in ROOT.glob(pattern)
        if path.suffix in {".md", ".py", ".sh"}
    ]
    named = set()
    for text in texts:
        for names in re.findall(r"(?:\.|colorgan_jax)\[([a-z,]+)\]'", text):
            named |= set(names.split(","))
    assert named
    assert named <= set(EXTRAS)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions_of(wanted):
    """The names of all distributions that pip installs for requirements."""
    names = set()
    waiting = [(requirement, "") for requirement in wanted]
    seen = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        names.add(normal(requirement.name))
        for extra in ["", *requirement.extras]:
            key = (normal(requirement.name), extra)
            if key not in seen:
                seen.add(key)
                requires = importlib.metadata.requires(requirement.name) or []
                waiting += [(Requirement(text), extra) for text in requires]
    return names


def run_with(extras, program, folder):
    """Runs a program as where only the core and some extras are installed."""
    present = distributions_of(requirements(*extras))
    absent = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if present.isdisjoint(map(normal, owners)) and module != "colorgan_jax"
    }
    assert "pytest" in absent
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(absent=absent) + program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def colorgan(*arguments):
    return (
        "from colorgan_jax.__main__ import main\n"
        f"sys.exit(main({[str(argument) for argument in arguments]!r}))"
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def params(tmp_path_factory):
    path = tmp_path_factory.mktemp("params") / "params.safetensors"
    save_params(path, random_params(0), {})
    return path


def test_the_core_colorizes(tmp_path, photos, params):
    program = colorgan("colorize", photos / "0.png", "--params", params)
    result = run_with([], program, tmp_path)
    assert result.returncode == 0, result.stderr
    assert Image.open(tmp_path / "colorized" / "0.png").size == (48, 40)


def test_the_extra_evaluate_scores(tmp_path, photos, params):
    program = colorgan("evaluate", "--params", params, "--photos", photos)
    result = run_with(["evaluate"], program, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "LPIPS" in result.stdout
    assert (tmp_path / "evaluation" / "grid.png").is_file()


def test_the_extra_survey_analyzes_and_serves(tmp_path):
    table = ["4.4706", "0.7001", "17", "3.1667", "1.2837", "17"]
    program = colorgan(
        "survey", "analyze", "--from-summary", *table, "--output", "analysis"
    )
    result = run_with(
        ["survey"], f"import colorgan_jax.survey.server\n{program}", tmp_path
    )
    assert result.returncode == 0, result.stderr


def test_the_extra_train_trains(tmp_path):
    config = ROOT / "configs" / "quickstart.py"
    flags = [f"--config={config}", "--config.data.source=nothing"]
    program = f"""
import runpy
import colorgan_jax.training.coco_sample, skimage.data
sys.argv = {["launch.py", *flags]!r}
runpy.run_path({str(ROOT / "launch.py")!r}, run_name="__main__")
"""
    result = run_with(["train"], program, tmp_path)
    # As far as the search for photos, when everything has been imported.
    assert result.stderr.splitlines()[-1].startswith("launch.py: "), result.stderr
    assert "nothing" in result.stderr.splitlines()[-1]
