"""Options that several commands share."""

import argparse
from pathlib import Path

from colorgan_jax.inference import RELEASED_PARAMS


def add_params_option(parser: argparse.ArgumentParser) -> None:
    """Adds --params: which generator to use."""
    parser.add_argument(
        "--params",
        default=RELEASED_PARAMS,
        type=Path,
        metavar="PATH",
        help="the work directory of a training run, or its params.safetensors (default:"
        " the ones that come with colorgan_jax)",
    )
