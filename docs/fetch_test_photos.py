"""Fetches the 600 test photos from COCO and squashes them to 256x256.

pip install . && python docs/fetch_test_photos.py PHOTOS

Resume: rerun the same command. Files that are there already are kept as they are.
"""

import argparse
import http.client
import io
import sys
import urllib.error
import urllib.request
from pathlib import Path

from PIL import Image

from colorgan_jax.errors import ColorganError, PhotoError, print_error
from colorgan_jax.paths import replace_file
from colorgan_jax.photos import read_square

COCO_URL = "http://images.cocodataset.org/val2014"
IMAGE_SIZE = 256
# Of JPEG; the copies that the published scores are of have it, too.
QUALITY = 75
TIMEOUT_SECONDS = 60


class FetchError(ColorganError):
    """The photos cannot be fetched."""


def main(arguments: list[str] | None = None) -> int:
    """Fetches what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Fetches the test photos from COCO and squashes them to 256x256."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where they go")
    parser.add_argument(
        "--ids",
        type=Path,
        default=Path(__file__).with_name("test-photos.txt"),
        metavar="FILE",
        help="ids in COCO val2014, one a line (default: test-photos.txt beside this)",
    )
    parser.add_argument(
        "--url",
        default=COCO_URL,
        help="where COCO val2014 is to be found (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        failed = fetch_all(read_ids(options.ids), options.url, options.folder)
    except ColorganError as error:
        print_error(error)
        return 1
    except OSError as error:  # Such as a full disk, or a file that is not there.
        print_error(f"{error}.")
        return 1
    except KeyboardInterrupt:
        print_error("Interrupted. Resume: rerun the same command.")
        return 130
    return 1 if failed else 0


def read_ids(file: Path) -> list[int]:
    """The ids in a file: one a line, besides comments that begin with #.

    Raises:
      FetchError: a line is no id.
    """
    lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
    try:
        return [int(line) for line in lines if line]
    except ValueError as error:
        raise FetchError(f"{file} must hold one id a line: {error}.") from error


def fetch_all(ids: list[int], url: str, folder: Path) -> int:
    """Fetches photos into a folder, made if missing; returns how many failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, photo_id in enumerate(ids, start=1):
        name = f"COCO_val2014_{photo_id:012d}.jpg"
        if not (folder / name).exists():
            try:
                replace_file(folder / name, fetch(f"{url}/{name}"))
            except PhotoError as error:
                print_error(error)
                failed += 1
        if number % 50 == 0 or number == len(ids):
            print(f"{number} of {len(ids)}", flush=True)
    if failed:
        print_error(f"{failed} of {len(ids)} photos could not be fetched.")
    return failed


def fetch(address: str) -> bytes:
    """Downloads a photo.

    Returns:
      It, squashed to a square, as a JPEG file.

    Raises:
      PhotoError: it is not there or damaged.
      FetchError: the server cannot be reached, as for the next photo.
    """
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:
            encoded = response.read()
    except urllib.error.HTTPError as error:
        raise PhotoError(
            f"{address} cannot be had: {error.code} {error.reason}."
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchError(
            f"{address} cannot be reached ({error}): check the connection and rerun the"
            " same command."
        ) from error
    square = read_square(encoded, IMAGE_SIZE, name=address)
    file = io.BytesIO()
    Image.fromarray(square).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main())
