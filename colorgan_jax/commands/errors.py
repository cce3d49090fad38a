"""What the commands have in common: errors in one sentence."""

import sys


class CommandError(Exception):
    """A command that cannot go on; the message is one sentence for users."""


def print_error(error: Exception | str) -> None:
    """Prints a sentence where errors go."""
    print(f"error: {error}", file=sys.stderr)
