"""colorgan evaluate: scores models against baselines."""

import argparse
import json
from pathlib import Path

from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import (
    add_params_option,
    add_saturation_option,
    local_path,
    number,
)
from colorgan_jax.errors import CommandError
from colorgan_jax.hub import is_hub_name
from colorgan_jax.paths import in_bucket, replace_file, user_path

_MOST_HINTS = 100
_NOT_ALWAYS_WRITTEN = ("hints.png", "loss_curves.png")
_RESULTS = (
    *("summary.md", "summary.json", "per_photo.csv", "grid.png", "beside_random.png"),
    *_NOT_ALWAYS_WRITTEN,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "evaluate",
        help="score models against baselines",
        description="Scores models on color photos against three baselines: gray, the"
        " mean color of the training photos, and random colors. Writes per_photo.csv,"
        " summary.json, summary.md and figures.",
    )
    add_params_option(parser)
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="PATH",
        help="more weights to score; each is compared with --params",
    )
    parser.add_argument(
        "--photos",
        required=True,
        metavar="FOLDER",
        help="color photos that were not trained on: all below this folder, of this"
        " machine or gs://BUCKET/NAME",
    )
    parser.add_argument(
        "--output",
        default=Path("evaluation"),
        type=local_path,
        metavar="FOLDER",
        help="where the results go (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        default=256,
        type=number(int, 1),
        metavar="PIXELS",
        help="height and width to which photos are squashed (default: %(default)s)",
    )
    add_saturation_option(parser)
    parser.add_argument(
        "--hints",
        nargs="+",
        default=[],
        type=number(int, 0, _MOST_HINTS),
        metavar="NUMBER",
        help="also score each model with so many hints, the true colors of random places:"
        " 0 1 5 10 20, for example. Adds hints.png, PSNR against hints",
    )
    parser.add_argument(
        "--suggested-hints",
        nargs="+",
        default=[],
        type=number(int, 0, _MOST_HINTS),
        metavar="NUMBER",
        help="the same at the places that the model suggests",
    )
    parser.add_argument(
        "--leave-out-gray",
        "--leave-out-grey",  # The spelling of version 0.1.
        action="store_true",
        help="leave out photos that are nearly gray",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of an earlier evaluation",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    # Not at the top: the other commands do without these libraries.
    with extra("evaluate", "colorgan evaluate"):
        from colorgan_jax import figures
        from colorgan_jax.evaluation import evaluate
        from colorgan_jax.evaluation import report as scorecard
        from colorgan_jax.training.metric_log import read_metrics

    paths = [options.params, *options.compare]
    photos = user_path(options.photos)
    if not in_bucket(photos):
        photos = photos.expanduser()
        if options.output.resolve().is_relative_to(photos.resolve()):
            raise CommandError(
                f"The results cannot go into the folder of the photos, {photos}: they"
                " would be scored next time. Name another with --output."
            )
    has_results = any((options.output / name).exists() for name in _RESULTS)
    if has_results and not options.overwrite:
        raise CommandError(
            f"{options.output} holds the results of an earlier evaluation: name another"
            " folder with --output, or replace them with --overwrite."
        )
    models = evaluate.load_models(paths)
    _make_folder(options.output)  # before the work, which may take long
    evaluation = evaluate.evaluate(
        models,
        photos,
        image_size=options.image_size,
        saturation=options.saturation,
        hints=options.hints,
        suggested=options.suggested_hints,
        leave_out_gray=options.leave_out_gray,
    )
    summary = evaluate.summarize(evaluation)
    text = scorecard.format_summary(summary)
    numbers = json.dumps(summary, indent=2) + "\n"
    try:
        for name in _NOT_ALWAYS_WRITTEN:
            (options.output / name).unlink(missing_ok=True)
        replace_file(options.output / "summary.md", text.encode())
        replace_file(options.output / "summary.json", numbers.encode())
        scorecard.write_per_photo(options.output / "per_photo.csv", evaluation)
        scorecard.save_grids(options.output, evaluation)
        if evaluation.hints or evaluation.suggested:
            scorecard.save_hint_curves(options.output / "hints.png", evaluation)
        # A repository of the hub has none.
        if not is_hub_name(paths[0]) and (
            rows := read_metrics(user_path(paths[0]) / "metrics.csv")
        ):
            figures.save_loss_curves(options.output / "loss_curves.png", rows)
    except OSError as error:
        raise _cannot_be_written(options.output, error) from error
    finally:
        print(text)  # also where it cannot be written
    return 0


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_be_written(folder, error) from error


def _cannot_be_written(folder: Path, error: OSError) -> CommandError:
    return CommandError(
        f"The results cannot be written into {folder}: {error.strerror}."
    )
