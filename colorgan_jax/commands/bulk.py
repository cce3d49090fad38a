"""colorgan bulk: an archive of photos in color, by Apache Beam, here or on a cluster."""

import argparse
import logging

from colorgan_jax.commands.extras import extra
from colorgan_jax.commands.options import (
    add_params_option,
    add_result_options,
    add_saturation_option,
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds the command and its options."""
    parser = commands.add_parser(
        "bulk",
        help="colorize an archive, by Apache Beam, here or on a cluster",
        description="Colorizes all photos of an archive, as colorgan colorize does, by"
        " several processes of this machine or by the workers of Dataflow, Flink or"
        " Spark (docs/bulk.md). No file is replaced, and photos that were colorized"
        " before are skipped: to resume, rerun the same command. A manifest tells the"
        " outcome of each photo.",
        epilog="All other options are Apache Beam's, such as --direct_num_workers=8 or"
        " --runner=DataflowRunner.",
        allow_abbrev=False,  # An option of Beam's may be the beginning of one of ours.
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="PATTERN",
        help="the photos: a folder (all photos below it) or a pattern in quotes, here or"
        " in a bucket, such as 'gs://bucket/scans/**.jpg': * stands for a part of a"
        " name, ** for any folders, too",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="FOLDER",
        help="where the results go, here or in a bucket, in the same tree as the photos",
    )
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="where the outcomes go, a line of JSON for each photo (default:"
        " manifest-TIME.jsonl in the folder for the results)",
    )
    add_params_option(parser)
    add_saturation_option(parser)
    add_result_options(parser)
    parser.set_defaults(run=_run, beam_options=[])


def _run(options: argparse.Namespace) -> int:
    # Beam logs a lot, already when it is imported; what matters is told in sentences.
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with extra("bulk", "colorgan bulk"):
            from colorgan_jax.commands.bulk_run import run
        return run(options)
    finally:
        logging.disable(before)
