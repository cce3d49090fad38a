"""Figures: what they plot, and files that an image viewer opens."""

import numpy as np
from PIL import Image

from colorgan_jax import figures


def test_loss_curves_show_means_of_epochs_and_gray(tmp_path, drawn):
    def losses(step, epoch, value):
        return {
            "step": step,
            "epoch": epoch,
            "discriminator_loss": value,
            "generator_loss": 10 * value,
        }

    rows = [
        losses(6, 0.6, 1.0),
        losses(10, 1.0, 2.0),  # Four steps: counts less than the row of six.
        {"step": 10, "epoch": 1.0, "validation_psnr": 22, "validation_psnr_gray": 23},
        losses(20, 2.0, 3.0),
        losses(25, 2.5, 9.0),  # Of an epoch that is not over: has no mean yet.
    ]
    figures.save_loss_curves(tmp_path / "curves.png", rows)
    discriminator, generator, psnr = drawn()[-1].axes
    for axis, factor in ((discriminator, 1), (generator, 10)):
        lines = {line.get_label(): line.get_xydata() for line in axis.lines}
        np.testing.assert_allclose(
            lines["mean of an epoch"], [[0.5, factor * 1.4], [1.5, factor * 3.0]]
        )
    lines = {line.get_label(): line.get_xydata().tolist() for line in psnr.lines}
    assert lines == {"generated": [[1, 22]], "gray (ab = 0)": [[1, 23]]}
    assert Image.open(tmp_path / "curves.png").width > 1000


def test_a_discriminator_that_is_trained_later_has_its_own_curve(tmp_path, drawn):
    rows = [
        {"step": 10, "epoch": 1.0, "generator_loss": 5.0},
        {"step": 14, "epoch": 1.4, "generator_loss": 5.0, "discriminator_loss": 1.0},
        {"step": 20, "epoch": 2.0, "generator_loss": 5.0, "discriminator_loss": 2.0},
        {"step": 30, "epoch": 3.0, "generator_loss": 5.0, "discriminator_loss": 3.0},
    ]
    figures.save_loss_curves(tmp_path / "curves.png", rows)
    discriminator, generator = drawn()[-1].axes
    lines = {line.get_label(): line.get_xydata() for line in discriminator.lines}
    np.testing.assert_allclose(lines["logged"], [[1.4, 1], [2, 2], [3, 3]])
    # Of the second epoch's steps, four have the loss 1 and six the loss 2.
    np.testing.assert_allclose(lines["mean of an epoch"], [[1.5, 1.6], [2.5, 3.0]])
    assert len(generator.lines[0].get_xydata()) == 4

    figures.save_loss_curves(tmp_path / "none.png", rows[:1])
    assert len(drawn()[-1].axes[0].lines[0].get_xydata()) == 0


def test_a_grid_has_a_row_for_each_photo_in_each_column(tmp_path, drawn):
    photos = [np.full((8, 8, 3), value, np.float32) for value in (0.0, 0.5)]
    columns = {"gray": photos, "generated": photos[::-1], "real": photos}
    figures.save_comparison_grid(tmp_path / "grid.png", columns)
    shown = [[axis.images[0].get_array()[0, 0, 0] for axis in drawn()[-1].axes]]
    np.testing.assert_array_equal(
        np.reshape(shown, (2, 3)), [[0, 0.5, 0], [0.5, 0, 0.5]]
    )
    assert [axis.get_title() for axis in drawn()[-1].axes[:3]] == list(columns)
    assert Image.open(tmp_path / "grid.png").width > 1000


def test_rows_and_photos_of_a_grid_can_be_labeled(tmp_path, drawn):
    photos = [np.full((8, 8, 3), 0.5)] * 2
    figures.save_comparison_grid(
        tmp_path / "grid.png",
        {"gray": photos, "real": photos},
        row_labels=["best", "worst"],
        captions={"gray": ["24.1 dB", "9.9 dB"]},
    )
    axes = drawn()[-1].axes
    assert [axis.get_ylabel() for axis in axes] == ["best", "", "worst", ""]
    assert [axis.get_xlabel() for axis in axes] == ["24.1 dB", "", "9.9 dB", ""]
