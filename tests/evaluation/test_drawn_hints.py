"""Scores with hints: what is drawn, and what `colorgan evaluate --hints` writes."""

import csv
import json

import numpy as np
import pytest
import skimage.color
from PIL import Image
from tiny_generator import random_params

from colorgan_jax.__main__ import main
from colorgan_jax.evaluation.drawn_hints import random_places, true_hints
from colorgan_jax.metrics import perceptual
from colorgan_jax.params import save_params


def test_hints_are_the_mean_colors_of_their_places():
    ab = np.random.default_rng(0).uniform(-50, 50, (2, 256, 128, 2))
    places = random_places([4, 9], 5)
    hints = true_hints(ab, places)
    assert hints.mask.sum(axis=1).tolist() == [5, 5]
    inside = np.clip(places, 0.02, 0.98)
    np.testing.assert_allclose(hints.positions[:, :5], inside, atol=0.01)
    for photo in range(2):
        for position, color in zip(
            hints.positions[photo, :5], hints.ab[photo, :5], strict=True
        ):
            y, x = (position * [256, 128] - 0.5).round().astype(int)
            expected = ab[photo, y - 3 : y + 4, x - 1 : x + 2].mean((0, 1))
            np.testing.assert_allclose(color, expected, atol=1e-4)
    # Another batch, and more of them.
    more = true_hints(ab[1:], random_places([9], 20))
    np.testing.assert_array_equal(more.positions[0, :5], hints.positions[1, :5])
    np.testing.assert_array_equal(more.ab[0, :5], hints.ab[1, :5])


def test_hints_make_rows_and_a_plot(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(perceptual, "is_available", lambda: False)
    # Halves of two colors: a few hints tell nearly all.
    lab = np.full((32, 32, 3), (60.0, 40.0, 20.0))
    lab[:, 16:] = (40, -20, -30)
    (tmp_path / "photos").mkdir()
    rgb = (255 * skimage.color.lab2rgb(lab)).round().astype(np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(rgb).save(tmp_path / "photos" / name)
    (tmp_path / "run").mkdir()
    save_params(tmp_path / "run" / "params.safetensors", random_params(0), {})
    words = ["evaluate", "--params", tmp_path / "run", "--image-size", 32]
    words += ["--photos", tmp_path / "photos", "--output", tmp_path / "out"]
    words += ["--hints", 0, 1, 12, "--suggested-hints", 2]
    assert main(list(map(str, words))) == 0

    summary = json.loads((tmp_path / "out/summary.json").read_text())
    names = ["run", "run, 1 hint", "run, 12 hints", "run, 2 suggested hints"]
    assert [*summary["rows"]][:4] == names
    assert summary["hints"] == [1, 12] and summary["suggested_hints"] == [2]
    error = [summary["rows"][name]["ab_error"]["mean"] for name in names]
    assert 1.5 * error[2] < error[1] < error[0]
    assert error[3] < error[1]
    text = capsys.readouterr().out
    assert "Differences to run, photo by photo" in text and "seed 16" in text
    with open(tmp_path / "out/per_photo.csv", newline="") as file:
        assert names[2] in {row["row"] for row in csv.DictReader(file)}
    with Image.open(tmp_path / "out/hints.png") as plot:
        assert min(plot.size) > 300


@pytest.mark.parametrize("word", ["-1", "101", "five"])
def test_other_numbers_are_refused(word, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--photos", ".", "--hints", word])
    assert f"{word} is not a whole number from 0 to 100" in capsys.readouterr().err
