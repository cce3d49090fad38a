"""Files that appear whole or not at all, and names that any file can hold."""

import os
import uuid
from pathlib import Path


def replace_file(path: str | os.PathLike, content: bytes | memoryview) -> None:
    """Writes a file such that a kill or a full disk leaves the old one, or none.

    Args:
      path: the file; its folder must exist.
      content: what it will hold.

    Raises:
      OSError: if it cannot be written.
    """
    path = Path(path)
    # In the same folder, so that the last step is a rename within one file system.
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def printable(text: str) -> str:
    r"""Escapes what UTF-8 cannot hold: a file name need not be Unicode.

    Returns:
      The same text, but for bytes of a name that are no UTF-8: \udcfc in place of 0xFC.
    """
    return text.encode(errors="backslashreplace").decode()
