"""ExifTool, an independent reader and writer of metadata, where it is installed."""

import json
import shutil
import subprocess

import pytest

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None,
    reason="exiftool is not installed (Debian: libimage-exiftool-perl)",
)


def read_tags(path, *options):
    """All tags of a file as ExifTool reads them, by "group:name"."""
    command = ["exiftool", "-json", "-G1", "-n", *options, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output)[0]


def write_tags(path, *options):
    """Lets ExifTool change a file: an independent maker of metadata."""
    command = ["exiftool", "-q", "-overwrite_original", *options, str(path)]
    subprocess.run(command, check=True)
