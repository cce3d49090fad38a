"""Several hosts that train one model together: who does what, and how they agree.

Each host puts its own rows of a batch onto its devices, in the order of hosts. A photo is
always in the same row: photo i in row i modulo the batch size. So a host reads and keeps
the photos of its rows only, and what is in a batch does not depend on how many hosts and
devices share it.
"""

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh


def mesh_of_all_devices() -> Mesh:
    """All devices of all hosts in one row, "batch", those of a host side by side."""
    devices = sorted(
        jax.devices(), key=lambda device: (device.process_index, device.id)
    )
    return Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))


def rows_of_this_host(batch_size: int) -> slice:
    """The rows of a global batch that go to this host's devices.

    Args:
      batch_size: of the global batch; a multiple of the number of devices.
    """
    rows = batch_size // jax.device_count()
    before = sum(device.process_index < jax.process_index() for device in jax.devices())
    return slice(rows * before, rows * (before + jax.local_device_count()))


def positions_in_rows(count: int, batch_size: int, rows: slice) -> np.ndarray:
    """Which of `count` photos are in some rows of the batches, in ascending order."""
    row = np.arange(count) % batch_size
    return np.flatnonzero((rows.start <= row) & (row < rows.stop))


def gather(value: Any) -> list[Any]:
    """What each host gives, in the order of hosts; all must call it, and get the same.

    Args:
      value: what JSON can hold.
    """
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array(len(content)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(content)] = content
    contents = multihost_utils.process_allgather(padded)
    return [
        json.loads(content[:length].tobytes())
        for content, length in zip(contents, lengths, strict=True)
    ]
