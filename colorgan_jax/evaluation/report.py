"""Writes an evaluation down: a summary, the scores of each photo, comparison grids."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from colorgan_jax import figures
from colorgan_jax.evaluation import drawn_hints
from colorgan_jax.evaluation.evaluate import (
    GRAY,
    MAXIMUM_PSNR,
    METRICS,
    RANDOM_AB,
    REAL,
    Evaluation,
    colorizations,
    row_with_hints,
)
from colorgan_jax.paths import printable, replace_file
from colorgan_jax.photos import read_square
from colorgan_jax.training.sources import source_names

_EXPLANATIONS = f"""\
- Brackets hold 95% bootstrap intervals over the photos.
- PSNR: of sRGB in [0, 1] with a peak of 1, averaged over photos (each at most
  {MAXIMUM_PSNR:.2f} dB, that of rounding to 8 bits). "minus gray": differences photo by photo.
  "as in the report": `cv2.PSNR`, which assumes a peak of 255; this adds 48.13 dB.
- SSIM (Wang et al. 2004): 1 is best. LPIPS (Zhang et al. 2018, AlexNet): 0 is best.
- Colorfulness (Hasler and Suesstrunk 2003), and its share of the real photos'.
- ab error: mean distance in CIE ab (CIE76). 0 is best.
- VGG16 Fréchet distance: over relu5_3 features, so not comparable to FID. 0 is best.
- gray: ab = 0. mean ab: the training photos' mean color everywhere. random ab: uniform
  in [-110, 110], pixel by pixel."""

_GRID_PHOTOS = 2  # of each sort: best, median, worst
_CAPTION_LENGTH = 28  # characters that fit below a photo of the grid


def format_summary(summary: Mapping[str, Any]) -> str:
    """Writes what `evaluate.summarize` gave as Markdown: tables, and what they mean."""
    size = summary["image_size"]
    first, *others = summary["models"]
    lines = [
        f"{summary['photos']} photos of {summary['folder']} at {size}x{size} pixels"
    ]
    lines += ["", *_format_table(_main_table(summary))]
    if others or summary["hints"] or summary["suggested_hints"]:
        lines += ["", f"Differences to {first}, photo by photo", ""]
        lines += _format_table(_table_of_differences(summary["differences"][first]))
    lines += ["", _EXPLANATIONS]
    for name, model in summary["models"].items():
        lines.append(f"- {name}: {model['path']}, {_describe(model['training'])}.")
    if (factor := summary["saturation"]) != 1:
        lines.append(f"- The models' ab is multiplied by {factor:g} (--saturation).")
    places = {
        "hints": f"Hints: at random points (seed {drawn_hints.SEED})",
        "suggested_hints": "Suggested hints: at the points where the model would ask first",
    }
    lines += [
        f"- {words}, the true mean color of 7x7 of 256x256 pixels; of more hints the first"
        " are those of fewer."
        for key, words in places.items()
        if summary[key]
    ]
    if count := summary["nearly_gray"]:
        verb = "left out" if summary["gray_is_left_out"] else "scored like the others"
        lines.append(f"- Nearly gray photos, {verb}: {count}.")
    lines += [f"- Left out: {sentence}" for sentence in summary["left_out"]]
    lines += [f"- Not scored: {sentence}" for sentence in summary["unreadable"]]
    lines.append(f"- {summary['date']}, {summary['software']}, {summary['device']}.")
    return "\n".join(lines) + "\n"


def _describe(training: Mapping[str, Any]) -> str:
    if not training:
        return "which does not say how it was trained"
    if "imported_from" in training:
        return f"imported from {training['imported_from']}"
    config, step = training["config"], training["step"]
    sources = ", ".join(source_names(config["data"]["source"]))
    return (
        f"trained for {step:,} steps of {config['batch_size']} photos of {sources} at"
        f" {config['image_size']} pixels"
    )


def _main_table(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    above_gray = summary["differences"][GRAY]
    return [
        {
            "": row,
            "PSNR, dB": format_interval(values.get("psnr", {}), ".2f"),
            "minus gray, dB": format_interval(
                above_gray.get(row, {}).get("psnr", {}), "+.2f"
            ),
            "as in the report, dB": _format_mean(values, "report_psnr", ".2f"),
            "SSIM": _format_mean(values, "ssim", ".3f"),
            "LPIPS": _format_mean(values, "lpips", ".3f"),
            "colorfulness": _format_mean(values, "colorfulness", ".1f"),
            "of real": _format_number(values, "colorfulness_ratio", ".0%"),
            "ab error": _format_mean(values, "ab_error", ".1f"),
            "VGG16 Fréchet": _format_number(values, "frechet_vgg16", ".2f"),
        }
        for row, values in summary["rows"].items()
    ]


def _table_of_differences(differences: Mapping[str, Any]) -> list[dict[str, str]]:
    return [
        {
            "": row,
            "PSNR, dB": format_interval(values.get("psnr", {}), "+.2f"),
            "SSIM": format_interval(values.get("ssim", {}), "+.3f"),
            "LPIPS": format_interval(values.get("lpips", {}), "+.3f"),
            "colorfulness": format_interval(values.get("colorfulness", {}), "+.1f"),
            "ab error": format_interval(values.get("ab_error", {}), "+.1f"),
        }
        for row, values in differences.items()
    ]


# What a row lacks, such as the PSNR of the real photos, is an empty cell.


def _format_number(row: Mapping[str, Any], name: str, form: str) -> str:
    return "" if row.get(name) is None else format(row[name], form)


def _format_mean(row: Mapping[str, Any], metric: str, form: str) -> str:
    return _format_number(row.get(metric, {}), "mean", form)


def format_interval(interval: Mapping[str, Any], form: str) -> str:
    """Mean and limits of `evaluate.bootstrap_interval`, as in 23.27 (22.95 to 23.58)."""
    mean, low, high = (
        _format_number(interval, part, form) for part in ("mean", "low", "high")
    )
    return f"{mean} ({low} to {high})" if low else mean


def _format_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A Markdown table that is legible as it is, without empty columns."""
    columns = []
    for title in rows[0]:
        cells = [row[title] for row in rows]
        if any(cells):
            width = max(len(cell) for cell in [title, *cells])
            column = [title, "-" * width, *cells]
            columns.append([cell.ljust(width) for cell in column])
    return [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]


def write_per_photo(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Writes a CSV with a line for each photo and row of the table.

    Raises:
      OSError: if it cannot be written.
    """
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, ["photo", "row", *METRICS])
    writer.writeheader()
    for number, file in enumerate(evaluation.files):
        for row, values in evaluation.scores.items():
            scores = {metric: values[metric][number] for metric in values}
            writer.writerow({"photo": file, "row": row, **scores})
    replace_file(path, printable(lines.getvalue()).encode())


def save_grids(folder: Path, evaluation: Evaluation) -> None:
    """Draws the photos with the best, median and worst PSNR of the first model.

    Args:
      folder: gets grid.png (gray, each model, real: the report's figure 3) and
        beside_random.png (each model, random ab, real: its figure 5).
      evaluation: whose photos are read again.

    Raises:
      OSError: if they cannot be written.
      PhotoError: if one of the photos can no longer be read.
    """
    models = {name: model.params for name, model in evaluation.models.items()}
    psnr = {
        row: scores["psnr"] for row, scores in evaluation.scores.items() if row != REAL
    }
    chosen = _best_median_worst(psnr[next(iter(models))])
    files = [evaluation.files[number] for number in chosen]
    real = [read_square(file, evaluation.image_size) for file in files]
    rows = colorizations(
        models,
        evaluation.mean_ab,
        np.stack(real) / np.float32(255),
        list(chosen),
        saturation=evaluation.saturation,
    )
    captions = {
        row: [f"{psnr[row][number]:.1f} dB" for number in chosen] for row in psnr
    }
    captions[REAL] = [_caption(file.name) for file in files]
    for name, columns in {
        "grid.png": (GRAY, *models, REAL),
        "beside_random.png": (*models, RANDOM_AB, REAL),
    }.items():
        figures.save_comparison_grid(
            folder / name,
            {column: rows[column] for column in columns},
            row_labels=list(chosen.values()),
            captions=captions,
        )


def _caption(name: str) -> str:
    """The end of a long name, which tells photos apart."""
    text = printable(name)
    return text if len(text) <= _CAPTION_LENGTH else f"…{text[1 - _CAPTION_LENGTH :]}"


def save_hint_curves(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Draws PSNR against the number of hints, beside what the peer published.

    Raises:
      OSError: if it cannot be written.
    """
    curves: dict[str, dict[int, float]] = {}
    for kind, counts in (("", evaluation.hints), ("suggested", evaluation.suggested)):
        for name in evaluation.models if counts else ():
            rows = {count: row_with_hints(name, count, kind) for count in (0, *counts)}
            curves[f"{name}, {kind} hints" if kind else name] = {
                count: float(evaluation.scores[row]["psnr"].mean())
                for count, row in rows.items()
            }
    curves[drawn_hints.PEER] = drawn_hints.PEER_PSNR
    figures.save_hint_curves(path, curves)


def _best_median_worst(psnr: np.ndarray) -> dict[int, str]:
    """Number of a photo -> its label, the best first; each photo once."""
    order = [int(number) for number in np.argsort(psnr)[::-1]]
    middle = max(0, (len(order) - _GRID_PHOTOS) // 2)
    labels: dict[int, str] = {}
    for label, numbers in (
        ("best", order[:_GRID_PHOTOS]),
        ("worst", order[-_GRID_PHOTOS:]),
        ("median", order[middle : middle + _GRID_PHOTOS]),
    ):
        for number in numbers:
            labels.setdefault(number, label)
    return {number: labels[number] for number in order if number in labels}
