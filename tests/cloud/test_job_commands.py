"""Each job file's own command, run here on the CPU to the end of a tiny training run.

A flag that launch.py no longer has would end it. What the platform adds is put in its place:
variables, the mount of a bucket, the names of hosts.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from job_files import (
    ROOT,
    SLURM,
    dockerfile,
    entry_point,
    read_jobset,
    read_skypilot,
)
from running_server import free_port
from tiny_run import SHORT_FLAGS, save_photos

# In the place of Slurm's: starts the command twice on this machine, waits for both and ends
# with the higher status.
SRUN = """#!/usr/bin/env bash
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
  processes[rank]=$!
done
highest=0
for process in "${processes[@]}"; do
  wait "$process"
  status=$?
  ((status > highest)) && highest=$status
done
exit "$highest"
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    save_photos(folder, 20)
    return folder


@pytest.fixture
def home(tmp_path):
    """A home folder whose environment `colorgan` is the one that the tests run in."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "colorgan").symlink_to(sys.prefix)
    return folder


def start(command, *, folder=ROOT, **variables):
    """Starts a command whose `python` is the one that the tests run in."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for processes; all must end well."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def assert_trained(workdir):
    assert (workdir / "params.safetensors").is_file()
    assert (workdir / "metrics.csv").is_file()


def start_skypilot(name, home, workdir, photos, *flags, **variables):
    """Runs the `run` of a task as SkyPilot does: by bash, with the variables of the task."""
    task = read_skypilot(name)
    given = {
        "WORKDIR": str(workdir),
        "PHOTOS": str(photos),
        "FLAGS": " ".join([*SHORT_FLAGS, *flags]),
    }
    assert set(given) <= set(task["envs"])
    return start(
        ["bash", "-c", task["run"]],
        **(task["envs"] | given | variables),
        HOME=str(home),
    )


def test_skypilot_on_one_machine(tmp_path, home, photos):
    finish(start_skypilot("gpu", home, tmp_path / "run", photos))
    assert_trained(tmp_path / "run")
    # The command for several GPUs is the same.
    assert read_skypilot("gpus")["run"] == read_skypilot("gpu")["run"]


@pytest.mark.slow
def test_skypilot_on_several_machines(tmp_path, home, photos):
    # The first of the addresses is this machine; nobody talks to the second one.
    addresses = "127.0.0.1\n127.0.0.2"
    outputs = finish(
        *[
            start_skypilot(
                "nodes",
                home,
                tmp_path / "run",
                photos,
                SKYPILOT_NODE_IPS=addresses,
                SKYPILOT_NUM_NODES="2",
                SKYPILOT_NODE_RANK=str(rank),
            )
            for rank in range(2)
        ]
    )
    assert "Training on 4 cpu" in outputs[0]
    assert_trained(tmp_path / "run")


@pytest.mark.slow
def test_skypilot_on_a_tpu_slice(tmp_path, home, photos):
    # Its hosts find each other by what only a TPU has: here they are told.
    address = f"127.0.0.1:{free_port()}"
    outputs = finish(
        *[
            start_skypilot(
                "tpu",
                home,
                tmp_path / "run",
                photos,
                f"--coordinator_address={address}",
                "--num_processes=2",
                f"--process_id={rank}",
            )
            for rank in range(2)
        ]
    )
    assert "Training on 4 cpu" in outputs[0]
    assert_trained(tmp_path / "run")


@pytest.mark.slow
def test_slurm_goes_on_after_the_time_limit(tmp_path, photos):
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "srun").write_text(SRUN)
    (commands / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    job = str(os.getpid())
    long = ["--config.epochs=10"]  # 20 steps: several hosts stop a few after the limit.

    def run(*flags):
        workdir = f"--workdir={tmp_path / 'run'}"
        source = f"--config.data.source={photos}"
        process = start(
            ["bash", SLURM, source, workdir, *SHORT_FLAGS, *long, *flags],
            PATH=f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            SLURM_JOB_ID=job,
            SLURM_STEP_NODELIST="localhost",
            SLURM_NTASKS="2",
        )
        return process.communicate()[0], process.returncode

    output, code = run("--config.time_limit_minutes=1e-6")
    assert code == 75, output
    assert (tmp_path / "requeued").read_text() == f"requeue {job}\n"
    output, code = run()
    assert code == 0, output
    assert "Training on 4 cpu" in output
    assert (tmp_path / "requeued").read_text() == f"requeue {job}\n"
    assert_trained(tmp_path / "run")


@pytest.mark.slow
def test_kubernetes_on_several_machines(tmp_path, photos):
    _, jobset = read_jobset()
    (hosts,) = jobset["spec"]["replicatedJobs"]
    (container,) = hosts["template"]["spec"]["template"]["spec"]["containers"]
    assert "command" not in container  # So that the image's entry point is run.
    flags = dict(
        argument.split("=", 1) for argument in container["args"] if "=" in argument
    )
    here = {
        "--coordinator_address": f"127.0.0.1:{free_port()}",
        "--config.data.source": photos,
        "--workdir": tmp_path / "run",
    }
    assert set(here) < set(flags)
    words = [f"{name}={value}" for name, value in (flags | here).items()]
    words += [argument for argument in container["args"] if "=" not in argument]
    outputs = finish(
        *[
            start(
                [
                    *entry_point(),
                    *[
                        word.replace("$(JOB_COMPLETION_INDEX)", str(index))
                        for word in words
                    ],
                    *SHORT_FLAGS,
                ]
            )
            for index in range(2)
        ]
    )
    assert "Training on 4 cpu" in outputs[0]
    assert_trained(tmp_path / "run")


def test_the_files_of_the_image_are_enough_to_train(tmp_path, photos):
    image = tmp_path / "image"
    image.mkdir()
    for name, rest in dockerfile():
        if name == "COPY":
            source, target = rest.split()
            target = image / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target)
            else:
                shutil.copy(ROOT / source, target)
    flags = ["--config=configs/quickstart.py", f"--config.data.source={photos}"]
    finish(start([*entry_point(), *flags, *SHORT_FLAGS], folder=image))
    assert_trained(image / "runs" / "quickstart")
