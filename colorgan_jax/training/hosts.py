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

from colorgan_jax.errors import TrainingError

# A host that is silent for so long is taken for lost, and the others end.
SILENCE_SECONDS = 60


def join(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other hosts of a job, before JAX is used for anything else.

    Args:
      coordinator_address: "HOST:PORT" of the first host. What is None is found out from
        the platform, where it is one of those that `jax.distributed.initialize` knows.
      num_processes: how many hosts there are.
      process_id: which of them this is.

    Raises:
      TrainingError: if the hosts do not find each other.
    """
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=SILENCE_SECONDS,
            shutdown_timeout_seconds=SILENCE_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise TrainingError(
            f"--multihost: the hosts of the job did not find each other ({error}): where"
            " the platform does not say who they are, give each of them"
            " --coordinator_address=HOST:PORT, --num_processes and --process_id."
        ) from error


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
