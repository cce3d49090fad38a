"""One run at a time in a work directory."""

import contextlib
from collections.abc import Iterator

import jax

from colorgan_jax.errors import TrainingError
from colorgan_jax.paths import AnyPath, in_bucket, make_folder

try:
    import fcntl
except ImportError:  # Windows has none.
    fcntl = None

LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(workdir: AnyPath) -> Iterator[None]:
    """Keeps other runs out of a work directory, until this one ends in whatever way.

    Of several hosts the first does so for all. There is no such lock in buckets, on
    Windows, and on file systems that have none.

    Raises:
      TrainingError: another run is in it.
      OSError: it cannot be made or written.
    """
    if fcntl is None or in_bucket(workdir) or jax.process_index() != 0:
        yield
        return
    make_folder(workdir)
    with open(workdir / LOCK_FILE, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise TrainingError(
                f"Another run is writing into {workdir}: wait for its end, or choose another"
                " --workdir."
            ) from error
        except OSError:
            pass
        yield
