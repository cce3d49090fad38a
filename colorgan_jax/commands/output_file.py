"""The one file that a command writes."""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

from colorgan_jax.commands.options import local_path
from colorgan_jax.errors import CommandError


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Adds --output, the file to write, and --overwrite."""
    parser.add_argument(
        "--output",
        required=True,
        type=local_path,
        metavar="FILE",
        help="the file to write",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the file if there is one"
    )


@contextlib.contextmanager
def output_file(options: argparse.Namespace) -> Iterator[Path]:
    """Refuses, before the work, to replace a file without --overwrite.

    Args:
      options: with those of `add_output_options`.

    Yields:
      Where to write.

    Raises:
      CommandError: there is a file already, or an `OSError` within: it cannot be written.
    """
    output = options.output
    try:
        if output.exists() and not options.overwrite:
            raise CommandError(
                f"{output} is there already: --overwrite replaces it, or name another"
                " --output."
            )
        yield output
    except OSError as error:
        # Without a reason of its own it is a sentence (`save_params`).
        sentence = f"{output} cannot be written: {error.strerror}."
        raise CommandError(sentence if error.strerror else str(error)) from error
