"""What a run leaves for people: parameters, pictures, and scores in the terminal."""

import shlex

import jax
import ml_collections
import numpy as np

from colorgan_jax import figures
from colorgan_jax.inference import colorize
from colorgan_jax.lab import rgb_to_lab
from colorgan_jax.metrics import baselines
from colorgan_jax.params import PARAMS_FILE, Params, save_params
from colorgan_jax.paths import AnyPath, make_folder
from colorgan_jax.training import data
from colorgan_jax.training.metric_log import MetricLog

# Beside PARAMS_FILE, which holds the latest.
BEST_PARAMS_FILE = "best.safetensors"

# How many photos a sample grid shows.
SAMPLE_PHOTOS = 6


def write_results(
    workdir: AnyPath,
    config: ml_collections.ConfigDict,
    mean_ab: tuple[float, float],
    photos: data.Photos,
    metric_log: MetricLog,
    params: Params,
    *,
    is_best: bool = False,
) -> None:
    """Writes the parameters, a sample grid and the curves, on the first host.

    Args:
      workdir: of the run.
      config: of the run; kept with the parameters.
      mean_ab: of the training photos; kept with the parameters, as a baseline.
      photos: the first few of them are colorized for the grid.
      metric_log: the record of the run.
      params: inference parameters.
      is_best: whether no validation before had a higher PSNR.
    """
    if jax.process_index() != 0:
        return
    params = jax.device_get(params)
    training = {"config": config.to_dict(), "step": metric_log.step, "mean_ab": mean_ab}
    for name in (PARAMS_FILE, BEST_PARAMS_FILE) if is_best else (PARAMS_FILE,):
        save_params(workdir / name, params, training)
    figures.save_loss_curves(workdir / "loss_curves.png", metric_log.rows)
    real = photos.load(np.arange(min(SAMPLE_PHOTOS, len(photos)))) / np.float32(255)
    L = rgb_to_lab(real)[..., 0]
    samples = workdir / "samples"
    make_folder(samples)
    figures.save_comparison_grid(
        samples / f"step_{metric_log.step:07d}.png",
        {
            baselines.GRAY: baselines.gray(L),
            "generated": colorize(params, L),
            "real": real,
        },
    )


def print_report(scores: dict[str, dict[str, float]], workdir: AnyPath) -> None:
    """Prints a table of scores, and what to do next.

    Args:
      scores: for each set of photos, by its name, what `validation.score` returns.
      workdir: of the run.
    """
    width = max(len(photos) for photos in scores)
    columns = list(next(iter(scores.values())))
    print(f"{'PSNR in dB (peak 1.0)':{width}}  {'  '.join(columns)}")
    for photos, values in scores.items():
        cells = (f"{values[name]:{len(name)}.2f}" for name in columns)
        print(f"{photos:{width}}  {'  '.join(cells)}")
    print(f"Pictures: {workdir}/samples/ and {workdir}/loss_curves.png")
    print(
        "Colorize a photo of your own:"
        " python -m colorgan_jax colorize PHOTO.jpg --params"
        f" {shlex.quote(str(workdir))}"
    )
