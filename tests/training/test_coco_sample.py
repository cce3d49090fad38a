"""The coco_sample builder on a tiny archive laid out as fastai's is."""

import hashlib
import io
import tarfile
import tempfile
from unittest import mock

import pytest
import tensorflow_datasets as tfds
from etils import epath
from PIL import Image
from running_server import serve_folder

from colorgan_jax.training import coco_sample
from colorgan_jax.training.coco_sample import (
    coco_sample_dataset_builder as builder_module,
)

PHOTO_NAMES = ("000000000009.jpg", "000000000025.jpg", "000000000030.jpg")


def _photo(gray: int) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (16, 12), (gray, gray, 0)).save(encoded, "JPEG")
    return encoded.getvalue()


PHOTOS = {name: _photo(80 * index) for index, name in enumerate(PHOTO_NAMES)}


def _write_archive(path: epath.Path) -> None:
    files = {
        f"coco_sample/train_sample/{name}": photo for name, photo in PHOTOS.items()
    }
    files["coco_sample/annotations/train_sample.json"] = b"{}"
    files["coco_sample/train_sample/._000000000009.jpg"] = b"left by macOS"
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def _registered_as(archive: epath.Path):
    """Makes an archive pass for the one that fastai published."""
    content = archive.read_bytes()
    return mock.patch.multiple(
        builder_module,
        ARCHIVE_SIZE=len(content),
        ARCHIVE_START_MD5=hashlib.md5(content[: 2**20]).hexdigest(),
    )


class CocoSampleTest(tfds.testing.DatasetBuilderTestCase):
    """TFDS's own conformance test, on an archive where a finished download would lie."""

    DATASET_CLASS = coco_sample.Builder
    SPLITS = {"train": len(PHOTO_NAMES)}  # noqa: RUF012 (what TFDS calls for)
    DL_DOWNLOAD_RESULT = "coco_sample/coco_sample.tgz"
    SKIP_CHECKSUMS = True  # no SHA-256 of the archive is published

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.EXAMPLE_DIR = epath.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        archive = cls.EXAMPLE_DIR / cls.DL_DOWNLOAD_RESULT
        _write_archive(archive)
        cls.enterClassContext(_registered_as(archive))


@pytest.fixture
def server(tmp_path):
    """An archive and a web server on this computer that offers it under `ARCHIVE_URL`."""
    archive = epath.Path(tmp_path) / "server" / "coco_sample.tgz"
    _write_archive(archive)
    with (
        serve_folder(archive.parent) as address,
        _registered_as(archive),
        mock.patch.object(builder_module, "ARCHIVE_URL", f"{address}/coco_sample.tgz"),
    ):
        yield archive


def test_downloaded_photos_are_stored_byte_for_byte(server, tmp_path):
    builder = coco_sample.Builder(data_dir=tmp_path / "data")
    builder.download_and_prepare()
    stored = builder.as_dataset(
        split="train", decoders={"image": tfds.decode.SkipDecoding()}
    ).as_numpy_iterator()
    found = {example["image/filename"].decode(): example["image"] for example in stored}
    assert found == PHOTOS


def test_archive_of_another_size_is_refused(server, tmp_path):
    server.write_bytes(server.read_bytes() + bytes(1))
    builder = coco_sample.Builder(data_dir=tmp_path / "data")
    with pytest.raises(tfds.download.DownloadError, match="delete it and try again"):
        builder.download_and_prepare()


def test_archive_with_another_beginning_is_refused(server, tmp_path):
    content = server.read_bytes()
    server.write_bytes(bytes(1) + content[1:])
    builder = coco_sample.Builder(data_dir=tmp_path / "data")
    with pytest.raises(tfds.download.DownloadError, match="delete it and try again"):
        builder.download_and_prepare()


def test_missing_archive_is_named_in_one_line(server, tmp_path):
    server.unlink()
    builder = coco_sample.Builder(data_dir=tmp_path / "data")
    with pytest.raises(tfds.download.DownloadError) as caught:
        builder.download_and_prepare()
    message = str(caught.value)
    assert "coco_sample.tgz cannot be reached (HTTPError)" in message
    assert "\n" not in message


def test_finished_download_serves_without_network(server, tmp_path):
    downloads = {"download_dir": tmp_path / "downloads"}
    coco_sample.Builder(data_dir=tmp_path / "first").download_and_prepare(**downloads)
    server.unlink()
    builder = coco_sample.Builder(data_dir=tmp_path / "second")
    builder.download_and_prepare(**downloads)
    assert builder.info.splits["train"].num_examples == len(PHOTOS)
