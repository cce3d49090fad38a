"""Figures: the report's comparison grid and its loss curves, and what hints gain."""

import io
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure  # Without pyplot, which would choose a backend.

from colorgan_jax.paths import printable, replace_file

# Okabe and Ito's palette: distinct also to the color-blind.
_BLUE, _VERMILION, _GREEN, _GRAY = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
# On a curve; more of them would cover it.
_MOST_MARKERS = 25


def save_comparison_grid(
    path: str | os.PathLike,
    columns: Mapping[
        str, Sequence[Float[np.ndarray, "H W 3"]] | Float[Array | np.ndarray, "N H W 3"]
    ],
    *,
    row_labels: Sequence[str] | None = None,
    captions: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draws photos side by side, one row a photo (the report's figures 3 and 5).

    Args:
      path: of the PNG to write.
      columns: title of each column -> its photos, float sRGB [H, W, 3] in [0, 1]; all
        columns show the same photos in the same order.
      row_labels: written at the left of each row.
      captions: title of a column -> what is written below each of its photos.
    """
    rows = len(next(iter(columns.values())))
    row_height = 2.85 if captions else 2.6
    figure = Figure(
        figsize=(2.6 * len(columns), row_height * rows + 0.3), layout="compressed"
    )
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, photos) in zip(axes.T, columns.items(), strict=True):
        # Names of models and files are no formulas, whatever dollar signs they have.
        column[0].set_title(printable(title), wrap=True, parse_math=False)
        for axis, photo in zip(column, photos, strict=True):
            axis.imshow(np.clip(photo, 0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for axis, caption in zip(column, (captions or {}).get(title, ()), strict=False):
            axis.set_xlabel(printable(caption), parse_math=False)
    for axis, label in zip(axes[:, 0], row_labels or (), strict=False):
        axis.set_ylabel(label, fontsize="large")
    _save(figure, path, dpi=150)


def save_loss_curves(
    path: str | os.PathLike, rows: Sequence[Mapping[str, float | int]]
) -> None:
    """Draws losses and validation PSNR over epochs (the report's figure 4).

    Args:
      path: of the PNG to write.
      rows: of metrics.csv: each has "step" and "epoch" (a float), and either
        "generator_loss" and, where the discriminator was trained, "discriminator_loss",
        averaged over the steps since the row before, or "validation_psnr" and
        "validation_psnr_gray".
    """
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    validations = [row for row in rows if "validation_psnr" in row]
    panels = figure.subplots(1, 3 if validations else 2)
    discriminator, generator = panels[:2]
    losses = [row for row in rows if "generator_loss" in row]
    for axis, title, color in (
        (discriminator, "discriminator_loss", _BLUE),
        (generator, "generator_loss", _VERMILION),
    ):
        _plot_loss(axis, losses, title, color)
        axis.set(title=title.replace("_", " ").capitalize(), xlabel="epoch")
    discriminator.axhline(
        np.log(2), color=_GRAY, linestyle=":", label="undecided, ln 2"
    )
    discriminator.legend()
    generator.legend()

    if validations:
        _plot_validations(panels[2], validations)
    for axis in panels:
        axis.grid(alpha=0.3)
        axis.set_xlim(left=0)
    _save(figure, path, dpi=110)


def _plot_validations(axis, rows) -> None:
    """PSNR of the generator and of gray, by epoch."""
    every = math.ceil(len(rows) / _MOST_MARKERS) or None
    epochs = [row["epoch"] for row in rows]
    for name, label, style in (
        ("validation_psnr", "generated", {"color": _GREEN, "marker": "o"}),
        (
            "validation_psnr_gray",
            "gray (ab = 0)",
            {"color": _GRAY, "marker": "s", "linestyle": "--"},
        ),
    ):
        values = [row[name] for row in rows]
        axis.plot(epochs, values, label=label, markevery=every, **style)
    axis.set(title="Validation PSNR, dB (peak 1.0)", xlabel="epoch")
    axis.legend()


def save_hint_curves(
    path: str | os.PathLike, curves: Mapping[str, Mapping[int, float]]
) -> None:
    """Draws PSNR against the number of hints.

    Args:
      path: of the PNG to write.
      curves: name -> number of hints -> PSNR in dB.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    colors = (_BLUE, _VERMILION, _GREEN, _GRAY)
    markers = "osD^"
    for number, (name, curve) in enumerate(curves.items()):
        axis.plot(
            [*curve],
            [*curve.values()],
            color=colors[number % len(colors)],
            marker=markers[number % len(markers)],
            label=printable(name),
        )
    # Even steps for 0, 1, 5, 10, 20, 50, nearly.
    axis.set_xscale("symlog", linthresh=1)
    ticks = sorted({count for curve in curves.values() for count in curve})
    axis.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axis.minorticks_off()
    axis.set(xlabel="hints", ylabel="PSNR, dB (peak 1.0)", xlim=(-0.1, None))
    axis.grid(alpha=0.3)
    axis.legend()
    _save(figure, path, dpi=110)


def _save(figure: Figure, path: str | os.PathLike, *, dpi: int) -> None:
    """Writes a figure to a PNG file, whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    replace_file(path, content.getbuffer())


def _plot_loss(axis, rows, name: str, color: str) -> None:
    """Every row as a thin line, the mean over the steps of each epoch as a thick one."""
    has_it = np.array([name in row for row in rows], bool)
    epochs = np.array([row["epoch"] for row in rows])[has_it]
    values = np.array([row[name] for row in rows if name in row])
    steps = np.diff([row["step"] for row in rows], prepend=0)[has_it]
    axis.plot(epochs, values, color=color, alpha=0.35, linewidth=0.8, label="logged")
    whole = np.ceil(epochs).astype(int)
    ends = np.intersect1d(whole, epochs)  # Of those epochs that have come to their end.
    if len(ends) > 1:
        means = [
            np.average(values[whole == end], weights=steps[whole == end])
            for end in ends
        ]
        axis.plot(ends - 0.5, means, color=color, linewidth=2, label="mean of an epoch")
