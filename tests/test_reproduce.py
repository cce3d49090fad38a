"""docs/reproduce.sh to its end, at toy size."""

import csv
import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from tiny_run import save_photos

ROOT = Path(__file__).parent.parent


@pytest.fixture
def script(tmp_path):
    """The script in a folder of its own, whose runs/ is not that of the repository."""
    for name in ("colorgan_jax", "configs", "launch.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").mkdir()
    for name in ("reproduce.sh", "draw_epochs.py"):
        (tmp_path / "docs" / name).write_bytes((ROOT / "docs" / name).read_bytes())
    return tmp_path / "docs/reproduce.sh"


def run(script, *words):
    return subprocess.run(
        ["bash", script, *map(str, words)], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_one_command_trains_and_evaluates_at_another_size(script, tmp_path):
    save_photos(tmp_path / "photos", 24)
    save_photos(tmp_path / "test photos", 4)
    words = ["--size", 32, tmp_path / "photos", tmp_path / "test photos"]
    flags = ["--config.epochs=2", "--config.batch_size=4", "--config.log_every_steps=1"]
    flags += ["--config.generator.filters=4", "--config.discriminator.filters=4"]
    result = run(script, *words, *flags)
    assert result.returncode == 0, result.stderr
    config = json.loads((tmp_path / "runs/pix2pix-32/config.json").read_text())
    assert config["image_size"] == 32 and config["loss"]["adversarial_weight"] == 1
    results = tmp_path / "runs/reproduction-32"
    summary = json.loads((results / "summary.json").read_text())
    assert summary["image_size"] == 32 and summary["photos"] == 4
    assert {"grid.png", "loss_curves.png", "beside_random.png"} <= {
        path.name for path in results.iterdir()
    }
    with Image.open(results / "epochs.jpg") as epochs:
        assert epochs.height > epochs.width > 300
    with (tmp_path / "runs/pix2pix-32/metrics.csv").open(newline="") as file:
        assert any(row["discriminator_loss"] for row in csv.DictReader(file))


@pytest.mark.parametrize("words", [[], ["photos"], ["--size"], ["--size", "64", "a"]])
def test_a_wrong_call_prints_the_usage(script, words):
    result = run(script, *words)
    assert result.returncode == 2 and result.stderr.startswith("usage: ")
    assert not (script.parent.parent / "runs").exists()


def test_what_is_not_there_is_said_before_the_training(script, tmp_path):
    (tmp_path / "photos").mkdir()
    result = run(script, tmp_path / "photos", tmp_path / "none")
    assert (result.returncode, result.stderr) == (
        2,
        f"There is no folder {tmp_path / 'none'}.\n",
    )
    result = run(script, "--size", "small", tmp_path / "photos", tmp_path / "photos")
    assert result.returncode == 2 and "--size small" in result.stderr
    assert not (tmp_path / "runs").exists()
