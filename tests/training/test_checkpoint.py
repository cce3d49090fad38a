"""Checkpoints: what is saved comes back bit by bit, and no failure loses what was saved."""

import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import struct
from flax.training.train_state import TrainState

from colorgan_jax.errors import CheckpointError
from colorgan_jax.training.checkpoint import Checkpoints


class NetworkState(TrainState):
    batch_stats: Any


class State(struct.PyTreeNode):
    network: NetworkState
    key: jax.Array
    weight: float = struct.field(pytree_node=False)

    @property
    def step(self):
        return self.network.step


def make_state(step=1, *, width=8, depth=2, dtype=jnp.float32, key=jax.random.key):
    """A state of random numbers that no two steps share, with optimizer moments."""
    random = np.random.default_rng(step)
    params = {
        f"encoder_{k}": {"kernel": jnp.asarray(random.normal(size=(4, width)), dtype)}
        for k in range(1, depth + 1)
    }
    network = NetworkState.create(
        apply_fn=len,
        params=params,
        tx=optax.adam(0.1),
        batch_stats={"mean": jnp.asarray(random.normal(size=3), jnp.float32)},
    )
    network = network.apply_gradients(grads=params).replace(step=jnp.int32(step))
    return State(network=network, key=key(step), weight=0.5)


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_identical(actual, expected):
    """The same names, types and bits. (No two optimizers are equal: not compared.)"""
    actual = jax.tree_util.tree_leaves_with_path(actual)
    expected = jax.tree_util.tree_leaves_with_path(expected)
    for (name, one), (other_name, other) in zip(actual, expected, strict=True):
        assert name == other_name
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert one.shape == other.shape
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def steps_on_disk(workdir):
    """The names of all folders in there, as numbers where they are."""
    names = os.listdir(workdir / "checkpoints")
    return {int(name) if name.isdecimal() else name for name in names}


def run_python(code, *arguments, devices=1):
    """Runs a program with this package and this file's helpers, on CPU devices."""
    root = Path(__file__).parents[2]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parent)]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey])
def test_restores_bit_by_bit(tmp_path, key):
    state = make_state(3, key=key)
    special = jnp.array([jnp.nan, -0.0, jnp.inf], jnp.float32)
    state = state.replace(network=state.network.replace(batch_stats={"mean": special}))
    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() is None
        saved.save(state)

    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() == 3
        assert_identical(saved.restore(abstract(state)), state)


def test_restores_an_earlier_step(tmp_path):
    with Checkpoints(tmp_path) as saved:
        for step in (1, 2):
            saved.save(make_state(step))
        assert_identical(saved.restore(abstract(make_state()), step=1), make_state(1))
        with pytest.raises(
            CheckpointError, match=r"checkpoints holds no checkpoint 7\."
        ):
            saved.restore(abstract(make_state()), step=7)


def test_restore_without_a_checkpoint(tmp_path):
    with (
        Checkpoints(tmp_path) as saved,
        pytest.raises(CheckpointError, match=r"checkpoints holds no checkpoint\."),
    ):
        saved.restore(abstract(make_state()))


def test_state_may_be_overwritten_as_soon_as_save_returns(tmp_path):
    """Writing 64 MiB takes much longer than overwriting it."""

    @functools.partial(jax.jit, donate_argnums=0)
    def overwrite(state):
        return jax.tree.map(jnp.zeros_like, state)

    def large_state(step):
        values = jax.random.normal(jax.random.key(step), (4096, 4096))
        network = TrainState.create(apply_fn=len, params=values, tx=optax.identity())
        return network.replace(step=jnp.int32(step))

    overwrite(large_state(0))  # Compiles.
    state = large_state(1)
    expected = np.array(state.params)
    with Checkpoints(tmp_path) as saved:
        saved.save(state)
        for _ in range(3):
            state = overwrite(state)
        jax.block_until_ready(state)
        restored = saved.restore(abstract(state))
    np.testing.assert_array_equal(restored.params, expected)


def test_keeps_the_newest_and_the_best(tmp_path):
    psnr = {2: 24.0, 4: np.float32(23.0), 5: float("nan")}
    with Checkpoints(tmp_path, newest=2) as saved:
        for step in range(1, 8):
            saved.save(make_state(step), validation_psnr=psnr.get(step))
        assert saved.best_step() == 2
    assert steps_on_disk(tmp_path) == {2, 6, 7}

    # A resumed run remembers which was the best, until there is a better one.
    with Checkpoints(tmp_path, newest=2) as saved:
        saved.save(make_state(8))
        saved.save(make_state(9), validation_psnr=23.5)
        saved.wait()
        assert steps_on_disk(tmp_path) == {2, 8, 9}
        saved.save(make_state(10), validation_psnr=24.5)
    assert steps_on_disk(tmp_path) == {9, 10}


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="newest is 0"):
        Checkpoints(tmp_path, newest=0)


def test_saving_a_step_again_does_nothing(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(make_state(5))
        saved.save(make_state(5))  # While the first is being written,
        saved.wait()
        saved.save(make_state(5))  # and after it.
    with Checkpoints(tmp_path) as saved:
        saved.save(make_state(5))
        assert_identical(saved.restore(abstract(make_state())), make_state(5))


def test_an_exception_does_not_cut_a_checkpoint_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as saved:
        saved.save(make_state(1))
        raise KeyboardInterrupt
    with Checkpoints(tmp_path) as saved:
        assert_identical(saved.restore(abstract(make_state())), make_state(1))


KILLED_WHILE_WRITING = """
import os, signal, sys, time
from pathlib import Path
import jax.numpy as jnp, numpy as np
from colorgan_jax.training.checkpoint import Checkpoints
from test_checkpoint import make_state

saved = Checkpoints(sys.argv[1])
saved.save(make_state(1))
saved.wait()
large = jnp.asarray(np.random.default_rng(0).random((4096, 4096), np.float32))
state = make_state(2)
saved.save(state.replace(network=state.network.replace(batch_stats=large)))
while len(os.listdir(Path(sys.argv[1]) / "checkpoints")) == 1:
    time.sleep(0.001)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_while_writing(tmp_path):
    run_python(KILLED_WHILE_WRITING, tmp_path)
    (unfinished,) = steps_on_disk(tmp_path) - {1}
    assert unfinished != 2

    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() == 1
        assert_identical(saved.restore(abstract(make_state())), make_state(1))
        saved.save(make_state(3))
    assert steps_on_disk(tmp_path) == {1, 3}


KILLED_WHILE_DELETING = """
import os, signal, sys
from colorgan_jax.training.checkpoint import Checkpoints
from test_checkpoint import make_state

unlink = os.unlink

def unlink_and_end(path, **arguments):
    unlink(path, **arguments)
    if os.path.basename(path) == "_CHECKPOINT_METADATA":
        os.kill(os.getpid(), signal.SIGKILL)

os.unlink = unlink_and_end
saved = Checkpoints(sys.argv[1])
for step in (1, 2, 3):
    saved.save(make_state(step))
saved.wait()
"""


def test_killed_while_deleting(tmp_path, caplog):
    assert run_python(KILLED_WHILE_DELETING, tmp_path).returncode == -signal.SIGKILL
    with Checkpoints(tmp_path) as saved:
        assert_identical(saved.restore(abstract(make_state())), make_state(3))
    assert steps_on_disk(tmp_path) == {2, 3}
    assert "damaged" not in caplog.text


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (
            {"width": 16},
            "encoder_1.kernel is float32[4, 8] there and float32[4, 16] here",
        ),
        ({"depth": 3}, "encoder_3.kernel is missing there and float32[4, 8] here"),
        ({"depth": 1}, "encoder_2.kernel is float32[4, 8] there and missing here"),
        (
            {"dtype": jnp.bfloat16},
            "encoder_1.kernel is float32[4, 8] there and bfloat16[4, 8] here",
        ),
    ],
)
def test_another_architecture_is_refused_by_name(tmp_path, other, difference):
    with Checkpoints(tmp_path) as saved:
        saved.save(make_state(1))
        with pytest.raises(CheckpointError) as error:
            saved.restore(abstract(make_state(**other)))
    message = str(error.value)
    assert f"network.params.{difference}" in message
    assert str(tmp_path / "checkpoints" / "1") in message
    assert "--workdir" in message


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("two")
    with Checkpoints(workdir) as saved:
        for step in (1, 2):
            saved.save(make_state(step, width=4096), validation_psnr=20.0 + step)
    return workdir


def files_of_newest(workdir):
    folder = workdir / "checkpoints" / "2"
    return sorted(file for file in folder.rglob("*") if file.is_file())


def truncate(file, kept):
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])


@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_truncated_checkpoint_is_set_aside_for_the_one_before(
    two_checkpoints, tmp_path, caplog, kept
):
    files = files_of_newest(two_checkpoints)
    largest = max(files, key=lambda file: file.stat().st_size)
    for number in range(len(files)):
        workdir = shutil.copytree(two_checkpoints, tmp_path / str(number))
        file = files_of_newest(workdir)[number]
        truncate(file, kept)
        caplog.clear()
        with Checkpoints(workdir) as saved:
            state = saved.restore(abstract(make_state(width=4096)))
            if int(state.step) == 1:
                saved.save(make_state(2, width=4096))
                saved.save(make_state(3, width=4096))
        # Not all of what Orbax writes is needed to read the arrays; the arrays are.
        assert_identical(state, make_state(int(state.step), width=4096))
        assert file.name != largest.name or int(state.step) == 1
        if int(state.step) == 1:
            (line,) = (line for line in caplog.messages if "is damaged_2 now" in line)
            assert str(workdir / "checkpoints" / "2") in line
            assert len(line) < len(str(workdir)) + 300
            assert steps_on_disk(workdir) == {1, 2, 3, "damaged_2"}


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_is_never_taken_for_what_was_saved(
    two_checkpoints, tmp_path, seed
):
    random = np.random.default_rng(seed)
    for number in range(len(files_of_newest(two_checkpoints))):
        workdir = shutil.copytree(two_checkpoints, tmp_path / str(number))
        file = files_of_newest(workdir)[number]
        content = bytearray(file.read_bytes())
        if not content:
            continue
        content[random.integers(len(content))] ^= 1 << random.integers(8)
        file.write_bytes(content)
        with Checkpoints(workdir) as saved:
            state = saved.restore(abstract(make_state(width=4096)))
        assert_identical(state, make_state(int(state.step), width=4096))


def test_a_bit_of_an_array_that_flips_on_the_disk_is_noticed(
    two_checkpoints, tmp_path, monkeypatch
):
    """As if the file system gave back other numbers, in a file that can be read."""
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    restore = ocp.CheckpointManager.restore

    def restore_another(self, step, args):
        state = restore(self, step, args=args)
        if step != 2:
            return state
        mean = state.network.batch_stats["mean"]
        flipped = (mean.view(jnp.uint32) ^ jnp.uint32([0, 1, 0])).view(jnp.float32)
        return state.replace(
            network=state.network.replace(batch_stats={"mean": flipped})
        )

    monkeypatch.setattr(ocp.CheckpointManager, "restore", restore_another)
    with Checkpoints(workdir) as saved:
        state = saved.restore(abstract(make_state(width=4096)))
    assert_identical(state, make_state(1, width=4096))


def test_where_all_checkpoints_are_damaged_none_is_renamed(two_checkpoints, tmp_path):
    workdir = shutil.copytree(two_checkpoints, tmp_path / "run")
    for step in ("1", "2"):
        truncate(workdir / "checkpoints" / step / "default" / "_METADATA", 0.5)
    with Checkpoints(workdir) as saved:
        with pytest.raises(CheckpointError) as error:
            saved.restore(abstract(make_state(width=4096)))
    assert str(workdir / "checkpoints" / "2") in str(error.value)
    assert len(str(error.value)) < len(str(workdir)) + 350
    assert steps_on_disk(workdir) == {1, 2}


FULL_DISK = """
import resource, sys
import numpy as np, pytest
from colorgan_jax.errors import CheckpointError
from colorgan_jax.training.checkpoint import Checkpoints, silence_orbax
from test_checkpoint import abstract, assert_identical, make_state

# A limit on the size of files stands for the full disk: the write fails midway.
silence_orbax()
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
with Checkpoints(sys.argv[1], newest=1) as saved:
    saved.save(make_state(1, width=100_000))
    saved.wait()
    for step, report in ((2, saved.wait), (3, lambda: saved.save(make_state(4)))):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            saved.save(make_state(step, width=100_000))
            with pytest.raises(CheckpointError, match=r"\\(File too large\\)") as error:
                report()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert sys.argv[1] in str(error.value)
        assert saved.latest_step() == 1
        restored = saved.restore(abstract(make_state(width=100_000)))
        assert_identical(restored, make_state(1, width=100_000))

    # There is room again.
    saved.save(make_state(5, width=100_000))
"""


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    pytest.importorskip("resource")
    finished = run_python(FULL_DISK, tmp_path)
    assert finished.returncode == 0, finished.stderr
    # Orbax and Python would report each of the arrays that were not written.
    assert finished.stderr == ""
    assert {1, 5} & steps_on_disk(tmp_path) == {5}


TWO_DEVICES = """
import sys
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from colorgan_jax.training.checkpoint import Checkpoints
from test_checkpoint import assert_identical, make_state

mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
replicated = NamedSharding(mesh, PartitionSpec())
split = NamedSharding(mesh, PartitionSpec("batch"))

def sharding(x):
    return split if x.shape and x.shape[0] % 2 == 0 else replicated

def abstract(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding(x))

with Checkpoints(sys.argv[1]) as saved:
    restored = saved.restore(jax.tree.map(abstract, make_state(1)))
    jax.tree.map(lambda x: np.testing.assert_equal(x.sharding, sharding(x)), restored)
    assert_identical(restored, make_state(1))
    saved.save(jax.tree.map(lambda x: jax.device_put(x, sharding(x)), make_state(2)))
"""


def test_other_number_of_devices(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(make_state(1))
    finished = run_python(TWO_DEVICES, tmp_path, devices=2)
    assert finished.returncode == 0, finished.stderr
    with Checkpoints(tmp_path) as saved:
        restored = saved.restore(abstract(make_state()))
    assert_identical(restored, make_state(2))
    assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(restored))


def test_preemption_is_never_reached_on_a_single_host(tmp_path):
    with Checkpoints(tmp_path) as saved:
        assert not any(saved.reached_preemption(step) for step in range(3))


SILENT = """
import logging, sys
import absl.logging
from colorgan_jax.training.checkpoint import Checkpoints, silence_orbax
from test_checkpoint import abstract, make_state

absl.logging.set_verbosity(absl.logging.INFO)
silence_orbax()
with Checkpoints(sys.argv[1]) as saved:
    saved.save(make_state(1), validation_psnr=20.0)
    saved.save(make_state(2))
    saved.restore(abstract(make_state()))
absl.logging.info("ours")
"""


def test_orbax_can_be_silenced(tmp_path):
    finished = run_python(SILENT, tmp_path)
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line.endswith("ours")


IMPORT = """
import logging, sys
import orbax.checkpoint, absl.logging
def state():
    loggers = [absl.logging.get_absl_logger(), *map(logging.getLogger, ("asyncio", None))]
    return sys.unraisablehook, sys.excepthook, [
        (logger.level, [*logger.filters], [*logger.handlers]) for logger in loggers
    ]

before = state()
from colorgan_jax.training import checkpoint
with checkpoint.Checkpoints(sys.argv[1]):
    pass
assert state() == before
"""


def test_only_programs_silence_it(tmp_path):
    finished = run_python(IMPORT, tmp_path)
    assert finished.returncode == 0, finished.stderr
