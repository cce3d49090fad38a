"""What documents say to type: commands run, Python runs, and options exist."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import requests
import stand_ins
import survey_server
from documents import DOCUMENTS, FENCED, ROOT, blocks, with_blocks
from film_clips import pictures, write_film
from flax.traverse_util import flatten_dict
from PIL import Image
from tiny_generator import random_params
from tiny_run import SHORT_FLAGS, save_photos

from colorgan_jax import Photo, read_photo, write_photo
from colorgan_jax.__main__ import main
from colorgan_jax.params import PARAMS_FILE, save_params
from configs import pix2pix

# Each block of commands, and its name: the document and the number there.
COMMANDS = {
    block: f"{document}-{number}"
    for document in with_blocks("sh")
    for number, block in enumerate(blocks(document, "sh"))
}
# What is on other hosts, and what stands for it here.
PLACES = {
    "gs://BUCKET/": "",
    "hf://OWNER/NAME": "runs/mine",
    "tfds:coco/2017": "PHOTOS",
}


def test_every_kind_of_block_is_known():
    kinds = {
        kind for path in DOCUMENTS for _, kind, _ in FENCED.findall(path.read_text())
    }
    assert kinds == {"dockerfile", "json", "python", "sh", "text"}
    # The tests below run these, and tests/test_export.py runs docs/export.md.
    assert with_blocks("python") == [
        "README.md",
        "docs/api.md",
        "docs/export.md",
        "docs/hints.md",
    ]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """A folder of programs, outside of which the commands find none."""
    folder = tmp_path_factory.mktemp("programs")
    for name in stand_ins.PROGRAMS:
        command = f'exec {sys.executable} {ROOT}/tests/stand_ins.py {name} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{command}\n")
        (folder / name).chmod(0o755)
    (folder / "mkdir").symlink_to("/bin/mkdir")
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The repository, and in it the files of a user that documents name."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("benchmarks", "cloud", "colorgan_jax", "configs", "docs"):
        (folder / name).symlink_to(ROOT / name)
    for pattern in ("*.md", "*.py", "*.toml", "*.txt", "tests/golden/latest_net_G.pth"):
        for path in ROOT.glob(pattern):
            (folder / path.name).symlink_to(path)
    for name, count in {
        "PHOTOS": 20,
        "TEST_PHOTOS": 4,
        "OTHERS": 2,
        "album": 2,
    }.items():
        save_photos(folder / name, count)
    for name in ("old", "family", "garden_1962"):
        Image.open(folder / "album" / "0.png").save(folder / f"{name}.jpg")
    (folder / "family.json").write_text(blocks("docs/hints.md", "json")[0])
    write_film(folder / "old.mkv", pictures(10), sound=True)
    for name in ("mine", "pix2pix"):
        (folder / "runs" / name).mkdir(parents=True)
        save_params(folder / "runs" / name / PARAMS_FILE, random_params(0), {})
    (folder / "card.md").touch()
    survey_server.save_photos(folder)
    with survey_server.serve(folder) as url:
        session = requests.Session()
        page = session.post(f"{url}/start").text
        survey_server.rate_photos(url, session, page, stop=2 * survey_server.COUNT)
    for name in ("real", "generated"):
        (folder / name).rename(folder / name.upper())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("block", COMMANDS, ids=COMMANDS.values())
def test_the_commands_of_documents_run(block, clone, programs, tmp_path):
    for there, here in PLACES.items():
        block = block.replace(there, here)
    block = block.replace(" && ", "\n")  # Bash goes on where the first of two fails.
    folder = tmp_path / "clone"
    shutil.copytree(clone, folder, symlinks=True)
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=os.environ
        | {
            "PATH": str(programs),
            "PYTHONPATH": str(ROOT),
            "SHORT_FLAGS": " ".join(SHORT_FLAGS),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("document", ["README.md", "docs/api.md", "docs/hints.md"])
def test_the_python_of_documents_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    (tmp_path / "album").mkdir()
    for name in ("old.tif", "family.jpg", "photo.jpg", "album/a.jpg"):
        write_photo(name, Photo(pixels))
    (tmp_path / "family.json").write_text(blocks("docs/hints.md", "json")[0])
    names = {}
    for block in blocks(document, "python"):
        exec(block, names)
    assert names["rgb"].shape == (*names["L"].shape, 3)
    if document == "docs/api.md":
        assert names["ab"].shape == (1, 256, 256, 2)
        for name in ("array.png", "new/a.jpg"):
            assert read_photo(name).pixels.shape == (40, 60, 3)
        assert names["folded"]["encoder_1"]["kernel"].shape == (4, 4, 1, 16)
    elif document == "README.md":
        assert names["blue"][240, 160, 2] > names["blue"][240, 160, 0] + 0.1
        assert read_photo("new.tif").pixels.shape == (40, 60, 3)
    else:
        assert names["photo"].pixels.shape == (40, 60, 3)
        assert names["positions"].shape == (5, 2)


COLORGAN = [
    *("colorgan bulk", "colorgan colorize", "colorgan evaluate", "colorgan export"),
    *("colorgan import-torch", "colorgan page", "colorgan serve"),
    *("colorgan survey analyze", "colorgan survey serve", "colorgan video"),
]
# Whose options the tables of documents name.
TABLES = {
    "README.md": "colorgan colorize",
    "docs/bulk.md": "colorgan bulk",
    "docs/model-card.md": "colorgan evaluate",
    "docs/training.md": "launch.py",
    "docs/video.md": "colorgan video",
}
# Options that the programs of this repository do not list.
FOREIGN = {
    "Apache Beam": "--direct_num_workers --direct_running_mode --environment_config"
    " --environment_type --flink_master --job_endpoint --max_num_workers"
    " --number_of_worker_harness_threads --parallelism --project --region --runner"
    " --sdk_container_image --spark_master_url --temp_location",
    "argparse": "--help --no-compile",  # The second is made of --compile.
    "docker": "--build-arg --gpus --init --time",
    "gcloud": "--location",
    "hf": "--space-sdk --type",
    "kubectl": "--server-side",
    "pip": "--dry-run --no-cache-dir",
    "pix2pix": "--eval --model",
    "sbatch": "--gpus-per-node --nodes --ntasks-per-node",
    "sky": "--env --infra",
    "tensorboard": "--logdir",
}


OPTION = re.compile(r"(?<![\w-])--[a-z][\w.-]*")


@pytest.fixture
def known_options(capsys):
    """The options of each program."""
    known = {program: set(words.split()) for program, words in FOREIGN.items()}
    for command in COLORGAN:
        with pytest.raises(SystemExit):
            main([*command.split()[1:], "--help"])
        # Each begins a line, where its other names follow.
        lines = re.findall(r"(?m)^  (-.*?)(?:  |$)", capsys.readouterr().out)
        known[command] = set(OPTION.findall(" ".join(lines)))
    command = [sys.executable, ROOT / "launch.py", "--help"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    flags = re.findall(r"(?m)^  --(?:\[no\])?(\w+):", done.stdout)
    values = flatten_dict(pix2pix.get_config().to_dict(), sep=".")
    known["launch.py"] = {f"--{name}" for name in flags}
    known["launch.py"] |= {f"--config.{name}" for name in values}
    for script in [*ROOT.glob("benchmarks/*.py"), ROOT / "docs" / "reproduce.sh"]:
        known[script.name] = set(OPTION.findall(script.read_text()))
    return known


def test_the_options_that_documents_name_exist(known_options):
    everything = set().union(*known_options.values())
    for path in DOCUMENTS:
        text = path.read_text()
        for block in blocks(path, "sh"):
            assert not set(OPTION.findall(block)) - everything, path
        for code in re.findall(r"`([^`]+)`", FENCED.sub("", text)):
            # A command and its options, or options alone.
            line = " ".join(code.split())
            command = next((name for name in COLORGAN if line.startswith(name)), None)
            known = known_options.get(command, everything)
            assert not set(OPTION.findall(code)) - known, (path, code)
        for row in re.findall(r"(?m)^\| (`-.*?) \|", text):
            known = known_options[TABLES[path.relative_to(ROOT).as_posix()]]
            assert not set(OPTION.findall(row)) - known, (path, row)
