"""Files that appear whole or not at all, and names that any file can hold."""

import io
import os
import uuid
from pathlib import Path


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


def replace_file(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Writes a file such that a kill or a full disk leaves the old one, or none.

    Args:
      path: the file; its folder must exist.
      content: what it will hold.

    Raises:
      OSError: if it cannot be written.
    """
    with UnfinishedFile(Path(path).parent) as file:
        file.stream.write(content)
        file.replace(path)


def printable(text: str) -> str:
    r"""Escapes what UTF-8 cannot hold: a file name need not be Unicode.

    Returns:
      The same text, but for bytes of a name that are no UTF-8: \udcfc in place of 0xFC.
    """
    return text.encode(errors="backslashreplace").decode()
