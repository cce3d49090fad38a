"""Training runs that are stopped, and go on as if they had not been."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import TINY, latest_step, read_metrics, state_of, tiny_config

from colorgan_jax import load_params
from colorgan_jax.training.train import train

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_adversarial_loss_begins_at_the_same_step_after_interruptions(tmp_path):
    values = {
        "epochs": 1,
        "log_every_steps": 4,
        "loss.adversarial_from_epoch": 2 / 19,
        "optimizer.decay_epochs": 0.5,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(tiny_config(**values), whole) is None
    # Each call takes one step: up to one before the beginning, and up to it.
    for step in (1, 2):
        limited = tiny_config(**values, time_limit_minutes=1e-6)
        assert train(limited, parts) == "the time limit"
        assert latest_step(parts) == step
    assert train(tiny_config(**values), parts) is None
    jax.tree.map(
        np.testing.assert_array_equal,
        state_of(parts, **values),
        state_of(whole, **values),
    )
    rows = [row for row in read_metrics(whole) if row["generator_loss"]]
    steps = {bool(row["discriminator_loss"]): [] for row in rows}
    for row in rows:
        steps[bool(row["discriminator_loss"])].append(int(row["step"]))
        for name in ("adversarial_loss", "discriminator_gradient_norm"):
            assert bool(row[name]) == bool(row["discriminator_loss"])
    # A row at the end of each kind of step, none of both kinds.
    assert steps == {False: [2], True: [4, 8, 12, 16, 19]}
    assert load_params(whole)


def test_the_time_limit_saves_and_says_so(tmp_path):
    config = tiny_config(epochs=2, time_limit_minutes=1e-6)
    assert train(config, tmp_path) == "the time limit"
    assert latest_step(tmp_path) == 1
    assert load_params(tmp_path)
    (row,) = read_metrics(tmp_path)
    assert row["l1_loss"] and not row["photos_per_second"]  # The step was compiled.


def launch(workdir, environment=(), **values):
    """Starts launch.py as a user would, on the tiny run."""
    overrides = [f"--config.{name}={value}" for name, value in (TINY | values).items()]
    return subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "--config=configs/quickstart.py",
            f"--workdir={workdir}",
            *overrides,
            *(["--multihost"] if environment else []),
        ],
        cwd=ROOT,
        env=os.environ | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process):
    """Waits until it holds; fails if the process ends first."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The state at the end of a run of 76 steps in one go."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    process = launch(workdir, epochs=4)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return state_of(workdir)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        signal.SIGKILL,
    ],
)
def test_an_interrupted_run_goes_on_to_the_very_same_state(
    number, tmp_path, uninterrupted
):
    # One save a step, so that there is something to go on from after SIGKILL.
    process = launch(tmp_path, epochs=4, checkpoint_every_minutes=0)
    folder = tmp_path / "checkpoints"
    wait_for(lambda: folder.exists() and any(folder.glob("[1-9]")), process)
    process.send_signal(number)
    output, _ = process.communicate()
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 128 + number, output
        assert "Resume: rerun the same command." in output
        assert load_params(tmp_path)
    assert 1 <= latest_step(tmp_path) < 76

    process = launch(tmp_path, epochs=4)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "Resuming after step" in output
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path), uninterrupted)
    steps = [float(row["step"]) for row in read_metrics(tmp_path) if row["l1_loss"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 76


def test_a_full_disk_ends_the_run_in_one_sentence(tmp_path):
    """A limit on the size of files stands for it; of this run only checkpoints pass it."""
    resource = pytest.importorskip("resource")
    process = launch(tmp_path, epochs=4, checkpoint_every_minutes=0)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
    output, _ = process.communicate()
    assert process.returncode == 1, output
    last = output.splitlines()[-1]
    assert last.startswith("launch.py: The last checkpoint could not be written to")
    assert "File too large" in last
    assert "Traceback" not in output
    assert len(output.splitlines()) < 30


@pytest.mark.slow
def test_two_hosts_train_what_one_does(tmp_path, uninterrupted):
    processes = [
        launch(
            tmp_path,
            # Slurm's variables, by which JAX finds the hosts of a job.
            {
                "SLURM_JOB_ID": str(os.getpid()),
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(host),
                "SLURM_LOCALID": "0",
            },
            epochs=1,
        )
        for host in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert "23 validation photos" in outputs[0]
    assert "validation photos" not in outputs[1]
    assert latest_step(tmp_path) == 19
