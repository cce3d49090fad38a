"""colorgan survey: people rate photos without knowing which are real."""

import argparse
import json
import os
import shlex
import sys

from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import add_address_options, local_path, number
from colorgan_jax.errors import CommandError
from colorgan_jax.paths import replace_file
from colorgan_jax.survey.database import SurveyDatabase, read_ratings
from colorgan_jax.survey.selection import choose_photos


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command, its two commands and their options."""
    parser = commands.add_parser(
        "survey",
        help="have people rate real and generated photos, and analyze the ratings",
        description="The rating survey: people see real and generated photos one at a"
        " time, without knowing which is which, and rate from 1 to 5 how realistic the"
        " colors are.",
    )
    surveys = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve_parser(surveys)
    _add_analyze_parser(surveys)


def _add_serve_parser(surveys: argparse._SubParsersAction) -> None:
    parser = surveys.add_parser(
        "serve",
        help="serve the survey's web pages",
        description="Serves the survey's web pages until Ctrl-C. Resume: rerun the same"
        " command. A cookie keeps each rater's place.",
    )
    parser.add_argument(
        "--real",
        required=True,
        type=local_path,
        metavar="FOLDER",
        help="photos as the camera took them",
    )
    parser.add_argument(
        "--generated",
        required=True,
        type=local_path,
        metavar="FOLDER",
        help="colorized photos; a photo with the same name as a real one is taken to"
        " show the same scene",
    )
    parser.add_argument(
        "--database",
        required=True,
        type=local_path,
        metavar="FILE",
        help="where the ratings are kept (SQLite); created if it does not exist",
    )
    parser.add_argument(
        "--count",
        default=5,
        type=number(int, 1),
        metavar="N",
        help="how many photos from each folder to show, chosen at random"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        default=0,
        type=number(int),
        metavar="N",
        help="seed of the random choice of photos (default: %(default)s)",
    )
    add_address_options(parser, people="raters")
    parser.set_defaults(run=_serve)


def _add_analyze_parser(surveys: argparse._SubParsersAction) -> None:
    parser = surveys.add_parser(
        "analyze",
        help="print what the ratings show, and how certain that is",
        description="Compares the ratings of real and generated photos. The survey may"
        " still be running; raters count once they have finished.",
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument(
        "database",
        nargs="?",
        type=local_path,
        metavar="FILE",
        help="the --database of colorgan survey serve",
    )
    data.add_argument(
        "--from-summary",
        nargs=6,
        metavar=("MEAN", "SD", "N") * 2,
        help="analyze published figures instead of ratings: mean, standard deviation and"
        " number of ratings of the real photos, then of the generated photos, with all"
        " printed digits; Table 1 of the report, with 17 people and 5 photos of each"
        " kind, is 4.4706 0.7001 85 3.1667 1.2837 85",
    )
    parser.add_argument(
        "--output",
        type=local_path,
        metavar="FOLDER",
        help="also write analysis.json into this folder and, from FILE, ratings.csv and"
        " ratings.png",
    )
    parser.set_defaults(run=_analyze)


def _serve(options: argparse.Namespace) -> int:
    # Not at the top, like `analysis` below: the other commands do without.
    with extra("survey", "colorgan survey serve"):
        from colorgan_jax import serving
        from colorgan_jax.survey import server

    photos = choose_photos(
        options.real,
        options.generated,
        count=options.count,
        seed=options.seed,
        report=lambda sentence: print(sentence, file=sys.stderr),
    )
    with (
        serving.listen(options.host, options.port) as listener,
        SurveyDatabase(options.database, photos, server.QUESTION) as database,
    ):
        height, width = photos[0].pixels.shape[:2]
        print(
            f"{options.count} real and {options.count} generated photos, shown at"
            f" {width}x{height} pixels. Raters who have finished:"
            f" {database.count_finished()}."
        )
        print(f"{serving.addresses(listener)} Ctrl-C stops the survey.", flush=True)
        try:
            server.create_server(database, photos).run(sockets=[listener])
        except KeyboardInterrupt:
            pass  # the way to stop it
    file = shlex.quote(os.fspath(options.database))
    print(f"\nStopped. The results: colorgan survey analyze {file}")
    return 0


def _analyze(options: argparse.Namespace) -> int:
    with extra("survey", "colorgan survey analyze"):
        from colorgan_jax.survey import analysis

    if options.from_summary:
        ratings = None
        result = analysis.analyze_summary(*options.from_summary)
        print(analysis.format_summary_report(result))
    else:
        ratings = read_ratings(options.database)
        result = analysis.analyze(ratings)
        print(analysis.format_report(result))
    if options.output is None:
        return 0

    folder = options.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(
            folder / "analysis.json",
            json.dumps(result, indent=2, allow_nan=False).encode(),
        )
        if ratings is not None:
            analysis.write_ratings_csv(folder / "ratings.csv", ratings)
            if len(ratings.ratings):  # else there is nothing to plot
                analysis.save_ratings_plot(folder / "ratings.png", ratings)
    except OSError as error:
        raise CommandError(
            f"The folder {folder} cannot be written: {error.strerror}."
        ) from error
    print(f"\nWritten to the folder {folder}.")
    return 0
