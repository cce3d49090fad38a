"""TensorFlow Datasets builder for fastai's sample of COCO, the photos of the report."""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar

import requests
import tensorflow_datasets as tfds
from etils import epath

ARCHIVE_URL = "https://s3.amazonaws.com/fast-ai-coco/coco_sample.tgz"

# fastai/data/checks.txt of github.com/fastai/fastai; its MD5 covers the first MiB only
# (`_check_file` in fastai/data/external.py). TFDS can register nothing but the SHA-256 of the
# whole file, which is not published, and accepts any download without one.
ARCHIVE_SIZE = 3_245_877_008
ARCHIVE_START_MD5 = "006cd55d633d94b36ecaf661467830ec"

_PROBE_TIMEOUT_SECONDS = 15


class Builder(tfds.core.GeneratorBasedBuilder):
    """fastai's sample of COCO: everyday photos in one split, `train`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The photos of fastai's archive, unaltered."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "image/filename": tfds.features.Text(),
                }
            ),
            homepage="https://docs.fast.ai/data.external.html",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        # Finished downloads lie in a folder of this data set's name.
        if not any((dl_manager.download_dir / self.name).glob("*.tgz")):
            _check_reachable(ARCHIVE_URL)
        archive = dl_manager.download(ARCHIVE_URL)
        _check_archive(archive)
        return {"train": self._generate_examples(dl_manager.iter_archive(archive))}

    def _generate_examples(self, files: Iterator) -> Iterator[tuple[str, dict]]:
        for path, file in files:
            path = PurePosixPath(path)
            if path.parent.name == "train_sample" and path.suffix == ".jpg":
                yield path.name, {"image": file, "image/filename": path.name}


def _check_reachable(url: str) -> None:
    """Raises `tfds.download.DownloadError` where a URL does not answer.

    TFDS by itself tries again and again for minutes before it says so.
    """
    try:
        requests.head(url, timeout=_PROBE_TIMEOUT_SECONDS).raise_for_status()
    except requests.RequestException as error:
        reason = type(error).__name__
        raise tfds.download.DownloadError(
            f"{url} cannot be reached ({reason})."
        ) from error


def _check_archive(archive: epath.Path) -> None:
    """Raises `tfds.download.DownloadError` unless a file is fastai's archive."""
    with archive.open("rb") as file:
        start_md5 = hashlib.md5(file.read(2**20), usedforsecurity=False).hexdigest()
    size = archive.stat().length
    if (size, start_md5) != (ARCHIVE_SIZE, ARCHIVE_START_MD5):
        raise tfds.download.DownloadError(
            f"{archive} is not the archive that fastai published ({size} bytes of"
            f" {ARCHIVE_SIZE}, or other content); delete it and try again."
        )
