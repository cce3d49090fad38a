"""Training runs that are stopped, and go on as if they had not been."""

import os
import signal
import time

import jax
import numpy as np
import pytest
from running_server import free_port
from tiny_run import (
    latest_step,
    launch,
    read_metrics,
    state_of,
    tiny_config,
    wait_for,
)

from colorgan_jax import load_params
from colorgan_jax.training.train import train


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


def launch_hosts(workdir, count, **values):
    """The same, once for each of some hosts with two devices."""
    address = f"127.0.0.1:{free_port()}"
    return [
        launch(
            workdir,
            flags=[
                "--multihost",
                f"--coordinator_address={address}",
                f"--num_processes={count}",
                f"--process_id={host}",
            ],
            **values,
        )
        for host in range(count)
    ]


def run(workdir, **values):
    """Trains to the end."""
    process = launch(workdir, **values)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def losses_of(workdir):
    return [
        [float(row[name]) for name in ("discriminator_loss", "l1_loss")]
        for row in read_metrics(workdir)
        if row["l1_loss"]
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The state at the end of a run of 76 steps in one go."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    run(workdir, epochs=4)
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

    assert "Resuming after step" in run(tmp_path, epochs=4)
    jax.tree.map(np.testing.assert_array_equal, state_of(tmp_path), uninterrupted)
    steps = [float(row["step"]) for row in read_metrics(tmp_path) if row["l1_loss"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 76


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_the_first_step_a_run_ends_at_once(number, tmp_path):
    """Compiling it may take minutes, and there is nothing to save."""
    process = launch(tmp_path, epochs=4)
    wait_for(lambda: (tmp_path / "photos.json").exists(), process)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == -number, output
    assert not any((tmp_path / "checkpoints").glob("[0-9]*"))


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
def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(
    tmp_path, uninterrupted
):
    """One save a step: many of the kills hit a checkpoint, or files for people."""
    random = np.random.default_rng(0)
    began = time.monotonic()
    run(tmp_path / "timed", epochs=1)
    seconds = time.monotonic() - began
    workdir = tmp_path / "run"
    values = {"epochs": 4, "checkpoint_every_minutes": 0, "validate_every_steps": 2}
    killed = 0
    while killed < 20:
        # Another kill at once would hit the start again and again.
        process = launch(workdir, **values)
        moment = time.monotonic() + random.uniform(0.3, 1.2) * seconds
        while process.poll() is None and time.monotonic() < moment:
            time.sleep(0.005)
        number = random.choice([signal.SIGTERM, signal.SIGKILL])
        process.send_signal(number)
        output, _ = process.communicate()
        if process.returncode == 0:
            # It had come to its end: from here on there is nothing to interrupt.
            break
        killed += 1
        assert process.returncode in (-number, 128 + number), output
        assert "damaged" not in output
        for name in ("params.safetensors", "best.safetensors"):
            if (workdir / name).exists():
                assert load_params(workdir / name)
    assert killed > 3
    run(workdir, **values)
    jax.tree.map(np.testing.assert_array_equal, state_of(workdir), uninterrupted)
    steps = [int(row["step"]) for row in read_metrics(workdir) if row["l1_loss"]]
    assert steps == sorted(set(steps))


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Losses of all steps, and the state at the end, of a run on a single device."""
    workdir = tmp_path_factory.mktemp("one_device")
    run(workdir, devices=1, epochs=1, log_every_steps=1)
    return losses_of(workdir), state_of(workdir)


def assert_trained_alike(workdir, one_device):
    """But for the order of sums; a step of Adam moves a parameter by 2e-4."""
    losses, state = one_device
    np.testing.assert_allclose(losses_of(workdir), losses, rtol=1e-5)
    for array, expected in zip(state_of(workdir), state, strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=5e-5)


def test_a_batch_may_be_shared_by_any_number_of_devices(tmp_path, one_device):
    """Even in the course of a run: 4 devices take the first step, 2 the second."""
    for step, devices in enumerate((4, 2), start=1):
        process = launch(
            tmp_path,
            devices=devices,
            epochs=1,
            log_every_steps=1,
            time_limit_minutes=1e-6,
        )
        output, _ = process.communicate()
        assert process.returncode == 75, output  # EX_TEMPFAIL: try again.
        assert "Stopped by the time limit. Resume: rerun" in output
        assert latest_step(tmp_path) == step
    run(tmp_path, devices=4, epochs=1, log_every_steps=1)
    assert_trained_alike(tmp_path, one_device)


def test_a_batch_that_does_not_divide_is_refused_with_the_numbers(tmp_path):
    process = launch(tmp_path / "run", devices=3)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "--config.batch_size is 8" in output.splitlines()[-1]
    assert "3 devices" in output.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_two_hosts_train_what_one_does(tmp_path, one_device):
    processes = launch_hosts(tmp_path, 2, epochs=1, log_every_steps=1)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert_trained_alike(tmp_path, one_device)
    assert "23 validation photos" in outputs[0]
    assert "validation photos" not in outputs[1]
    for file in ("loss_curves.png", "params.safetensors", "samples"):
        assert (tmp_path / file).exists()


@pytest.mark.slow
def test_slurm_says_who_the_hosts_are(tmp_path):
    processes = [
        launch(
            tmp_path,
            flags=["--multihost"],
            # By these variables JAX finds the hosts of a job.
            environment={
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
    assert latest_step(tmp_path) == 19


@pytest.mark.slow
def test_sigterm_on_one_host_saves_and_stops_all(tmp_path, one_device):
    processes = launch_hosts(tmp_path, 2, epochs=1000, log_every_steps=1)
    wait_for(lambda: (tmp_path / "metrics.csv").exists(), processes[0])
    time.sleep(1)
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143], outputs
    assert latest_step(tmp_path) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_hosts_that_are_left_end_and_any_number_goes_on(lost, tmp_path, one_device):
    processes = launch_hosts(
        tmp_path, 2, epochs=1, log_every_steps=1, checkpoint_every_minutes=0
    )
    folder = tmp_path / "checkpoints"
    wait_for(lambda: folder.exists() and any(folder.glob("[1-9]")), processes[0])
    processes[lost].kill()
    output, _ = processes[1 - lost].communicate(timeout=90)  # hosts.py says 60.
    status = processes[1 - lost].returncode
    # Either launch.py notices first or JAX, which aborts the process.
    assert status in (75, -signal.SIGABRT), output
    if status == 75:
        assert "launch.py: another host of the job is gone" in output
    else:
        assert "another task died" in output
    assert 1 <= latest_step(tmp_path) < 19
    run(tmp_path, devices=4, epochs=1, log_every_steps=1)
    assert_trained_alike(tmp_path, one_device)
