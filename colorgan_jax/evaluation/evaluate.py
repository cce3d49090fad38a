"""Scores models against baselines.

Each photo is squashed to a square, as in training. Its colors are thrown away and made
anew by every row of the table: the models, and baselines that look at nothing:

    gray        ab = 0
    mean ab     the mean color of the training photos, everywhere
    random ab   uniform in [-110, 110], pixel by pixel: the report's baseline

With hints, a model has further rows: the true colors of some places are told it, random
ones or those that it suggests.

Every row has the photo's own lightness. A model that does not clearly beat gray has
learned nothing.
"""

import contextlib
import dataclasses
import datetime
import functools
import math
import os
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import jax
import numpy as np
import scipy.stats
from tqdm import tqdm

from colorgan_jax import __version__, bulk
from colorgan_jax.errors import EvaluationError, PhotoError
from colorgan_jax.evaluation.drawn_hints import random_places, true_hints
from colorgan_jax.hub import is_hub_name
from colorgan_jax.inference import colorize, where_to_ask
from colorgan_jax.lab import rgb_to_lab
from colorgan_jax.metrics import baselines, perceptual
from colorgan_jax.metrics import scores as metrics
from colorgan_jax.metrics.baselines import GRAY, MEAN_AB, RANDOM_AB
from colorgan_jax.params import PARAMS_FILE, Params, load_params, load_training
from colorgan_jax.paths import AnyPath, in_bucket, printable
from colorgan_jax.photos import find_photos, is_nearly_gray, read_square

# The row of the table that is no colorization.
REAL = "real photos"

# A photo that is exactly right has an infinite PSNR, and one of them would make the
# mean infinite. Photos of 8 bits are known up to the error of their rounding, whose
# mean square is 1 / (12 * 255**2).
MAXIMUM_PSNR = 10 * math.log10(12 * 255**2)

_BATCH_SIZE = 8
_RESAMPLES = 10_000


METRICS = ("psnr", "report_psnr", "ssim", "lpips", "colorfulness", "ab_error")

# Smaller photos do not survive the halvings of LPIPS's network.
MINIMUM_IMAGE_SIZE = 32


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained generator.

    Attributes:
      path: where it was read from.
      params: its folded parameters.
      training: how it was trained, as of `inference.load_training`.
    """

    path: str | os.PathLike
    params: Params
    training: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Scores of colorizations, the rows of the table, on photos.

    Attributes:
      models: name -> model; each has a row of its name.
      mean_ab: mean a and b of the training photos, or None if no model tells them.
      folder: of the photos.
      files: those that were scored, in the order of the scores.
      image_size: height and width in pixels at which they were scored.
      saturation: of the models' colors, as for `inference.colorize`.
      hints: numbers of hints at random places with which each model has a further row.
      suggested: the same at the places that the model suggests.
      scores: row -> metric -> float64 [photos]. The row of the real photos has only
        those metrics that need no reference.
      frechet: row -> Fréchet distance to the real photos over VGG16 features; empty
        where it was left out.
      unreadable: a sentence for each file that could not be read.
      nearly_gray: how many photos are nearly gray.
      gray_is_left_out: whether those were left out.
      left_out: a sentence for each measure that was left out.
    """

    models: dict[str, Model]
    mean_ab: tuple[float, float] | None
    folder: AnyPath
    files: list[AnyPath]
    image_size: int
    saturation: float
    hints: tuple[int, ...]
    suggested: tuple[int, ...]
    scores: dict[str, dict[str, np.ndarray]]
    frechet: dict[str, float]
    unreadable: list[str]
    nearly_gray: int
    gray_is_left_out: bool
    left_out: list[str]


def load_models(paths: Sequence[str | os.PathLike]) -> dict[str, Model]:
    """Reads trained generators and names them.

    Args:
      paths: as for `params.load_params`. A model is named after its work directory,
        repository or file; where that is the name of another row, it is the whole path.

    Raises:
      EvaluationError: if one of them is given twice.
      MissingPackageError, ParamsError: as `params.load_params`.
    """
    names = [_short_name(path) for path in paths]
    models: dict[str, Model] = {}
    for path, name in zip(paths, names, strict=True):
        if names.count(name) > 1 or name in (GRAY, MEAN_AB, RANDOM_AB, REAL):
            name = str(path)
        if name in models:
            raise EvaluationError(f"{path} is given twice.")
        models[name] = Model(path, load_params(path), load_training(path))
    return models


def _short_name(path: str | os.PathLike) -> str:
    """That of a work directory, repository or file of parameters."""
    # Elsewhere it is no path, from which the current folder could lead anywhere.
    is_elsewhere = is_hub_name(path) or in_bucket(path)
    pure = PurePosixPath(path) if is_elsewhere else Path(path).resolve()
    if pure.name == PARAMS_FILE:
        return pure.parent.name
    return pure.name.removesuffix(".safetensors")


def evaluate(
    models: dict[str, Model],
    folder: AnyPath,
    *,
    image_size: int = 256,
    saturation: float = 1.0,
    hints: Sequence[int] = (),
    suggested: Sequence[int] = (),
    leave_out_gray: bool = False,
) -> Evaluation:
    """Scores models and baselines on photos, a few photos at a time.

    Args:
      models: name -> model, one or more.
      folder: all photos below it are scored but those that cannot be read; of this
        machine or, as of `paths.user_path`, in a bucket.
      image_size: height and width in pixels to which photos are squashed; a model for
        another size sees them at its own.
      saturation: of the models' colors, as for `inference.colorize`.
      hints: numbers of hints at random places with which each model has a further row; 0
        is none.
      suggested: the same at the places that the model suggests (`inference.where_to_ask`).
      leave_out_gray: leaves out photos that are nearly gray.

    Raises:
      EvaluationError: if there are no photos to score, or `image_size` is too small.
      PhotoError: if the folder cannot be read.
    """
    if image_size < MINIMUM_IMAGE_SIZE:
        raise EvaluationError(
            f"Photos of {image_size}x{image_size} pixels are too small to be scored: the"
            f" smallest size is {MINIMUM_IMAGE_SIZE}."
        )
    files = find_photos(folder)
    if not files:
        raise EvaluationError(f"The folder {folder} holds no photos.")
    hints, suggested = (
        tuple(sorted({count for count in counts if count > 0}))
        for counts in (hints, suggested)
    )
    means = [model.training.get("mean_ab") for model in models.values()]
    mean_ab = next((tuple(mean) for mean in means if mean), None)
    params = {name: model.params for name, model in models.items()}
    photos = _UsablePhotos(files, image_size, leave_out_gray)
    has_lpips = perceptual.is_available()
    has_frechet = has_lpips and len(files) >= perceptual.MINIMUM_PHOTOS
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    features: dict[str, perceptual.FeatureStatistics] = defaultdict(
        perceptual.FeatureStatistics
    )
    # Closed, so that after Ctrl-C the threads that read stop at once.
    with contextlib.closing(photos.batches()) as batches:
        for numbers, real in batches:
            rows = colorizations(
                params,
                mean_ab,
                real,
                numbers,
                saturation=saturation,
                hints=hints,
                suggested=suggested,
            )
            for row, rgb in rows.items():
                reference = None if row == REAL else real
                for metric, values in _measure(rgb, reference, has_lpips).items():
                    scores[row][metric].extend(values)
                if has_frechet:
                    features[row].add(np.asarray(perceptual.vgg16_features(rgb)))
    if not photos.scored:
        raise EvaluationError(
            f"None of the {len(files)} photos in {folder} can be scored:"
            f" {len(photos.unreadable)} cannot be read, {photos.nearly_gray} are nearly"
            " gray."
        )

    left_out = [] if has_lpips else [perceptual.HOW_TO_INSTALL]
    if len(photos.scored) < perceptual.MINIMUM_PHOTOS:
        features.clear()
        left_out.append(
            f"The Fréchet distance takes {perceptual.MINIMUM_PHOTOS} photos or more."
        )
    return Evaluation(
        models=models,
        mean_ab=mean_ab,
        folder=folder,
        files=photos.scored,
        image_size=image_size,
        saturation=saturation,
        hints=hints,
        suggested=suggested,
        scores={
            row: {
                metric: np.array(values, np.float64) for metric, values in lists.items()
            }
            for row, lists in scores.items()
        },
        frechet={
            row: perceptual.frechet_distance(statistics, features[REAL])
            for row, statistics in features.items()
            if row != REAL
        },
        unreadable=photos.unreadable,
        nearly_gray=photos.nearly_gray,
        gray_is_left_out=leave_out_gray,
        left_out=left_out,
    )


def colorizations(
    models: Mapping[str, Params],
    mean_ab: tuple[float, float] | None,
    real: np.ndarray,
    numbers: Sequence[int],
    *,
    saturation: float,
    hints: Sequence[int] = (),
    suggested: Sequence[int] = (),
) -> dict[str, jax.Array | np.ndarray]:
    """Colors the lightness of photos in every way that the table compares.

    Args:
      models: name -> parameters of a generator.
      mean_ab: of the training photos, if known.
      real: the photos, float sRGB [B, S, S, 3] in [0, 1].
      numbers: [B], the seeds of the random colors and places: a photo gets the same in
        whatever batch it is.
      saturation: of the models' colors, as for `inference.colorize`.
      hints: numbers of hints at random places with which each model has a further row.
      suggested: the same at the places that the model suggests.

    Returns:
      Row of the table -> float sRGB [B, S, S, 3] in [0, 1]; the real photos come last.
    """
    lab = np.asarray(rgb_to_lab(real))
    L = lab[..., 0]
    ab = lab[..., 1:]
    drawn = {count: true_hints(ab, random_places(numbers, count)) for count in hints}
    rows: dict[str, jax.Array | np.ndarray] = {}
    for name, params in models.items():
        given = {name: None}
        given |= {row_with_hints(name, count): spots for count, spots in drawn.items()}
        if suggested:
            places = np.asarray(where_to_ask(params, L, count=max(suggested))[0])
            given |= {
                row_with_hints(name, count, "suggested"): true_hints(
                    ab, places[:, :count]
                )
                for count in suggested
            }
        for row, spots in given.items():
            rows[row] = colorize(params, L, hints=spots, saturation=saturation)
    rows[GRAY] = _gray(L)
    if mean_ab is not None:
        rows[MEAN_AB] = _uniform(L, np.array(mean_ab, np.float32))
    rows[RANDOM_AB] = _random_ab(L, np.asarray(numbers))
    rows[REAL] = real
    return rows


def row_with_hints(model: str, count: int, kind: str = "") -> str:
    """The row of the table for a model with so many hints, of a kind."""
    if count == 0:
        return model
    words = [str(count), kind, "hints" if count > 1 else "hint"]
    return f"{model}, {' '.join(filter(None, words))}"


_gray = jax.jit(baselines.gray)
_uniform = jax.jit(baselines.uniform)
_random_ab = jax.jit(baselines.random_ab)


class _UsablePhotos:
    """Photos read a batch at a time, with notes of those that cannot be used.

    Attributes:
      scored: the files given out so far.
      unreadable, nearly_gray: as in `Evaluation`.
    """

    def __init__(self, files: Sequence[AnyPath], image_size: int, leave_out_gray: bool):
        self._files = files
        self._image_size = image_size
        self._leave_out_gray = leave_out_gray
        self.scored: list[AnyPath] = []
        self.unreadable: list[str] = []
        self.nearly_gray = 0

    def batches(self) -> Generator[tuple[list[int], np.ndarray], None, None]:
        """Reads them all, under a progress bar.

        Yields:
          Positions in `scored` [B], and float sRGB [B, S, S, 3] in [0, 1].
        """
        numbers, photos = [], []
        read = functools.partial(read_square, size=self._image_size)
        with contextlib.closing(bulk.read_ahead(self._files, read)) as results:
            for file, photo in tqdm(
                results,
                total=len(self._files),
                desc="Evaluating",
                unit="photo",
                disable=None,
            ):
                if isinstance(photo, PhotoError):
                    self.unreadable.append(str(photo))
                    continue
                if is_nearly_gray(photo):
                    self.nearly_gray += 1
                    if self._leave_out_gray:
                        continue
                numbers.append(len(self.scored))
                self.scored.append(file)
                photos.append(photo / np.float32(255))
                if len(photos) == _BATCH_SIZE:
                    yield numbers, np.stack(photos)
                    numbers, photos = [], []
        if photos:
            yield numbers, np.stack(photos)


def _measure(
    rgb: jax.Array | np.ndarray, reference: np.ndarray | None, has_lpips: bool
) -> dict[str, np.ndarray]:
    """Metric -> a value for each photo [B]; without a reference, those that need none."""
    colorfulness = {"colorfulness": np.asarray(metrics.colorfulness(rgb))}
    if reference is None:
        return colorfulness
    psnr = np.minimum(metrics.psnr(rgb, reference), MAXIMUM_PSNR)
    lpips = {"lpips": np.asarray(perceptual.lpips(rgb, reference))} if has_lpips else {}
    return {
        "psnr": psnr,
        "report_psnr": psnr + metrics.REPORT_OFFSET,
        "ssim": metrics.ssim(np.asarray(rgb), reference),
        **lpips,
        **colorfulness,
        "ab_error": np.asarray(metrics.ab_error(rgb, reference)),
    }


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """Means over the photos with their intervals, and paired differences.

    Returns:
      What JSON can hold; names that are not Unicode are escaped. "rows" -> row ->
      metric -> {"mean", "low", "high"}, where low and high are the limits of a 95%
      bootstrap interval over photos (None for a single photo); a row also has
      "colorfulness_ratio" to the real photos and, where computed, "frechet_vgg16".
      "differences" -> reference -> row -> metric likewise, for the differences photo by
      photo to gray and to the first model. Also what was evaluated, when, and with
      what.
    """
    scores = evaluation.scores
    colorfulness = np.mean(scores[REAL]["colorfulness"])
    rows: dict[str, Any] = {}
    for row, values in scores.items():
        rows[row] = {metric: bootstrap_interval(values[metric]) for metric in values}
        rows[row]["colorfulness_ratio"] = (
            float(np.mean(values["colorfulness"]) / colorfulness)
            if colorfulness
            else None
        )
        if row in evaluation.frechet:
            rows[row]["frechet_vgg16"] = evaluation.frechet[row]
    summary = {
        "date": datetime.date.today().isoformat(),
        "software": f"colorgan_jax {__version__}, JAX {jax.__version__}",
        "device": jax.devices()[0].device_kind,
        "models": {
            name: {"path": str(model.path), "training": model.training}
            for name, model in evaluation.models.items()
        },
        "mean_ab": evaluation.mean_ab,
        "folder": str(evaluation.folder),
        "photos": len(evaluation.files),
        "image_size": evaluation.image_size,
        "saturation": evaluation.saturation,
        "hints": evaluation.hints,
        "suggested_hints": evaluation.suggested,
        "unreadable": evaluation.unreadable,
        "nearly_gray": evaluation.nearly_gray,
        "gray_is_left_out": evaluation.gray_is_left_out,
        "left_out": evaluation.left_out,
        "rows": rows,
        "differences": {
            reference: {
                row: {
                    metric: bootstrap_interval(
                        values[metric] - scores[reference][metric]
                    )
                    for metric in values
                }
                for row, values in scores.items()
                if row not in (reference, REAL)
            }
            for reference in (GRAY, next(iter(evaluation.models)))
        },
    }
    return _printable(summary)


def _printable(value: Any) -> Any:
    """Escapes all names in a summary that are not Unicode: strict JSON has none."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value


def bootstrap_interval(values: np.ndarray) -> dict[str, float | None]:
    """Mean of values [N], and the percentile bootstrap's 95% interval (Efron 1979).

    Returns:
      "mean", "low" and "high"; the limits are None for a single value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None}
    bootstrap = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, 2**22 // len(values)),  # bounds the memory
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = bootstrap.confidence_interval
    return {"mean": mean, "low": float(low), "high": float(high)}
