"""Exported networks, in the runtimes of others, against the network itself."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import onnx
import onnxruntime
import pytest
from documents import ROOT, blocks
from PIL import Image
from tiny_generator import random_params

from colorgan_jax import Generator, load_params
from colorgan_jax.__main__ import main
from colorgan_jax.export import export_onnx, export_stablehlo
from colorgan_jax.lab import rgb_to_lab
from colorgan_jax.params import load_training, save_params


def run_onnx(model, rgb):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"rgb": rgb}), strict=True))


def look(params, rgb):
    """Ab in units of CIE ab, and the features, by the generator itself."""
    generator = Generator.from_params(params)

    @jax.jit
    def run(rgb):
        variables = {"params": params}
        L = rgb_to_lab(rgb)[..., :1] / 50 - 1
        features = generator.apply(variables, L, train=False, method="encode")
        return generator.apply(variables, L, train=False), features

    ab, features = run(rgb)
    return 110 * np.asarray(ab), features


@pytest.fixture(scope="module")
def efficientnet_params():
    """Random ones of a generator whose encoder begins with EfficientNet's layers."""
    generator = Generator(filters=4, image_size=64, encoder="efficientnet", folded=True)
    shapes = jax.eval_shape(
        lambda: generator.init(
            jax.random.key(0), np.zeros((1, 64, 64, 1), np.float32), train=False
        )
    )["params"]
    random = np.random.default_rng(0)

    def fill(array):
        deviation = np.sqrt(2 / np.prod(array.shape[:-1])) if array.ndim > 1 else 0.1
        return random.normal(0, deviation, array.shape).astype(np.float32)

    return jax.tree.map(fill, shapes)


@pytest.mark.parametrize("encoder", ["unet", "efficientnet"])
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_equals_the_generator(encoder, batch, efficientnet_params):
    params = random_params(0) if encoder == "unet" else efficientnet_params
    size = Generator.from_params(params).image_size
    rgb = np.random.default_rng(1).uniform(0, 1, (batch, size, size, 3))
    rgb = rgb.astype(np.float32)
    rgb[0, 0] = 0  # Black has its own branch of each curve.
    ab, features = look(params, rgb)
    assert np.std(ab) > 1
    outputs = run_onnx(export_onnx(params), rgb)
    np.testing.assert_allclose(outputs.pop("ab"), ab, atol=0.01)
    assert list(outputs) == [f"features_{n + 1}" for n in range(len(features))]
    for output, expected in zip(outputs.values(), features, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            output.transpose(0, 2, 3, 1), expected, atol=1e-4 * scale
        )


@pytest.mark.parametrize("batch", [1, 3])
def test_stablehlo_equals_the_generator(batch):
    rgb = np.random.default_rng(1).uniform(0, 1, (batch, 8, 8, 3)).astype(np.float32)
    program = jax.export.deserialize(bytearray(export_stablehlo(random_params(0))))
    assert program.platforms == ("cpu", "cuda", "tpu")
    np.testing.assert_allclose(
        program.call(rgb), look(random_params(0), rgb)[0], atol=1e-3
    )


def test_half_precision_halves_the_file_and_rounds_the_weights(efficientnet_params):
    full, half = (
        export_onnx(efficientnet_params, half_precision=precision)
        for precision in (False, True)
    )
    assert half.ByteSize() < 0.52 * full.ByteSize()
    rounded = jax.tree.map(
        lambda array: array.astype(np.float16).astype(np.float32), efficientnet_params
    )
    rgb = np.random.default_rng(1).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
    expected, _ = look(rounded, rgb)
    np.testing.assert_allclose(run_onnx(half, rgb)["ab"], expected, atol=0.01)


@pytest.fixture
def params_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_params("params.safetensors", random_params(0), {"step": 7})
    return "params.safetensors"


def export(*words):
    return main(["export", "--params", "params.safetensors", *words])


def test_the_command_writes_each_format_and_replaces_nothing(params_file, capsys):
    for format in ("onnx", "stablehlo", "safetensors"):
        path = Path(f"network.{format}")
        assert export("--format", format, "--output", str(path)) == 0
        assert capsys.readouterr().out.strip() == str(path)
        before = path.read_bytes()
        assert export("--format", format, "--output", str(path)) == 1
        assert "is there already" in capsys.readouterr().err
        assert path.read_bytes() == before
        assert export("--format", format, "--output", str(path), "--overwrite") == 0
        capsys.readouterr()
    onnx.checker.check_model(onnx.load("network.onnx"))
    np.testing.assert_array_equal(
        load_params("network.safetensors")["encoder_1"]["kernel"],
        load_params(params_file)["encoder_1"]["kernel"],
    )
    assert load_training("network.safetensors") == {"step": 7}


@pytest.mark.usefixtures("params_file")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx", "--output", "none/a.onnx"], "cannot be written: No such"),
        (["--format", "safetensors", "--output", "none/a"], "cannot be written"),
        (
            ["--format", "stablehlo", "--output", "a", "--half-precision"],
            "--half-precision is for",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(words, message, capsys):
    assert export(*words) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_released_weights_are_the_same_in_onnx_runtime(real_photos):
    photos = sorted((real_photos / "test").iterdir())[:3]
    rgb = np.stack([np.asarray(Image.open(photo).convert("RGB")) for photo in photos])
    rgb = rgb / np.float32(255)
    params = load_params()
    expected, _ = look(params, rgb)
    for half_precision in (False, True):
        model = export_onnx(params, half_precision=half_precision)
        np.testing.assert_allclose(run_onnx(model, rgb)["ab"], expected, atol=1e-3)


@pytest.mark.slow
def test_the_examples_of_the_document_run(tmp_path):
    """Each gives the colors that the package gives."""
    from skimage import data

    Image.fromarray(data.astronaut()).save(tmp_path / "photo.jpg", quality=95)
    _, *exports = blocks("docs/export.md", "sh")[0].splitlines()
    for line in exports:
        words = line.replace("colorgan", "colorgan_jax", 1).split()
        subprocess.run(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
        )
    for block in blocks("docs/export.md", "python"):
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)
    assert (
        main(["colorize", str(tmp_path / "photo.jpg"), "--output", str(tmp_path)]) == 0
    )
    ours = np.asarray(Image.open(tmp_path / "photo-2.jpg"), int)
    for name in ("onnx.jpg", "stablehlo.jpg"):
        theirs = np.asarray(Image.open(tmp_path / name), int)
        assert np.abs(theirs - ours).mean() < 1.5
