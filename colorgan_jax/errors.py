"""What users can mend: each message is one sentence that says what is wrong and what to do.

Entry points catch `ColorganError` and print its message; any other exception is a defect
of this package. Kinds that stand for a wrong argument are a `ValueError` as well.
"""

import sys


class ColorganError(Exception):
    """The base of all errors of this package whose message is meant for users."""


class PathError(ColorganError, ValueError):
    """A name of a file or folder that is in no place which this package can reach."""


class PhotoError(ColorganError, ValueError):
    """A photo file or folder that cannot be used."""


class OutputError(PhotoError):
    """A result cannot be written (full disk, no permission): neither could the next."""


class VideoError(ColorganError, ValueError):
    """A film that cannot be read or written."""


class HintsError(ColorganError, ValueError):
    """Hints, or a file of them, that cannot be used."""


class ParamsError(ColorganError, ValueError):
    """Parameters that are not a generator's, or a file that does not hold any."""


class MissingPackageError(ColorganError, ImportError):
    """An optional package is not installed: says how to install it."""


class DataError(ColorganError, ValueError):
    """The photos that a training run asks for cannot be had."""


class TrainingError(ColorganError, ValueError):
    """A training run cannot start or go on."""


class NonFiniteError(ColorganError, ArithmeticError):
    """A loss or gradient is no longer a finite number: names it and the step."""


class CheckpointError(ColorganError, RuntimeError):
    """A checkpoint cannot be written, read or used."""


class EvaluationError(ColorganError, ValueError):
    """There is nothing to score."""


class SurveyError(ColorganError, ValueError):
    """A survey cannot be opened, served or analyzed."""


class CommandError(ColorganError):
    """A command cannot go on."""


def print_error(error: Exception | str) -> None:
    """Prints a sentence where errors go."""
    print(f"error: {error}", file=sys.stderr)


def print_note(note: str) -> None:
    """Prints a sentence of which a user may want to know, where errors go."""
    print(f"note: {note}", file=sys.stderr)
