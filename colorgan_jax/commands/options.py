"""Options that several commands share."""

import argparse
import math
from pathlib import Path

from colorgan_jax.params import RELEASED_PARAMS

_MAXIMUM_SATURATION = 10.0


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


def add_saturation_option(parser: argparse.ArgumentParser) -> None:
    """Adds --saturation: how strong the colors are, beside what the generator says."""
    parser.add_argument(
        "--saturation",
        default=1.0,
        type=_saturation,
        metavar="FACTOR",
        help="makes the colors so much stronger, or, below 1, weaker (default:"
        " %(default)s)",
    )


def _saturation(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _MAXIMUM_SATURATION:
        raise argparse.ArgumentTypeError(
            f"{word} is not a number from 0 to {_MAXIMUM_SATURATION:g}."
        )
    return value
