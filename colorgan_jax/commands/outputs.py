"""Where results go: no file is lost, and no finished result is made again.

A result is known by what its XMP says of it (`photos.xmp`), or by a line of the manifest
in the folder for the results where it may not say so: which photo it was made of, by path,
size and time, and with which weights and options.
"""

import dataclasses
import errno
import functools
import hashlib
import io
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from colorgan_jax.errors import CommandError, OutputError, PhotoError
from colorgan_jax.paths import UnfinishedFile
from colorgan_jax.photos import (
    FORMATS,
    PHOTO_EXTENSIONS,
    Header,
    find_files,
    read_header,
)
from colorgan_jax.photos.xmp import read_provenance

MANIFEST = ".colorgan.jsonl"

# What concerns the result of one photo alone; anything else keeps all from being written.
_ERRORS_OF_A_NAME = (
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EFBIG,
)


Value = TypeVar("Value")
AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclasses.dataclass(frozen=True)
class Source:
    """A photo to colorize.

    Attributes:
      number: its place among all, from 1.
      path: its file.
      wanted: where its result goes, but for the extension.
      is_named: whether it was named itself, and not a folder that it is in.
    """

    number: int
    path: Path
    wanted: Path
    is_named: bool


class Sources(NamedTuple):
    """What the photos and folders that were named come to.

    Attributes:
      photos: to colorize.
      others: files of the folders that are no photos.
      repeated: further names of one and the same photo.
      errors: one for each folder that cannot be read.
    """

    photos: list[Source]
    others: list[Path]
    repeated: list[Path]
    errors: list[PhotoError]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done with a photo.

    Attributes:
      source: the photo.
      header: of its file.
      format: of its result.
      result: where that goes, unless another file is there by then.
      digest: stands for the photo as it is now.
      settings: stands for the weights and options.
      is_result: whether the photo, which is in a folder that was named, is itself a result
        of this program. Nothing is to be done then.
      finished: whether the result is there.
      replaced: whether an older file is replaced.
      older: the result of the same photo with other weights or options.
    """

    source: Source
    header: Header
    format: str
    result: Path
    digest: str
    settings: str
    is_result: bool = False
    finished: bool = False
    replaced: bool = False
    older: Path | None = None

    @property
    def wanted(self) -> Path:
        """Where the result would go if no other file had that name."""
        return with_extension(self.source.wanted, self.format)


def find_sources(inputs: Iterable[Path], output: Path) -> Sources:
    """Finds the photos to colorize.

    A photo that is named goes into the folder `output`, those found in a folder into the
    same subfolders of `output`.

    Args:
      inputs: photos and folders of photos.
      output: the folder for the results; what is in it is no photo to colorize.

    Raises:
      CommandError: a folder holds no photos, or is the folder for the results.
      PhotoError: a folder that is named cannot be read.
    """
    found: dict[object, Source] = {}
    sources = Sources([], [], [], [])

    def add(path: Path, wanted: Path, *, is_named: bool) -> None:
        key = _key(path)
        if key in found:
            sources.repeated.append(path)
        else:
            found[key] = Source(len(found) + 1, path, wanted, is_named)
            sources.photos.append(found[key])

    for path in inputs:
        if not os.path.isdir(path):
            add(path, output / path.name, is_named=True)
            continue
        photos, others = _find_inputs(path, output, sources.errors.append)
        sources.others.extend(others)
        for photo in photos:
            add(photo, output / photo.relative_to(path), is_named=False)
    return sources


def _find_inputs(
    folder: Path, output: Path, on_error: Callable[[PhotoError], None]
) -> tuple[list[Path], list[Path]]:
    """The photos and other files below a folder, without what is in `output`."""
    results = os.path.realpath(output)
    if results == os.path.realpath(folder):
        raise CommandError(
            f"The results cannot go into the folder of the photos, {folder}; name"
            " another with --output."
        )

    @functools.cache
    def holds_results(folder: Path) -> bool:
        return Path(os.path.realpath(folder)).is_relative_to(results)

    photos, others = (
        [path for path in found if not holds_results(path.parent)]
        for found in find_files(folder, on_error=on_error)
    )
    if not photos:
        raise CommandError(f"The folder {folder} holds no photos.")
    return photos, others


def _key(path: Path) -> object:
    """Equal for all paths to one file, also where the file system ignores case.

    Hard links are files of their own here: archives that store equal files once use them.
    """
    status = _status(path)
    if status is None or status.st_nlink > 1:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _identity(path: Path) -> tuple[int, int] | None:
    """Equal for all names of one file; None if there is none."""
    status = _status(path)
    return status and (status.st_dev, status.st_ino)


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # Reading it will tell.
        return None


class Results:
    """The folder for the results: what is in it, and what this run adds.

    `plan` is for one thread, `write` for several.

    Attributes:
      folder: its path.
    """

    def __init__(
        self,
        folder: Path,
        sources: Iterable[Source],
        *,
        settings: Callable[[Source], str],
        result_format: Callable[[Header], str],
        overwrite: bool = False,
        has_manifest: bool = False,
    ):
        """Looks at nothing yet.

        Args:
          folder: for the results; made when the first is written.
          sources: all photos of this run, which are never replaced.
          settings: stands for the weights and options that a photo is colorized with.
          result_format: the format of a result, as Pillow calls it, by its photo's header.
          overwrite: whether older files of the same names are replaced.
          has_manifest: whether results are noted in the manifest.
        """
        self.folder = folder
        self._settings = settings
        self._result_format = result_format
        self._overwrite = overwrite
        self._has_manifest = has_manifest
        self._inputs = {_identity(source.path) for source in sources} - {None}
        self._lock = threading.Lock()
        self._planned: set[Path] = set()
        self._listings: dict[Path, dict[str, list[str]]] = {}
        self._notes = _read_manifest(folder / MANIFEST)

    def plan(self, source: Source) -> Plan:
        """Decides what to do with a photo.

        Raises:
          PhotoError: its header cannot be read.
        """
        header = read_header(source.path)
        format = self._result_format(header)
        wanted = with_extension(source.wanted, format)
        plan = Plan(
            source,
            header,
            format,
            wanted,
            digest_of_file(source.path),
            self._settings(source),
        )
        if not source.is_named and header.xmp and read_provenance(header.xmp):
            return dataclasses.replace(plan, is_result=True)
        older = []
        for found in self._numbered(wanted):
            made_of, made_with = self._provenance(found)
            if made_of != plan.digest:
                continue
            if made_with != plan.settings:
                older.append(found)
            elif self._overwrite:
                older.insert(0, found)
            else:
                return dataclasses.replace(plan, result=found, finished=True)
        if self._overwrite:
            result = older[0] if older else wanted
            if not self._is_taken(result):
                self._planned.add(result)
                return dataclasses.replace(plan, result=result, replaced=True)
        result = self._free_name(wanted)
        return dataclasses.replace(
            plan, result=result, older=older[0] if older else None
        )

    def write(
        self, plan: Plan, save: Callable[[io.BufferedRandom], Value]
    ) -> tuple[Path, Value]:
        """Writes a result: it appears whole or not at all.

        Args:
          plan: of its photo.
          save: writes the content of its file.

        Returns:
          Where it is, and what `save` returned.

        Raises:
          PhotoError: it cannot have its name, or `save` raised it.
          OutputError: it cannot be written, and neither could others.
        """
        result = plan.result
        make_folder_of(result, self.folder)
        try:
            with UnfinishedFile(result.parent) as file:
                value = save(file.stream)
                status = file.status()
                while True:
                    # Before it has its name, so that no result is ever without its note.
                    self._note(result, plan, status)
                    try:
                        if plan.replaced:
                            file.replace(result)
                        else:
                            file.create(result)
                        return result, value
                    except FileExistsError:  # It was not there when this was planned.
                        result = self._free_name(plan.result)
        except OSError as error:
            raise output_error(
                f"{result} cannot be written", error, self.folder
            ) from error

    def _free_name(self, wanted: Path) -> Path:
        """The name, or with "-2", "-3", ... the first that no file has or will have."""
        with self._lock:
            result, number = wanted, 2
            while result in self._planned or os.path.lexists(result):
                result = wanted.with_stem(f"{wanted.stem}-{number}")
                number += 1
            self._planned.add(result)
            return result

    def _is_taken(self, result: Path) -> bool:
        """Whether a result may not even replace what has its name."""
        return result in self._planned or _identity(result) in self._inputs

    def _numbered(self, wanted: Path) -> Iterator[Path]:
        """The files of that name, or of that name with a number, before this run."""
        folder = wanted.parent
        if folder not in self._listings:
            self._listings[folder] = _list_by_plain_name(folder)
        for name in self._listings[folder].get(wanted.name, []):
            yield folder / name

    def _provenance(self, result: Path) -> tuple[str | None, str | None]:
        """What a file was made of and with; (None, None) if it is not ours."""
        found = read_digests(result)
        if found != (None, None):
            return found
        try:
            status = os.stat(result)
        except OSError:
            return None, None
        name = os.path.relpath(result, self.folder)
        note = self._notes.get((name, status.st_size, status.st_mtime_ns))
        return note or (None, None)

    def _note(self, result: Path, plan: Plan, status: os.stat_result) -> None:
        """Adds a line to the manifest."""
        if not self._has_manifest:
            return
        line = {
            "result": os.path.relpath(result, self.folder),
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "source": plan.digest,
            "settings": plan.settings,
        }
        with self._lock, open(self.folder / MANIFEST, "a") as file:
            # The line before may have been cut by a kill.
            file.write(f"\n{json.dumps(line)}\n")


def make_folder_of(result: Path, folder: Path) -> None:
    """Makes the folder of a result, below the one for all results.

    Raises:
      PhotoError, OutputError: as of `output_error`.
    """
    try:
        result.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(
            f"The folder {result.parent} cannot be made", error, folder
        ) from error


def output_error(problem: str, error: OSError, folder: Path) -> PhotoError:
    """What to raise where a result cannot be written.

    Args:
      problem: the beginning of the sentence.
      error: of the system.
      folder: for the results.

    Returns:
      A `PhotoError` if it concerns one result, an `OutputError` if it concerns all.
    """
    is_of_one = error.errno in _ERRORS_OF_A_NAME and folder.is_dir()
    kind = PhotoError if is_of_one else OutputError
    return kind(f"{problem}: {error.strerror}.")


def with_extension(path: AnyPath, format: str) -> AnyPath:
    """A path for a file of a format: as it is, or with another extension."""
    extensions = FORMATS[format].extensions
    if path.suffix.lower() in extensions:
        return path
    if path.suffix.lower() in PHOTO_EXTENSIONS:
        return path.with_suffix(extensions[0])
    return path.with_name(path.name + extensions[0])


def _list_by_plain_name(folder: Path) -> dict[str, list[str]]:
    """The names in a folder under what they are without a number, and as they are.

    Under each, the one without a number is the first, and the others are in their order.
    """
    listing: dict[str, list[tuple[int, str]]] = {}
    try:
        names = os.listdir(folder)
    except OSError:  # There is none yet, or writing will tell.
        return {}
    for name in names:
        listing.setdefault(name, []).append((0, name))
        stem, extension = os.path.splitext(name)
        if numbered := re.fullmatch(r"(.+)-(\d+)", stem, re.DOTALL):
            plain = numbered[1] + extension
            listing.setdefault(plain, []).append((int(numbered[2]), name))
    return {
        plain: [name for _, name in sorted(found)] for plain, found in listing.items()
    }


def read_digests(result: Path) -> tuple[str | None, str | None]:
    """What a result says that it was made of and with; (None, None) if it does not."""
    try:
        return read_provenance(read_header(result).xmp) or (None, None)
    except PhotoError:
        return None, None


def digest_of_file(path: Path) -> str:
    """Stands for a file as it is now: by path, size and time.

    Raises:
      PhotoError: there is none.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise PhotoError(f"{path} cannot be opened: {error.strerror}.") from error
    identity = [os.path.realpath(path), status.st_size, status.st_mtime_ns]
    return digest(identity)


def digest(value: object) -> str:
    """Stands for a value that JSON can hold, in 32 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_manifest(path: Path) -> dict[tuple, tuple[str, str]]:
    """{(result, size, time): (source, settings)} of a manifest; empty if there is none."""
    notes = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return notes
    for line in lines:
        try:
            note = json.loads(line)
            key = (note["result"], note["size"], note["mtime_ns"])
            notes[key] = (note["source"], note["settings"])
        except (ValueError, KeyError, TypeError):  # A line that was cut, or empty.
            continue
    return notes
