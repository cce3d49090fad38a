"""The command line: `colorgan COMMAND ...`, or `python -m colorgan_jax COMMAND ...`."""

import argparse
import gc
import io
import logging
import os
import sys
from collections.abc import Sequence

from colorgan_jax import __version__
from colorgan_jax.errors import ColorganError, print_error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
      arguments: the words after `colorgan`; by default those of the program.

    Returns:
      The exit status: 0 if all went well, 1 after an error that was printed, 2 without a
      command.

    Raises:
      SystemExit: with status 2, after usage errors, as argparse does.
    """
    # What is imported makes hundreds of thousands of objects that all stay: to look through
    # them for garbage again and again takes a tenth of the time for one photo.
    gc.disable()
    from colorgan_jax.commands import (
        bulk,
        colorize,
        evaluate,
        export,
        import_torch,
        page,
        survey,
        video,
    )
    from colorgan_jax.compilation import enable_compilation_cache
    from colorgan_jax.paths import set_up_buckets
    from colorgan_jax.photos import silence_decoders

    gc.freeze()
    gc.enable()

    parser = argparse.ArgumentParser(
        prog="colorgan", description="Color for black-and-white photos."
    )
    parser.add_argument(
        "--version", action="version", version=f"colorgan {__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command"
    )
    bulk.add_parser(commands)
    colorize.add_parser(commands)
    evaluate.add_parser(commands)
    export.add_parser(commands)
    import_torch.add_parser(commands)
    page.add_parsers(commands)
    survey.add_parser(commands)
    video.add_parser(commands)
    options, more = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help(sys.stderr)
        return 2
    if "beam_options" in options:
        options.beam_options = more
    elif more:
        # By the command's own parser, which shows its options.
        chosen = commands.choices[options.command]
        chosen.error(f"unrecognized arguments: {' '.join(more)}")

    # Without a GPU or TPU, JAX says so in a warning; users of the command know.
    logging.getLogger("jax").setLevel(logging.ERROR)
    set_up_buckets()
    silence_decoders()
    enable_compilation_cache()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name that the terminal cannot show must not end the run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = options.run(options)
        sys.stdout.flush()
        return status
    except ColorganError as error:
        print_error(error)
        return 1
    except KeyboardInterrupt:
        print_error("interrupted.")
        return 130  # what shells expect of a program ended by Ctrl-C
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. What is left to print goes nowhere,
        # or else Python would report it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what shells expect of a program ended by SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
