"""The files of cloud/ as those read them that run them, as far as that goes without."""

import importlib.metadata
import json
import os
import re
import subprocess
import venv

import pytest
from job_files import (
    CLOUD,
    ROOT,
    SAVED,
    SKYPILOT,
    SLURM,
    dockerfile,
    read_jobset,
    read_skypilot,
)

# What `sky` makes of its files, on standard output as JSON.
READ_TASKS = """
import json, sys
import sky
from sky.utils import registry

tasks = []
for file in sys.argv[1:]:
    task = sky.Task.from_yaml(file)
    tasks.append({
        "nodes": task.num_nodes,
        "accelerators": [resources.accelerators for resources in task.resources],
        "spot": [resources.use_spot for resources in task.resources],
        "recovery": [resources.job_recovery for resources in task.resources],
        "variables": task.envs,
        "mounts": {
            path: [storage.name, storage.mode.value, storage.mount_cached_config.transfers]
            for path, storage in task.storage_mounts.items()
        },
    })
print(json.dumps({
    "strategies": [name.upper() for name in registry.JOBS_RECOVERY_STRATEGY_REGISTRY],
    "tasks": tasks,
}))
"""


def lint(*command):
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_hadolint_finds_nothing_in_the_dockerfile():
    lint("hadolint", CLOUD / "Dockerfile")


def test_shellcheck_finds_nothing_in_the_scripts():
    lint("shellcheck", SLURM, ROOT / "docs" / "reproduce.sh", ROOT / ".ci" / "run")


def test_the_image_is_built_from_what_is_not_ignored():
    copied = [
        source
        for name, rest in dockerfile()
        if name == "COPY"
        for source in rest.split()[:-1]
    ]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == set(copied)
    assert lines.index("*") < lines.index("!launch.py")
    assert all((ROOT / source).exists() for source in copied)


def test_jax_knows_the_accelerators_that_the_files_install_it_for():
    named = set()
    for path in CLOUD.rglob("*"):
        if path.is_file():
            text = path.read_text()
            named |= set(re.findall(r"jax\[(\w+)\]", text))
            named |= set(re.findall(r"ACCELERATOR=(\w+)", text))
    assert {"cpu", "cuda13", "tpu"} <= named
    known = importlib.metadata.metadata("jax").get_all("Provides-Extra")
    assert known and named <= set(known)


def test_kubernetes_models_take_the_jobset_whole():
    from kubeflow_trainer_api import models  # Not at the top: no other test needs it.

    claim, jobset = read_jobset()
    for model, document in (
        (models.IoK8sApiCoreV1PersistentVolumeClaimSpec, claim["spec"]),
        (models.JobsetV1alpha2JobSet, jobset),
    ):
        # They leave out what they do not know, such as a misspelt key, without a word.
        read = model.from_dict(document)
        assert read is not None and read.to_dict() == document
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert (jobset["apiVersion"], jobset["kind"]) == (
        "jobset.x-k8s.io/v1alpha2",
        "JobSet",
    )

    # The models take any text for an action; the list is in their descriptions.
    (rule,) = jobset["spec"]["failurePolicy"]["rules"]
    fields = models.JobsetV1alpha2FailurePolicyRule.model_fields
    (valid,) = re.findall(r"Valid values are (.*)\.", fields["action"].description)
    assert rule["action"] in valid.split(", ")
    (hosts,) = jobset["spec"]["replicatedJobs"]
    fields = models.IoK8sApiBatchV1PodFailurePolicyRule.model_fields
    valid = re.findall(r'`"(\w+)"`', fields["action"].description)
    for pod_rule in hosts["template"]["spec"]["podFailurePolicy"]["rules"]:
        assert pod_rule["action"] in valid


def test_the_hosts_of_the_jobset_find_each_other_and_their_volume():
    claim, jobset = read_jobset()
    (hosts,) = jobset["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(
        argument.split("=", 1) for argument in container["args"] if "=" in argument
    )
    assert (
        int(flags["--num_processes"])
        == job["completions"] * hosts["replicas"]
        == job["parallelism"]
    )
    # JobSet names the first pod so: JobSet, replicated job, its number, number of the pod.
    name = jobset["metadata"]["name"]
    (port,) = container["ports"]
    address = f"{name}-{hosts['name']}-0-0.{name}:{port['containerPort']}"
    assert flags["--coordinator_address"] == address
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volume = volumes[mounts["/work"]]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert flags["--workdir"].startswith("/work/")
    # Kubernetes allows a podFailurePolicy with this alone.
    assert pod["restartPolicy"] == "Never"


def test_all_files_restart_on_what_launch_saved():
    for path in SKYPILOT:
        recovery = read_skypilot(path.stem)["resources"]["job_recovery"]
        assert recovery.pop("recover_on_exit_codes") == SAVED
        assert set(recovery) == {"strategy"}

    _, jobset = read_jobset()
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 3
    (rule,) = policy["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    (hosts,) = jobset["spec"]["replicatedJobs"]
    job = hosts["template"]["spec"]
    assert job["backoffLimit"] == 0
    by_code, by_eviction = job["podFailurePolicy"]["rules"]
    (container,) = job["template"]["spec"]["containers"]
    assert by_code == {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": container["name"],
            "operator": "In",
            "values": SAVED,
        },
    }
    assert by_eviction["onPodConditions"] == [
        {"type": "DisruptionTarget", "status": "True"}
    ]


@pytest.mark.parametrize("code", [0, 1, 130, *SAVED])
def test_slurm_requeues_a_job_that_has_saved(tmp_path, code):
    (tmp_path / "srun").write_text(f"#!/bin/sh\nexit {code}\n")
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@"\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    result = subprocess.run(
        ["bash", SLURM],
        env=os.environ
        | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "17"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code
    assert result.stdout == ("requeue 17\n" if code in SAVED else "")


def test_slurm_starts_a_process_for_each_gpu_and_warns_them_before_the_end():
    options = dict(
        re.findall(r"(?m)^#SBATCH --([\w-]+)(?:=(\S+))?$", SLURM.read_text())
    )
    # Under Slurm each process of JAX takes the one GPU of its number on the machine.
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    # No "B:", which would send it to the script in place of launch.py.
    assert options["signal"] == "TERM@300"
    assert "requeue" in options


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Runs Python programs in an environment of SkyPilot's own."""
    folder = tmp_path_factory.mktemp("sky")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "skypilot==0.14.1"], check=True
    )

    def run(program, *words):
        return subprocess.run(
            [python, "-c", program, *words],
            cwd=ROOT,
            # Its settings and logs go there, and it tells nobody.
            env=os.environ
            | {"HOME": str(folder), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_skypilot_reads_its_files(sky):
    result = sky(READ_TASKS, *map(str, SKYPILOT))
    assert result.returncode == 0, result.stderr
    read = json.loads(result.stdout.splitlines()[-1])
    tasks = {
        path.stem: task for path, task in zip(SKYPILOT, read["tasks"], strict=True)
    }
    assert set(tasks) == {"gpu", "gpus", "nodes", "tpu"}
    for task in tasks.values():
        assert task["spot"] and all(task["spot"])
        for recovery in task["recovery"]:
            # from_yaml takes any name for a strategy.
            assert recovery["strategy"] in read["strategies"]
            assert recovery["recover_on_exit_codes"] == SAVED

    def numbers(name):
        return {n for kinds in tasks[name]["accelerators"] for n in kinds.values()}

    assert numbers("gpu") == {1}
    assert numbers("gpus") == numbers("nodes") == {8}
    assert [tasks[name]["nodes"] for name in ("gpu", "gpus", "nodes")] == [1, 1, 2]
    assert tasks["tpu"]["accelerators"] == [{"tpu-v6e-16": 1}]

    # One machine writes into a mounted bucket, several into one that needs no mount.
    for name in ("gpu", "gpus"):
        variables = tasks[name]["variables"]
        assert tasks[name]["mounts"] == {
            "/bucket": [variables["BUCKET"], "MOUNT_CACHED", 1]
        }
        assert variables["WORKDIR"].startswith("/bucket/")
    for name in ("nodes", "tpu"):
        assert not tasks[name]["mounts"]
        assert tasks[name]["variables"]["WORKDIR"].startswith("gs://")


@pytest.mark.slow
def test_skypilot_refuses_a_misspelt_key(sky, tmp_path):
    # Otherwise the test above would say little.
    text = SKYPILOT[0].read_text().replace("use_spot", "use_sport")
    assert "use_sport" in text
    file = tmp_path / "task.yaml"
    file.write_text(text)
    result = sky(READ_TASKS, str(file))
    assert result.returncode != 0 and "use_sport" in result.stderr
