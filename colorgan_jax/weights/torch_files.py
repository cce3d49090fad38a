"""Tensors in files of `torch.save`, read without PyTorch, and without trusting the files.

Such a file describes its tensors in a pickle. A pickle is a program, which can run anything
and take any amount of memory, so it is not unpickled: the few instructions that a dictionary
of tensors takes are followed here one by one, and a file with any other is refused. What a
file makes this module read and keep is bounded by the size of the file.
"""

import contextlib
import io
import math
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from colorgan_jax.errors import ParamsError

# A state dict of a thousand tensors is described in a fifth of this.
_MOST_DESCRIPTION = 2**20
# The list of files in an archive takes twenty times as much memory as it has bytes.
_MOST_AT_ONCE = 2**22
_MOST_DIMENSIONS = 8

# What a pickle may name.
_DICTIONARY = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_DTYPES = {
    "torch DoubleStorage": np.dtype("<f8"),
    "torch FloatStorage": np.dtype("<f4"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype("<i8"),
}

_PICKLE = "/data.pkl"
_ZIP_START = b"PK\3\4"
# Before PyTorch 1.6: a pickle of a number that stands for the format.
_LEGACY_START = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_HOW_TO_SAVE = "save the weights alone with torch.save(net.state_dict(), FILE)."


class _Storage(NamedTuple):
    """Numbers in a file, and by which key it has them."""

    key: str
    dtype: np.dtype
    length: int

    @property
    def size(self) -> int:
        return self.length * self.dtype.itemsize


class _View(NamedTuple):
    """A tensor: what it shows of a storage, counted in numbers of the storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class TorchFile:
    """The dictionary of tensors in an open file.

    Attributes:
      shapes: name -> shape.
    """

    shapes: Mapping[str, tuple[int, ...]]

    def __init__(
        self, views: Mapping[str, _View], read_storage: Callable[[_Storage], bytes]
    ):
        self.shapes = {name: view.shape for name, view in views.items()}
        self._views = views
        self._read_storage = read_storage

    def read(self, name: str) -> np.ndarray:
        """A tensor, of the type that it was saved in; not to be written to.

        Raises:
          ParamsError: the file is damaged.
        """
        storage, offset, shape, strides = self._views[name]
        with _refusing_damage():
            return np.ndarray(
                shape,
                storage.dtype,
                self._read_storage(storage),
                offset * storage.dtype.itemsize,
                [stride * storage.dtype.itemsize for stride in strides],
            )


@contextlib.contextmanager
def open_torch_file(path: str | os.PathLike) -> Iterator[TorchFile]:
    """Opens what `torch.save` wrote of a state dict, in either of its two formats.

    Args:
      path: the file.

    Yields:
      Its tensors, to be read while the file is open.

    Raises:
      ParamsError: if there is no such file, or it is damaged or holds anything else than
        a dictionary of tensors, or one is raised within: it names the file.
    """
    path = Path(path)
    try:
        if not path.is_file():
            missing = "is not a file" if path.exists() else "does not exist"
            raise ParamsError(f"it {missing}.")
        with _ShortReads(path) as file:
            with _refusing_damage():
                head = file.read(_MOST_DESCRIPTION)
                if head.startswith(_ZIP_START):
                    torch_file = _open_archive(file)
                elif head.startswith(_LEGACY_START):
                    torch_file = _open_legacy(file, io.BytesIO(head))
                else:
                    raise ParamsError("it is not a file of torch.save.")
            yield torch_file
    except ParamsError as error:
        raise ParamsError(f"{path} cannot be used: {error}") from error
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}.") from error


class _ShortReads(io.FileIO):
    """A file of which little is read at once: what asks for more is damaged."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = _MOST_AT_ONCE + 1
        part = super().read(most if size is None or size < 0 else min(size, most))
        if len(part) == most:
            raise ValueError("a part of it is too long")
        return part


@contextlib.contextmanager
def _refusing_damage() -> Iterator[None]:
    """Turns what comes of reading a damaged file into a sentence."""
    try:
        yield
    except ParamsError:
        raise
    except (
        zipfile.BadZipFile,
        struct.error,
        ArithmeticError,
        EOFError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ParamsError("it is damaged or incomplete.") from error


def _open_archive(file: io.FileIO) -> TorchFile:
    """The format since PyTorch 1.6: a zip archive that compresses nothing.

    `data.pkl` describes the tensors, and `data/KEY` are the storages, all in one folder.
    """
    archive = zipfile.ZipFile(file)
    members = {member.filename: member for member in archive.infolist()}
    if len(members) < len(archive.infolist()):
        raise ValueError("a name is there twice")
    folders = [name.removesuffix(_PICKLE) for name in members if name.endswith(_PICKLE)]
    if len(folders) != 1:
        raise ParamsError("it is a zip archive, but not one of torch.save.")
    folder = folders[0]

    def read(name: str, most: int) -> bytes:
        member = members[f"{folder}/{name}"]
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > most:
            raise ValueError(f"{name} is compressed or too long")
        # To its end, where its checksum is compared.
        with archive.open(member) as stream:
            return b"".join(iter(lambda: stream.read(_MOST_AT_ONCE), b""))

    if f"{folder}/byteorder" in members and read("byteorder", 6) != b"little":
        raise ParamsError("it is from a big-endian computer; save it on another one.")
    storages: dict[str, _Storage] = {}
    description = io.BytesIO(read("data.pkl", _MOST_DESCRIPTION))
    views = _tensors(_follow(description, storages), file)
    for key, storage in storages.items():
        if members[f"{folder}/data/{key}"].file_size != storage.size:
            raise ValueError(f"{key} is of another size")
    return TorchFile(views, lambda storage: read(f"data/{storage.key}", storage.size))


def _open_legacy(file: io.FileIO, start: io.BytesIO) -> TorchFile:
    """The format before PyTorch 1.6: five pickles, then the storages.

    Three pickles describe the format, a fourth the tensors, and a fifth lists the keys of
    the storages, which follow in that order, each behind its length.
    """
    storages: dict[str, _Storage] = {}
    _, _, system, tensors, keys = (_follow(start, storages) for _ in range(5))
    if system["little_endian"] is not True:
        raise ParamsError("it is from a big-endian computer; save it on another one.")
    views = _tensors(tensors, file)
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise TypeError("no list of names")
    places = {}
    place = start.tell()
    for key in keys:
        places[key] = place + 8
        place += 8 + storages[key].size
    if len(places) != len(storages) or place != file.seek(0, os.SEEK_END):
        raise ValueError("it is too short or too long")

    def read(storage: _Storage) -> bytes:
        file.seek(places[storage.key] - 8)
        if file.read(8) != struct.pack("<q", storage.length):
            raise ValueError("a storage is of another length")
        parts = (
            file.read(min(_MOST_AT_ONCE, storage.size - begin))
            for begin in range(0, storage.size, _MOST_AT_ONCE)
        )
        return b"".join(parts)

    return TorchFile(views, read)


def _tensors(described: Any, file: io.FileIO) -> dict[str, _View]:
    """A dictionary of nothing but tensors that the file has the room for."""
    if not isinstance(described, dict):
        raise ParamsError(f"it does not hold a dictionary of tensors; {_HOW_TO_SAVE}")
    for name, value in described.items():
        if not isinstance(value, _View):
            raise ParamsError(
                f"its entry {printed(name)} is not a tensor; {_HOW_TO_SAVE}"
            )
    size = sum(view.storage.size for view in described.values())
    if size > file.seek(0, os.SEEK_END):
        raise ValueError("it is shorter than what it describes")
    return described


def printed(name: str) -> str:
    """A name from a file as part of a sentence: short and without control characters."""
    return ascii(name[:100])[1:-1]


def _follow(pickle: io.BytesIO, storages: dict[str, _Storage]) -> Any:
    """Follows a pickle that describes tensors.

    Args:
      pickle: stands at its first byte, and behind its last one thereafter.
      storages: key -> storage; those that the pickle names are added.

    Returns:
      The value: dictionaries, lists, tuples, numbers and strings, and tensors as `_View`.

    Raises:
      ParamsError: it does something else.
      ValueError: it is damaged; any other exception that an operation on values of wrong
        types has, too.
    """
    stack: list[Any] = []
    marks: list[int] = []
    kept: dict[Any, Any] = {}

    def pop(count: int) -> list[Any]:
        """The last values on the stack."""
        if count > len(stack):
            raise ValueError("a value is missing")
        first = len(stack) - count
        values = stack[first:]
        del stack[first:]
        return values

    def pop_marked() -> list[Any]:
        """All values since the last mark."""
        return pop(max(0, len(stack) - marks.pop()))

    for instruction, argument, _ in pickletools.genops(pickle):
        match instruction.name:
            case "PROTO":
                pass
            case "STOP":
                (value,) = stack
                return value
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                kept[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(kept[argument])
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(instruction.name == "NEWTRUE")
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINUNICODE":
                stack.append(argument)
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(pop(int(instruction.name[-1]))))
            case "TUPLE":
                stack.append(tuple(pop_marked()))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                _extend(pop(1), stack[-1])
            case "APPENDS":
                _extend(pop_marked(), stack[-1])
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                _set_items(pop(2), stack[-1])
            case "SETITEMS":
                _set_items(pop_marked(), stack[-1])
            case "BUILD":
                pop(1)  # Attributes of a dictionary: versions of modules.
            case "GLOBAL":
                stack.append(_known(argument))
            case "BINPERSID":
                (description,) = pop(1)
                storage = _storage(*description)
                if storages.setdefault(storage.key, storage) != storage:
                    raise ValueError("a storage is described in two ways")
                stack.append(storage)
            case "REDUCE":
                function, arguments = pop(2)
                if function == _DICTIONARY and arguments == ():
                    stack.append({})
                elif function == _TENSOR:
                    stack.append(_view(*arguments))
                else:
                    raise ValueError("another call")
            case _:
                raise ParamsError(
                    "it holds something else than tensors, or is damaged;"
                    f" {_HOW_TO_SAVE}"
                )
    raise ValueError("it does not end")


def _known(name: Any) -> str:
    """A name, "module object", that a pickle of tensors may name."""
    if name not in (_DICTIONARY, _TENSOR, *_DTYPES):
        raise ParamsError(
            f"it holds {printed(name.replace(' ', '.'))}, a Python object that could run"
            f" anything; {_HOW_TO_SAVE}"
        )
    return name


def _extend(values: list[Any], target: Any) -> None:
    target += values  # A TypeError, but for a list.


def _set_items(items: list[Any], target: Any) -> None:
    for name, value in zip(items[::2], items[1::2], strict=True):
        # An optimizer numbers its state. As strings, since a file cannot choose their
        # hashes, which takes hours where they are equal; nor are those of tuples taken.
        name = str(name) if type(name) is int else name
        if type(name) is not str or name in target:
            raise ValueError("a name is no string, or is there twice")
        target[name] = value


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _storage(
    kind: Any, dtype: Any, key: Any, device: Any, length: Any, view: Any = None
) -> _Storage:
    """Checks how a pickle describes a storage."""
    if not (type(dtype) is type(key) is str and _is_count(length) and view is None):
        raise ValueError("no storage")
    return _Storage(key, _DTYPES[dtype], length)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _View:
    """Checks how a pickle describes a tensor; of gradients nothing is needed."""
    if not (
        type(storage) is _Storage
        and type(shape) is type(strides) is tuple
        and len(shape) == len(strides) <= _MOST_DIMENSIONS
        and all(map(_is_count, (offset, *shape, *strides)))
        and math.prod(shape) <= storage.length
    ):
        raise ValueError("no tensor")
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if 0 in shape or offset + last >= storage.length:
        raise ValueError("a tensor leaves its storage")
    return _View(storage, offset, shape, strides)
