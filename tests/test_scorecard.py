"""docs/scorecard.md, and the script that writes it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "scorecard.md"


@pytest.fixture
def scorecard(monkeypatch):
    """benchmarks/scorecard.py, which is no part of a package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scorecard

    return scorecard


def measures(text):
    """The first cells of the tables, without numbers: some depend on the photos."""
    cells = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| [^|]* \|$", text)
    return [re.sub(r"\d+ photos", "photos", cell) for cell in cells if cell.strip("- ")]


def test_color_edges_are_astray_where_the_lightness_has_none(scorecard):
    L = np.full((64, 64), 30, np.float32)
    L[:, 32:] = 70
    for column, share in ((32, 0), (34, 0), (48, 1)):
        ab = np.zeros((64, 64, 2), np.float32)
        ab[:, column:] = (40, 20)
        assert scorecard.stray_edges(L, ab) == share
    assert scorecard.stray_edges(L, np.zeros((64, 64, 2), np.float32)) == 0


def test_what_others_published_stands_beside_a_measure(scorecard):
    assert scorecard.PEERS.keys() <= set(measures(DOCUMENT.read_text()))


@pytest.mark.slow
def test_the_scorecard_has_the_measures_that_the_script_takes(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("astronaut", "coffee", "chelsea", "rocket"):
        photo = Image.fromarray(getattr(data, name)()).resize((256, 256))
        photo.save(photos / f"{name}.jpg")
        photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(photos / f"{name}-2.jpg")
    output = tmp_path / "scorecard.md"
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "scorecard.py", photos),
            *("--output", output, "--clips", "1", "--runs", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = output.read_text()
    committed = DOCUMENT.read_text()
    # Of few photos there is no Fréchet distance.
    wanted = [name for name in measures(committed) if name != "Fréchet distance"]
    assert measures(written) == wanted
    assert "| asking the network | 0 times" in written
    others = re.compile(r"(?m)^(\||Last made).*\n")
    assert others.sub("", written) == others.sub("", committed)
