"""Files as `torch.save` writes them, without PyTorch: right ones, and ones that lie."""

import pickle
import zipfile

import numpy as np

_KINDS = {"float32": "FloatStorage", "int64": "LongStorage"}


def plain(value):
    """The instructions of a pickle that push a value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(
    *, key="0", length=4, offset=0, shape=(2, 2), strides=(2, 1), kind="FloatStorage"
):
    """Instructions that push a tensor."""
    storage = (
        b"(" + plain("storage") + b"ctorch\n" + kind.encode() + b"\n"
        + plain(key) + plain("cpu") + plain(length) + b"tQ"
    )  # fmt: skip
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + plain(offset)
        + plain(shape) + plain(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def dictionary(items):
    """Instructions that push a dictionary of names and instructions."""
    pairs = b"".join(plain(name) + value for name, value in items.items())
    return b"ccollections\nOrderedDict\n)R(" + pairs + b"u"


def write_archive(path, instructions, storages=(), *, compression=zipfile.ZIP_STORED):
    """Writes a file with these instructions and the bytes of the storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + instructions + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
        for key, storage in enumerate(storages):
            archive.writestr(f"archive/data/{key}", storage)
    return path


def save(path, state):
    """Writes a dictionary of arrays and of other values."""
    storages = []

    def push(value):
        if isinstance(value, dict):
            return dictionary({name: push(item) for name, item in value.items()})
        if not isinstance(value, np.ndarray):
            return plain(value)
        storages.append(value.tobytes())
        return tensor(
            key=str(len(storages) - 1),
            length=value.size,
            shape=value.shape,
            strides=tuple(stride // value.itemsize for stride in value.strides),
            kind=_KINDS[value.dtype.name],
        )

    return write_archive(path, push(state), storages)
