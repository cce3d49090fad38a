"""colorgan page, and what colorgan serve refuses."""

import gzip
import json

import onnx
import pytest

from colorgan_jax.__main__ import main


@pytest.fixture
def page(params, capsys):
    def run(*words):
        status = main(["page", "--params", params, *map(str, words)])
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_the_site_has_the_network_and_all_that_it_names(page, tmp_path):
    folder = tmp_path / "new" / "site"
    status, output, _ = page("--output", folder)
    assert status == 0 and str(folder) in output
    site = json.loads((folder / "site.json").read_text())
    for file in (site["model"], site["wasm"]["wasm"]):
        assert (folder / file["name"]).stat().st_size == file["bytes"]
    for name in (site["wasm"]["module"], site["wasm"]["loader"], *site["files"]):
        assert (folder / name).is_file()
    assert (folder / "ort-1.30.0" / "LICENSE").read_text().startswith("MIT License")
    model = gzip.decompress((folder / site["model"]["name"]).read_bytes())
    onnx.checker.check_model(onnx.load_from_string(model))
    wasm = gzip.decompress((folder / site["wasm"]["wasm"]["name"]).read_bytes())
    assert wasm[:4] == b"\0asm"


def test_a_folder_with_something_in_it_is_left_alone(page, tmp_path):
    (tmp_path / "index.html").write_text("mine")
    status, _, error = page("--output", tmp_path)
    assert status == 1 and "--overwrite" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert page("--output", tmp_path, "--overwrite")[0] == 0
    assert "mine" not in (tmp_path / "index.html").read_text()


def test_what_cannot_be_written_is_one_sentence(page, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, error = page("--output", tmp_path / "file")
    assert status == 1 and error.count("\n") == 1 and "file" in error


@pytest.mark.parametrize("command", ["page", "serve"])
def test_another_package_for_the_gpu_is_refused(params, tmp_path, capsys, command):
    other = tmp_path / "other.tgz"
    other.write_bytes(b"something else")
    words = {"page": ["--output", str(tmp_path / "site")], "serve": ["--port", "0"]}
    for path in (other, tmp_path / "missing.tgz"):
        arguments = [
            command,
            "--params",
            params,
            *words[command],
            "--webgpu",
            str(path),
        ]
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and ("npm pack" in error or "read" in error)
    assert not (tmp_path / "site").exists()
