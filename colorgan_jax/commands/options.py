"""Options that several commands share."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from colorgan_jax.params import RELEASED
from colorgan_jax.paths import is_on_this_machine
from colorgan_jax.photos import DEFAULT_QUALITY

# What formats of results are called by users, and by Pillow.
RESULT_FORMATS = {"tiff": "TIFF", "png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_OTHER_NAMES = {"tif": "tiff", "jpg": "jpeg"}

_MAXIMUM_SATURATION = 10.0


def add_params_option(parser: argparse.ArgumentParser) -> None:
    """Adds --params: the weights to use."""
    parser.add_argument(
        "--params",
        default=RELEASED,
        metavar="PATH",
        help="weights: the work directory of a training run, its params.safetensors,"
        " either of this machine or gs://BUCKET/NAME, or hf://OWNER/NAME on the Hugging"
        " Face Hub (default: %(default)s, those that come with the package)",
    )


def add_saturation_option(parser: argparse.ArgumentParser) -> None:
    """Adds --saturation: how strong the colors are."""
    parser.add_argument(
        "--saturation",
        default=1.0,
        type=number(float, 0, _MAXIMUM_SATURATION),
        metavar="FACTOR",
        help="factor on the colors: above 1 stronger, below 1 weaker (default:"
        " %(default)s)",
    )


def add_reference_option(parser: argparse.ArgumentParser) -> None:
    """Adds --reference: a photo whose colors are taken over."""
    parser.add_argument(
        "--reference",
        type=local_path,
        metavar="PHOTO",
        help="a color photo of the same place or subject, whose colors are taken over"
        " where it looks alike (docs/hints.md)",
    )


def add_provenance_option(parser: argparse.ArgumentParser) -> None:
    """Adds --no-provenance: the result does not say what it is."""
    parser.add_argument(
        "--no-provenance",
        action="store_true",
        help="do not write into a result that its colors are generated",
    )


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Adds what results are like: --format, --quality and so on."""
    parser.add_argument(
        "--format",
        choices=RESULT_FORMATS,
        type=_format_name,
        help="of the results (default: that of each photo, or PNG or TIFF where it is"
        " not written)",
    )
    parser.add_argument(
        "--quality",
        type=number(int, 1, 100),
        metavar="NUMBER",
        help="of JPEG, AVIF and lossy WebP, from 1 to 100 (default:"
        f" {DEFAULT_QUALITY})",
    )
    parser.add_argument(
        "--side-by-side",
        action="store_true",
        help="put the photo in gray to the left of the result",
    )
    add_provenance_option(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="colorize all photos anew and replace older files; a photo that is"
        " colorized is not replaced",
    )


def _format_name(word: str) -> str:
    name = word.lower()
    return _OTHER_NAMES.get(name, name)


def add_address_options(parser: argparse.ArgumentParser, *, people: str) -> None:
    """Adds --host and --port: where to serve to these people."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help=f"address to serve at; 0.0.0.0 lets {people} on the same network in"
        " (default: %(default)s, this computer only)",
    )
    parser.add_argument(
        "--port",
        default=8000,
        type=number(int, 0, 65535),
        metavar="N",
        help="port to serve at; 0 picks a free one (default: %(default)s)",
    )


def local_path(word: str) -> Path:
    """The `type` of an option that takes a file or folder of this machine."""
    if not is_on_this_machine(word):
        raise argparse.ArgumentTypeError(
            f"{word} is not on this machine; name a file or folder that is."
        )
    return Path(word)


def number(
    kind: type, lowest: float = -math.inf, highest: float = math.inf
) -> Callable[[str], float]:
    """The `type` of an option that takes a number.

    Args:
      kind: int or float.
      lowest: the least number that is allowed.
      highest: the greatest number that is allowed.

    Returns:
      A function that reads a word, or refuses it in a sentence.
    """
    expected = "a whole number" if kind is int else "a number"
    if math.isfinite(highest):
        expected += f" from {lowest:g} to {highest:g}"
    elif math.isfinite(lowest):
        expected += f" of at least {lowest:g}"

    def read(word: str) -> float:
        try:
            value = kind(word)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest:  # NaN is never within.
            raise argparse.ArgumentTypeError(f"{word} is not {expected}.")
        return value

    return read
