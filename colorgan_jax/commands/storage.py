"""Files here and in buckets, through Apache Beam's file systems.

A path of this machine is handled as everywhere else. Whatever has a scheme (gs://, s3://,
hdfs://, ...) is copied to a file of this machine before it is read, and appears under its
name, whole, after it was written here.
"""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, TypeVar

# The extra `bulk`, which is not in requirements.txt.
from apache_beam.io.filesystem import (  # pyright: ignore[reportMissingImports]
    CompressionTypes,
)
from apache_beam.io.filesystems import (  # pyright: ignore[reportMissingImports]
    FileSystems,
)

from colorgan_jax.commands.outputs import make_folder_of, output_error
from colorgan_jax.errors import OutputError, PhotoError
from colorgan_jax.paths import UnfinishedFile

Value = TypeVar("Value")


def is_local(path: str) -> bool:
    """Whether a path is one of this machine's, without a scheme."""
    return FileSystems.get_scheme(path) is None


def join(folder: str, below: PurePosixPath) -> str:
    """The path of a file below a folder."""
    if is_local(folder):
        return os.path.join(folder, *below.parts)
    return f"{folder.rstrip('/')}/{below}"


def exists(path: str) -> bool:
    """Whether there is a file, or a link that leads nowhere.

    Raises:
      PhotoError: that cannot be found out.
    """
    if is_local(path):
        return os.path.lexists(path)
    try:
        return FileSystems.exists(path)
    # Of many kinds: those of the libraries of the clouds, or one is not installed.
    except Exception as error:
        raise PhotoError(f"{path} cannot be looked for: {error}.") from error


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Gives a file of this machine that has the content of another, and its extension.

    Yields:
      The file itself, if it is of this machine; else a copy, which is deleted at the end.

    Raises:
      PhotoError: it cannot be read.
    """
    if is_local(path):
        yield Path(path)
        return
    extension = PurePosixPath(path).suffix
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, f"copy{extension}")
        try:
            with open_file(path) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target)
        # Of many kinds: those of the libraries of the clouds.
        except Exception as error:
            raise PhotoError(f"{path} cannot be opened: {error}.") from error
        yield copy


def open_file(path: str) -> BinaryIO:
    """Opens a file for reading, as it is: not decompressed, whatever its name."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def check_folder(folder: str) -> None:
    """Makes a folder for results, and finds out whether files can be written into it.

    Raises:
      OutputError: they cannot.
    """
    try:
        if is_local(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with UnfinishedFile(folder):
                return
        trial = join(folder, PurePosixPath(".colorgan-trial"))
        with FileSystems.create(trial) as file:
            file.write(b"colorgan")
        with contextlib.suppress(Exception):  # Some may write, but not delete.
            FileSystems.delete([trial])
    # Of many kinds: those of the libraries of the clouds.
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"{folder} cannot be written into: {reason}.") from error


def write_file(
    path: str,
    save: Callable[[BinaryIO], Value],
    *,
    folder: str,
    replace: bool = False,
) -> Value:
    """Writes a file that appears whole or not at all.

    Args:
      path: of the file; folders are made.
      save: writes its content.
      folder: for all results.
      replace: whether it may take the place of another.

    Returns:
      What `save` returned.

    Raises:
      FileExistsError: there is one and it may not be replaced. In a bucket one that appears
        in the moment before can be overlooked.
      PhotoError: the file cannot be written, or `save` raised it.
      OutputError: no file can be written into the folder.
    """
    if not is_local(path):
        return _upload(path, save, replace)
    make_folder_of(Path(path), Path(folder))
    try:
        with UnfinishedFile(Path(path).parent) as file:
            value = save(file.stream)
            if replace:
                file.replace(path)
            else:
                file.create(path)
            return value
    except FileExistsError:
        raise
    except OSError as error:
        raise output_error(f"{path} cannot be written", error, Path(folder)) from error


def _upload(path: str, save: Callable[[BinaryIO], Value], replace: bool) -> Value:
    with tempfile.TemporaryDirectory() as folder, UnfinishedFile(folder) as content:
        value = save(content.stream)
        content.stream.seek(0)
        if not replace and exists(path):
            raise FileExistsError(path)
        # In a store of objects nobody sees one before it is whole; elsewhere it needs a
        # name of its own until then. (Deleting and renaming take a right more in a store.)
        is_store = not FileSystems.get_filesystem(path).has_dirs()
        name = f".{uuid.uuid4().hex}.partial"
        unfinished = path if is_store else f"{path.rpartition('/')[0]}/{name}"
        try:
            with FileSystems.create(
                unfinished, compression_type=CompressionTypes.UNCOMPRESSED
            ) as target:
                shutil.copyfileobj(content.stream, target)
            if not is_store:
                FileSystems.rename([unfinished], [path])
        # Of many kinds: those of the libraries of the clouds.
        except Exception as error:
            raise OutputError(f"{path} cannot be written: {error}.") from error
    return value
