"""What launch.py answers to mistakes: one clear sentence, before anything is trained."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def launch(*flags):
    return subprocess.run(
        [sys.executable, "launch.py", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name a config, such as --config=configs/pix2pix.py"),
        (["--config=configs/nothing.py"], "there is no file configs/nothing.py"),
        (["--config=configs/pix2pix.py", "--workdri=x"], "Did you mean: workdir"),
        (
            ["--config=configs/pix2pix.py", "--config.batch_sise=8"],
            "no value batch_sise: did you mean batch_size?",
        ),
        (
            ["--config=configs/pix2pix.py", "--config.data.sorce=photos"],
            "no value sorce: did you mean source?",
        ),
        (
            ["--config=configs/pix2pix.py", "--image_size=64"],
            "set by --config.NAME=VALUE.)",
        ),
        (["--config=configs/pix2pix.py", "--config.epochs=many"], "config.epochs=many"),
        (["--config=configs/pix2pix.py", "photos"], "takes flags only; found photos"),
        (["--config=configs/pix2pix.py", "--process_id=0"], "goes with --multihost"),
        (["--config=configs/pix2pix.py", "--multihost"], "give each of them"),
    ],
)
def test_a_mistyped_command_is_refused_with_a_hint(flags, message):
    result = launch(*flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "flag",
    [
        "--config.seed=-1",
        "--config.epochs=-1",
        "--config.data.source=",
        "--config.data.validation_source=",
    ],
)
def test_an_impossible_value_is_one_sentence(flag, tmp_path):
    result = launch(
        "--config=configs/quickstart.py", flag, f"--workdir={tmp_path / 'run'}"
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"launch.py: {flag.split('=')[0]} is"
    )
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_missing_folder_of_photos_is_one_sentence(tmp_path):
    result = launch(
        "--config=configs/pix2pix.py",
        f"--config.data.source={tmp_path / 'nothing'}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert result.returncode == 1
    assert str(tmp_path / "nothing") in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_repeated_source_is_several_whatever_is_in_their_names(tmp_path):
    folders = [tmp_path / name for name in ("a, b", "2020", "('c',)")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        Image.new("RGB", (8, 8), (200, 40 * number, 0)).save(folder / "photo.png")
    result = launch(
        "--config=configs/quickstart.py",
        *[f"--config.data.source={folder}" for folder in folders],
        f"--config.data.validation_source={folders[0]}",
        f"--workdir={tmp_path / 'run'}",
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(
        f"launch.py: {', '.join(map(str, folders))} has 2 usable photos for training"
        " and 1 for validation"
    )
