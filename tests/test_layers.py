"""The layers that pyproject.toml writes down hold, and the check of them can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT_IMPORTS = (
    "from importlinter.cli import lint_imports_command; lint_imports_command()"
)


def lint_imports(folder):
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache", "--no-logo"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path):
    """A copy of the package's code and of its layers, to break."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(
        ROOT / "colorgan_jax",
        tmp_path / "colorgan_jax",
        ignore=lambda folder, names: [
            name
            for name in names
            if Path(folder, name).is_file() and not name.endswith(".py")
        ],
    )
    return tmp_path


def test_modules_import_only_from_rooms_below():
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (
            "lab.py",
            "from colorgan_jax.training import gan",
            "colorgan_jax.lab -> colorgan_jax.training.gan",
        ),
        (
            "survey/statistics.py",
            "def late():\n    from colorgan_jax.evaluation import report",
            "colorgan_jax.survey.statistics -> colorgan_jax.evaluation.report",
        ),
        (
            "survey/statistics.py",
            "from colorgan_jax.survey import analysis",
            "No circles among the modules of a room BROKEN",
        ),
        ("utils.py", "", "colorgan_jax.utils"),
    ],
    ids=["upward", "sideways", "circle", "a room without a layer"],
)
def test_a_violation_is_found(copy, module, line, complaint):
    with (copy / "colorgan_jax" / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert complaint in result.stdout
