"""Files that appear whole or not at all, on this machine or in a bucket, and their names.

A name that begins with gs:// is of an object in a bucket of Google Cloud Storage, or of a
folder of them, which is there as long as an object below it is. Its path is one of
etils.epath; gcsfs reads and writes it. Both are optional, and needed for such names only.
"""

import contextlib
import errno
import io
import logging
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

from colorgan_jax.errors import MissingPackageError, PathError

if TYPE_CHECKING:
    AnyPath = Path
else:
    # The paths of etils.epath have the methods of `Path`, but are no `Path`.
    AnyPath = PurePath

_BUCKETS = "gs://"

# Not the drive of Windows: it has one letter.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


class UnfinishedFile:
    """A file that is being written, until it gets its name or is thrown away.

    Used in a `with` statement: what has no name at its end is deleted.

    Attributes:
      stream: where to write, open for reading, too.
    """

    stream: io.BufferedRandom

    def __init__(self, folder: str | os.PathLike):
        """`folder` is where the file will be, so that naming it is a rename and no copy."""
        self._path = Path(folder) / f".{uuid.uuid4().hex}.partial"

    def __enter__(self) -> "UnfinishedFile":
        self.stream = open(self._path, "w+b")
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.stream.close()  # Fails where what is left to write finds no room.
        finally:
            self._path.unlink(missing_ok=True)

    def status(self) -> os.stat_result:
        """Size and times of the file, as they will be under its name."""
        self.stream.flush()
        return os.stat(self._path)

    def create(self, path: str | os.PathLike) -> None:
        """Names the file.

        Raises:
          FileExistsError: there is a file of that name, or a link; it stays as it is.
          OSError: the file cannot be written.
        """
        self.stream.close()
        try:
            os.link(self._path, path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without links, such as FAT: an empty file holds the place.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            try:
                os.replace(self._path, path)
            except OSError:
                os.unlink(path)
                raise

    def replace(self, path: str | os.PathLike) -> None:
        """Names the file, in place of an older one if there is one.

        Raises:
          OSError: the file cannot be written.
        """
        self.stream.close()
        os.replace(self._path, path)


def is_on_this_machine(name: str | os.PathLike) -> bool:
    """Whether a name is a path of this machine, and none such as gs://BUCKET/NAME."""
    return _SCHEME.match(os.fspath(name)) is None


def user_path(name: str | os.PathLike) -> AnyPath:
    """The path that a user means: on this machine, or in a bucket.

    Args:
      name: a path of this machine or gs://BUCKET/... (the text itself: a `Path` would lose
        a slash).

    Raises:
      MissingPackageError: a name in a bucket needs the packages of the extra `gcs`.
      PathError: it is a name elsewhere.
    """
    text = os.fspath(name)
    if is_on_this_machine(text):
        return Path(text)
    if not in_bucket(text):
        raise PathError(
            f"{text} cannot be reached from here: name a folder or file of this machine, or"
            f" {_BUCKETS}BUCKET/NAME; other buckets can be mounted as a folder (SkyPilot's"
            " file_mounts with mode: MOUNT)."
        )
    try:
        import gcsfs  # noqa: F401  # Not at the top: optional, as is the next.
        from etils import epath
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"{text} needs the package {error.name}, which is not installed: pip install"
            " 'colorgan_jax[gcs]'"
        ) from error
    return cast(Path, epath.Path(text))


def in_bucket(path: str | os.PathLike) -> bool:
    """Whether a path is of a bucket, and not of this machine."""
    return os.fspath(path).startswith(_BUCKETS)


def set_up_buckets() -> None:
    """Lets all that a program does with buckets go through gcsfs, and quietly.

    For programs only, before they use a bucket: it changes the environment and loggers of
    the whole process.
    """
    # Otherwise etils.epath, by which Orbax lists and deletes, takes TensorFlow's own client
    # where TensorFlow is installed.
    os.environ.setdefault("EPATH_USE_TF", "false")
    # Checkpoints are written by TensorStore, of whose files gcsfs would not learn.
    os.environ.setdefault("FSSPEC_GCS", '{"use_listings_cache": false}')
    # Whatever goes wrong is raised, in one sentence.
    for name in ("gcsfs", "fsspec"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def read_file(path: AnyPath) -> bytes:
    """The content of a file.

    Raises:
      OSError: if it cannot be read; a `FileNotFoundError` if it is not there.
    """
    if not in_bucket(path):
        return path.read_bytes()
    with _as_os_errors(path):
        return _buckets().cat_file(os.fspath(path))


def is_file(path: AnyPath) -> bool:
    """Whether there is a file, or an object, of that very name.

    Raises:
      OSError: if a bucket cannot be asked.
    """
    if not in_bucket(path):
        return path.is_file()
    try:
        with _as_os_errors(path):
            return _buckets().info(os.fspath(path))["type"] == "file"
    except FileNotFoundError:
        return False


def list_bucket(folder: AnyPath) -> list[str]:
    """Lists what is below a folder in a bucket, at any depth, in one go.

    Returns:
      The names of the objects, each without that of the folder and the slash after it.

    Raises:
      OSError: if the bucket cannot be asked, or there is none.
    """
    prefix = os.fspath(folder).removeprefix(_BUCKETS).rstrip("/") + "/"
    with _as_os_errors(folder):
        found = _buckets().find(os.fspath(folder))
    # A name that ends with a slash is how other programs mark a folder.
    return [
        name.removeprefix(prefix)
        for name in found
        if name.startswith(prefix) and not name.endswith("/")
    ]


def make_folder(path: AnyPath) -> None:
    """Makes a folder and those that it is in, where they are missing; buckets need none.

    Raises:
      OSError: if that cannot be done.
    """
    if not in_bucket(path):
        path.mkdir(parents=True, exist_ok=True)


def _buckets() -> Any:
    """Google Cloud Storage, as it is at each moment: what was listed is not remembered."""
    import fsspec  # Not at the top: it comes with gcsfs.

    return fsspec.filesystem("gs", use_listings_cache=False)


@contextlib.contextmanager
def _as_os_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns whatever a bucket's client raises into what a file system would."""
    # That is almost anything: of HTTP libraries, of Google's, of fsspec.
    try:
        yield
    except FileNotFoundError as error:
        reason = "There is no such object or bucket"
        raise FileNotFoundError(errno.ENOENT, reason, os.fspath(path)) from error
    except Exception as error:
        # The message of the service comes after a line with its address.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1].rstrip(".")
        if getattr(error, "code", None) == 401:
            reason += "; to log in: gcloud auth application-default login"
        raise OSError(errno.EIO, reason, os.fspath(path)) from error


def replace_file(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Writes a file such that a kill or a full disk leaves the old one, or none.

    Args:
      path: the file; its folder must exist. An object in a bucket needs none.
      content: what it will hold.

    Raises:
      OSError: if it cannot be written.
    """
    if in_bucket(path):
        with _as_os_errors(path):
            # An object appears when all of it has arrived.
            _buckets().pipe_file(os.fspath(path), bytes(content))
        return
    with UnfinishedFile(Path(path).parent) as file:
        file.stream.write(content)
        file.replace(path)


def printable(text: str) -> str:
    r"""Escapes what UTF-8 cannot hold: a file name need not be Unicode.

    Returns:
      The same text, but for bytes of a name that are no UTF-8: \udcfc in place of 0xFC.
    """
    return text.encode(errors="backslashreplace").decode()
