"""What a command needs beyond the core that colorizes photos."""

import contextlib
from collections.abc import Iterator

from colorgan_jax.errors import MissingPackageError


@contextlib.contextmanager
def extra(name: str, command: str) -> Iterator[None]:
    """Turns a failed import of an optional package into a sentence that says what to do.

    Args:
      name: of the extra in pyproject.toml that brings the package.
      command: that needs it.

    Raises:
      MissingPackageError: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("colorgan_jax"):
            raise  # A defect, no missing package.
        raise MissingPackageError(
            f"{command} needs the package {error.name}, which is not installed: pip"
            f" install 'colorgan_jax[{name}]'"
        ) from error
