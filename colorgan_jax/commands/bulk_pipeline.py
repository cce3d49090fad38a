"""The pipeline of `colorgan bulk`, in Apache Beam's terms.

    files that match -> those of one name together -> read -> batches through the network
        -> painted and written -> one line each in the manifest

From reading to writing the steps stay in one process (Beam fuses what no grouping parts),
so that the pixels of a photo never leave it. What is in memory there is one batch: four
photos, or fewer if they are large (`bulk.PIXELS_IN_BATCH`).
"""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import apache_beam as beam  # pyright: ignore[reportMissingImports] (the extra `bulk`)
import numpy as np
from apache_beam.io import fileio  # pyright: ignore[reportMissingImports]
from apache_beam.ml.inference.base import (  # pyright: ignore[reportMissingImports]
    ModelHandler,
    RunInference,
)

from colorgan_jax.bulk import BATCH_PHOTOS, PIXELS_IN_BATCH, Gray, predict_colors
from colorgan_jax.commands.outputs import (
    digest,
    digest_of_file,
    read_digests,
    with_extension,
)
from colorgan_jax.commands.rendering import Rendering
from colorgan_jax.commands.storage import (
    exists,
    is_local,
    join,
    local_copy,
    write_file,
)
from colorgan_jax.compilation import enable_compilation_cache
from colorgan_jax.errors import (
    OutputError,
    ParamsError,
    PhotoError,
    print_note,
)
from colorgan_jax.params import fingerprint, image_size, load_params
from colorgan_jax.paths import printable
from colorgan_jax.photos import (
    FORMATS,
    PHOTO_EXTENSIONS,
    read_header,
    read_photo,
    readable_extensions,
    silence_decoders,
)

# Outcomes of photos, as the manifest names them.
COLORIZED = "colorized"
SKIPPED = "skipped"
FAILED = "failed"
LEFT_OUT = "left out"

# So often a worker says how far it is.
_SECONDS_BETWEEN_NOTES = 30


@dataclasses.dataclass(frozen=True)
class Run:
    """What all photos of a run have in common; the workers get it.

    Attributes:
      root: the folder whose tree the results keep.
      takes_all: whether all files below it are meant, of which photos are told by name.
      output: the folder for the results.
      manifest: the file for the outcomes of all photos, a line of JSON each.
      params: the name of the weights; None for the released ones.
      fingerprint: of the weights (`params.fingerprint`).
      settings: stands for weights and options in the provenance of results.
      saturation: as for `Rendering`, like the following.
      format: see there.
      quality: see there.
      side_by_side: see there.
      has_provenance: see there.
      overwrite: whether older files are replaced.
    """

    root: str
    takes_all: bool
    output: str
    manifest: str
    params: str | None
    fingerprint: str
    settings: str
    saturation: float
    format: str | None
    quality: int | None
    side_by_side: bool
    has_provenance: bool
    overwrite: bool


@dataclasses.dataclass(frozen=True, order=True)
class File:
    """A file that matches.

    Attributes:
      path: as the file system names it.
      bytes: its size.
      updated: when it was changed, in seconds since 1970.
    """

    path: str
    bytes: int
    updated: float


@dataclasses.dataclass(frozen=True)
class Job:
    """A photo on its way through the network.

    Attributes:
      file: the photo's.
      digest: stands for the photo as it is now.
      format: of the result, as Pillow calls it.
      result: where that goes.
      gray: the photo, before it is colorized.
      start: when it was begun, in seconds since 1970.
    """

    file: File
    digest: str
    format: str
    result: str
    gray: Gray
    start: float

    @property
    def share(self) -> float:
        """Of a batch, as its pixels take it."""
        return min(max(self.gray.L.size / PIXELS_IN_BATCH, 1 / BATCH_PHOTOS), 1)


class _FailedError(Exception):
    """A photo cannot be colorized; the message is the reason."""


@contextlib.contextmanager
def _as_failures() -> Iterator[None]:
    """Turns what concerns one photo into a `_FailedError`, and lets the rest end the run."""
    # From none: Beam keeps the traceback, and can keep no name that is not Unicode.
    try:
        yield
    except OutputError as error:
        raise RuntimeError(printable(str(error))) from None
    except PhotoError as error:
        raise _FailedError(printable(str(error))) from None
    except Exception as error:  # A defect must not cost millions of other photos.
        reason = "".join(traceback.format_exception_only(error)).strip()
        raise _FailedError(printable(f"unexpected {reason}")) from None


_lock = threading.Lock()


def load_rendering(run: Run) -> Rendering:
    """The weights and options of a run, loaded once in each process.

    Raises:
      ParamsError: the weights cannot be read here, or are others than at the start.
    """
    with _lock:
        return _load_rendering(run)


@functools.lru_cache(maxsize=1)
def _load_rendering(run: Run) -> Rendering:
    # As `__main__` does, which has not run in this process.
    logging.getLogger("jax").setLevel(logging.ERROR)
    silence_decoders()
    enable_compilation_cache()
    params = load_params() if run.params is None else load_params(run.params)
    if fingerprint(params) != run.fingerprint:
        raise ParamsError(
            f"{run.params or 'The released weights'} differ between the workers and the"
            " machine that started them: install the same colorgan_jax and give the same"
            " weights on all."
        )
    return Rendering(
        params=params,
        reference=None,
        saturation=run.saturation,
        format=run.format,
        quality=run.quality,
        side_by_side=run.side_by_side,
        has_provenance=run.has_provenance,
    )


def build(pipeline: beam.Pipeline, patterns: Sequence[str], run: Run) -> None:
    """Adds all steps to a pipeline.

    Args:
      pipeline: an empty one.
      patterns: of the photos, in Beam's syntax.
      run: see there.
    """
    found = (
        pipeline
        | "Patterns" >> beam.Create(list(patterns))
        | "Match" >> fileio.MatchAll(fileio.EmptyMatchTreatment.ALLOW)
        | "SortOut" >> beam.ParDo(_SortOut(run)).with_outputs("others", main="photos")
    )
    read = (
        found.photos
        | "GroupByName" >> beam.GroupByKey()
        | "WithOthers" >> beam.FlatMap(_with_others)
        | "Read" >> _with_failures(_Read(run)).with_outputs("finished", main="jobs")
    )
    colors, not_colored = (
        read.jobs | "Network" >> RunInference(_Network(run)).with_exception_handling()
    )
    written = colors | "Write" >> _with_failures(_Write(run)).with_outputs(main="done")
    outcomes = {
        "Others": found.others,
        "Finished": read.finished,
        "NotRead": read.failed | beam.MapTuple(_failed_to_read),
        "NotColored": not_colored.failed_inferences
        | beam.FlatMapTuple(_failed_to_color),
        "NotWritten": written.failed | beam.MapTuple(_failed_to_write),
        "Done": written.done,
    }
    lines = [
        outcome | f"Count{name}" >> beam.ParDo(_Count(run))
        for name, outcome in outcomes.items()
    ]
    _ = (
        lines
        | "AllLines" >> beam.Flatten()
        | "Together" >> beam.GroupBy(lambda line: 0)
        | "Manifest" >> beam.MapTuple(functools.partial(_write_manifest, run))
    )


def _with_failures(step: beam.DoFn) -> beam.PTransform:
    return beam.ParDo(step).with_exception_handling(
        dead_letter_tag="failed", exc_class=_FailedError
    )


class _SortOut(beam.DoFn):
    """Tells photos from other files, and names the key of those that may clash."""

    def __init__(self, run: Run):
        self._run = run

    def setup(self) -> None:
        self._extensions = readable_extensions()
        self._output = os.path.realpath(self._run.output)

    def process(self, found: Any) -> Iterator[Any]:
        file = File(found.path, found.size_in_bytes, found.last_updated_in_seconds)
        below = _below(self._run, file)
        if any(part.startswith(".") for part in below.parts) or self._is_result(file):
            return
        if self._run.takes_all and not below.name.lower().endswith(self._extensions):
            outcome = _outcome(file, LEFT_OUT, reason=_why_left_out(below))
            yield beam.pvalue.TaggedOutput("others", outcome)
            return
        # All that an extension may be replaced in, since a result has that of its format.
        has_extension = below.suffix.lower() in PHOTO_EXTENSIONS
        key = below.with_suffix("") if has_extension else below
        yield os.fsencode(str(key)), file

    def _is_result(self, file: File) -> bool:
        """Whether it is below the folder for the results, which may be in the tree."""
        output = self._run.output
        if is_local(file.path) and is_local(output):
            return _real_folder(os.path.dirname(file.path)).is_relative_to(self._output)
        return file.path.startswith(f"{output.rstrip('/')}/")


@functools.lru_cache(maxsize=1000)
def _real_folder(folder: str) -> Path:
    return Path(os.path.realpath(folder))


def _below(run: Run, file: File) -> PurePosixPath:
    """The path of a file below the folder whose tree the results keep."""
    below = file.path.removeprefix(run.root)
    return PurePosixPath(PurePath(below).as_posix() if is_local(file.path) else below)


def _why_left_out(below: PurePosixPath) -> str:
    for known in FORMATS.values():
        if below.suffix.lower() in known.extensions:
            return (
                f"{known.name} photos need a package more: pip install"
                f" 'colorgan_jax[{known.extra}]'"
            )
    return "its name is not that of a photo"


def _with_others(
    named: tuple[bytes, Iterable[File]],
) -> Iterator[tuple[File, tuple[File, ...]]]:
    """Gives each file with those that may get the same result."""
    files = sorted(set(named[1]))
    for file in files:
        yield file, tuple(other for other in files if other != file)


class _Read(beam.DoFn):
    """Reads a photo, or finds that its result is there."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, element: tuple[File, tuple[File, ...]]) -> Iterator[Any]:
        with _as_failures():
            found = self._read(*element)
        if isinstance(found, Job):
            yield found
        else:
            yield beam.pvalue.TaggedOutput("finished", found)

    def _read(self, file: File, others: Iterable[File]) -> Job | str:
        run, start = self._run, time.time()
        digest = _digest(file)
        if not run.overwrite and (likely := self._likely_result(file)):
            # So that of a finished photo itself nothing is read.
            if exists(likely) and _is_made_of(likely, digest, run):
                return _outcome(file, SKIPPED, likely)
        with local_copy(file.path) as path:
            format, result = self._plan(file, path)
            for other in others:
                is_before = self._rank(other, result) < self._rank(file, result)
                if is_before and self._result_of(other) == result:
                    raise PhotoError(
                        f"{file.path} would get the result of {other.path}, {result}:"
                        " rename one of them."
                    )
            if not run.overwrite and exists(result):
                return _there_already(file, result, digest, run)
            photo = read_photo(path, file.path)
            gray = Gray.of(photo, image_size(load_rendering(run).params))
        return Job(file, digest, format, result, gray, start)

    def _plan(self, file: File, path: Path) -> tuple[str, str]:
        """The format and the place of the result of a file, whose content is at `path`."""
        header = read_header(path, file.path)
        format = load_rendering(self._run).result_format(header)
        below = with_extension(_below(self._run, file), format)
        return format, join(self._run.output, below)

    def _result_of(self, file: File) -> str | None:
        """The place of the result of another photo; None if it has none."""
        try:
            with local_copy(file.path) as path:
                return self._plan(file, path)[1]
        except PhotoError:
            return None

    def _rank(self, file: File, result: str) -> tuple[bool, str]:
        """Of photos with one result that gets it which has the lowest rank."""
        keeps_its_name = join(self._run.output, _below(self._run, file)) == result
        return not keeps_its_name, file.path

    def _likely_result(self, file: File) -> str | None:
        """The place of the result if the photo is what its extension says."""
        below = _below(self._run, file)
        formats = [self._run.format] if self._run.format else FORMATS
        for format in formats:
            if self._run.format or below.suffix.lower() in FORMATS[format].extensions:
                return join(self._run.output, with_extension(below, format))
        return None


class _Network(ModelHandler):
    """Predicts colors of batches."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run

    def load_model(self) -> Rendering:
        """Loads the weights."""
        return load_rendering(self._run)

    def run_inference(
        self,
        batch: Sequence[Job],
        model: Rendering,
        inference_args: dict[str, Any] | None = None,
    ) -> list[tuple[Job, np.ndarray]]:
        """Gives each job with its ab."""
        seen = [(job.gray.seen, None) for job in batch]
        colors = predict_colors(model.params, seen, saturation=model.saturation)
        return list(zip(batch, colors, strict=True))

    def batch_elements_kwargs(self) -> dict[str, Any]:
        """Batches are filled up to 1, in shares."""
        return {
            "min_batch_size": 1,
            "max_batch_size": 1,
            "element_size_fn": lambda job: job.share,
        }

    def get_num_bytes(self, batch: Sequence[Job]) -> int:
        """For Beam's metrics."""
        return sum(job.gray.seen.nbytes for job in batch)


class _Write(beam.DoFn):
    """Paints a photo and writes the result."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, colored: tuple[Job, np.ndarray]) -> Iterator[str]:
        with _as_failures():
            outcome = self._write(*colored)
        yield outcome

    def _write(self, job: Job, ab: np.ndarray) -> str:
        run, name = self._run, job.file.path
        rendering = load_rendering(run)
        photo = job.gray.paint(ab)
        # Only for the other pages of a TIFF file the photo is read again.
        pages = local_copy(name) if photo.pages > 1 else contextlib.nullcontext(Path())
        with pages as path:

            def save(stream: Any) -> tuple[str, ...]:
                return rendering.save(
                    stream,
                    photo,
                    job.format,
                    name=name,
                    read_page=lambda page: read_photo(path, name, page=page),
                    source=job.digest,
                    settings=run.settings,
                )

            try:
                remarks = write_file(
                    job.result, save, folder=run.output, replace=run.overwrite
                )
            except FileExistsError:  # Such as when an engine repeats its work.
                return _there_already(job.file, job.result, job.digest, run)
        height, width = photo.pixels.shape[:2]
        return _outcome(
            job.file,
            COLORIZED,
            job.result,
            remarks=list(remarks),
            width=width,
            height=height,
            seconds=round(time.time() - job.start, 3),
        )


def _digest(file: File) -> str:
    """Stands for a photo as it is now: in a bucket, too, by path, size and time."""
    if is_local(file.path):
        return digest_of_file(Path(file.path))
    return digest([file.path, file.bytes, file.updated])


def _is_made_of(result: str, digest: str, run: Run) -> bool:
    with local_copy(result) as path:
        return read_digests(path) == (digest, run.settings)


def _there_already(file: File, result: str, digest: str, run: Run) -> str:
    """The outcome where there is a file in the place of the result.

    Raises:
      PhotoError: it is another one.
    """
    with local_copy(result) as path:
        made_of, made_with = read_digests(path)
    if (made_of, made_with) == (digest, run.settings):
        return _outcome(file, SKIPPED, result)
    if made_of is None and not run.has_provenance:
        reason = "there is a file of its name; without provenance none tells of what"
        return _outcome(file, SKIPPED, result, reason=reason)
    if made_of == digest:
        raise PhotoError(
            f"{result} was made of {file.path} with other weights or options: --overwrite"
            " replaces it, another --output keeps it."
        )
    raise PhotoError(
        f"{result} is there already, and was not made of {file.path} as it is now:"
        " --overwrite replaces it, another --output keeps it."
    )


def _outcome(file: File, outcome: str, result: str | None = None, **more: Any) -> str:
    """The line of the manifest for a file."""
    line = {"input": file.path, "outcome": outcome, "output": result, **more}
    line = {key: value for key, value in line.items() if value not in (None, [])}
    return json.dumps(line | {"bytes": file.bytes})


def _failed(file: File, error: tuple[type, str, list[str]]) -> str:
    """The outcome of a photo, from what Beam keeps of an exception."""
    kind, _, trace = error
    name = f"{kind.__module__}.{kind.__qualname__}: "
    return _outcome(file, FAILED, reason=trace[-1].strip().removeprefix(name))


def _failed_to_read(
    element: tuple[File, tuple[File, ...]], error: tuple[type, str, list[str]]
) -> str:
    return _failed(element[0], error)


def _failed_to_color(
    batch: Sequence[Job], error: tuple[type, str, list[str]]
) -> list[str]:
    return [_failed(job.file, error) for job in batch]


def _failed_to_write(
    element: tuple[Job, np.ndarray], error: tuple[type, str, list[str]]
) -> str:
    return _failed(element[0].file, error)


class _Count(beam.DoFn):
    """Counts outcomes, for Beam's metrics and for who waits."""

    def __init__(self, run: Run):
        self._run = run

    def process(self, line: str) -> Iterator[str]:
        outcome = json.loads(line)["outcome"]
        beam.metrics.Metrics.counter("colorgan", outcome).inc()
        with _lock:
            _progress(self._run).count(outcome)
        yield line


class _Progress:
    """Says now and then how far this process is."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told = time.monotonic()

    def count(self, outcome: str) -> None:
        """A photo has had this outcome."""
        self._counts[outcome] += 1
        if time.monotonic() - self._told < _SECONDS_BETWEEN_NOTES:
            return
        self._told = time.monotonic()
        counts = ", ".join(f"{count} {name}" for name, count in self._counts.items())
        print_note(f"worker {os.getpid()}: {counts} so far.")


@functools.lru_cache(maxsize=1)
def _progress(run: Run) -> _Progress:
    return _Progress()


def _write_manifest(run: Run, key: int, lines: Iterable[str]) -> None:
    """Writes all lines, which need not fit into the memory."""

    def save(stream: Any) -> None:
        for line in lines:
            stream.write(f"{line}\n".encode())

    # Not refused if it is there: an engine may repeat its work.
    write_file(run.manifest, save, folder=run.output, replace=True)
