"""What `colorgan bulk` does on the machine where it is started."""

import argparse
import contextlib
import glob
import json
import logging
import os
import re
import time
from collections import Counter

import apache_beam as beam  # pyright: ignore[reportMissingImports] (the extra `bulk`)
from apache_beam.io.filesystems import (  # pyright: ignore[reportMissingImports]
    FileSystems,
)
from apache_beam.options.pipeline_options import (  # pyright: ignore[reportMissingImports]
    DirectOptions,
    PipelineOptions,
)
from apache_beam.runners.portability.fn_api_runner import (  # pyright: ignore[reportMissingImports]
    FnApiRunner,
)

from colorgan_jax.commands.bulk_pipeline import (
    COLORIZED,
    FAILED,
    LEFT_OUT,
    SKIPPED,
    Run,
    build,
)
from colorgan_jax.commands.bulk_workers import (
    WorkerProcesses,
    silence_patterns,
    watched_workers,
)
from colorgan_jax.commands.options import RESULT_FORMATS
from colorgan_jax.commands.outputs import digest
from colorgan_jax.commands.rendering import Rendering
from colorgan_jax.commands.storage import check_folder, exists, is_local, open_file
from colorgan_jax.errors import CommandError, print_error, print_note
from colorgan_jax.params import RELEASED, fingerprint, load_params

# Beam's names of what runs here. The first two may hand over to Prism, a program that they
# download; FnApiRunner does the same work without it.
_LOCAL_RUNNERS = {"directrunner", "switchingdirectrunner", "fnapirunner", "direct"}
_WILDCARD = re.compile(r"[*?[]")
# Of the photos that fail, so many are told; the manifest has all.
_FAILURES_SHOWN = 10
# What Beam adds to the message of an exception.
_STEP = re.compile(r" \[while running [^]]*\]")
_KIND = re.compile(r"^[\w.]+(Error|Exception): ")


def run(options: argparse.Namespace) -> int:
    """Runs the command.

    Args:
      options: those of `commands.bulk`.

    Returns:
      The exit status: 1 if photos failed.

    Raises:
      ColorganError: nothing can be done, or the run ended early.
    """
    beam_options, runner = _read_beam_options(options.beam_options)
    FileSystems.set_options(beam_options)
    silence_patterns()
    patterns, root, takes_all = _find(options.input)
    output = _expand(options.output)
    if _is_below(root, output):
        raise CommandError(
            f"The photos, {options.input}, lie in the folder for the results; name another"
            " with --output."
        )
    manifest = _expand(options.manifest or _default_manifest(output))
    if exists(manifest):
        raise CommandError(f"{manifest} is there already; name another --manifest.")
    settings = _describe(
        options, root=root, takes_all=takes_all, output=output, manifest=manifest
    )
    check_folder(output)

    if runner is None:  # What the engine says of the job is for the user.
        logging.disable(logging.NOTSET)
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        pipeline = beam.Pipeline(runner=runner, options=beam_options)
    # Of many kinds: there is no such engine, its library is missing, or an option.
    except Exception as error:
        raise CommandError(
            f"Apache Beam cannot run this: {_last_sentence(error)}"
        ) from error
    build(pipeline, patterns, settings)
    try:
        with watched_workers() if runner else contextlib.nullcontext():
            pipeline.run().wait_until_finish()
    # Of many kinds: each engine has its own.
    except Exception as error:
        raise CommandError(
            f"The run ended early: {_last_sentence(error)} What is finished stays; rerun"
            " the same command to go on."
        ) from error
    return _summarize(options.input, output, manifest)


def _read_beam_options(
    words: list[str],
) -> tuple[PipelineOptions, FnApiRunner | None]:
    """Beam's options, and what runs the pipeline if it is to run on this machine.

    Raises:
      CommandError: there is no such option.
    """
    options = PipelineOptions(words)
    given = options.get_all_options(drop_default=True)
    if given.get("runner", "DirectRunner").lower() not in _LOCAL_RUNNERS:
        # Options that Beam does not know may be that engine's.
        return options, None
    everything = options.get_all_options(drop_default=True, retain_unknown_options=True)
    if unknown := sorted(everything.keys() - given.keys()):
        raise CommandError(
            f"There is no option --{unknown[0]}, neither of colorgan bulk nor of Apache"
            " Beam."
        )
    direct = options.view_as(DirectOptions)
    if any(word.startswith("--direct_running_mode") for word in words):
        if direct.direct_running_mode != "multi_processing":
            return options, FnApiRunner()
    if not any(word.startswith("--direct_num_workers") for word in words):
        direct.direct_num_workers = 0  # One for each core.
    direct.direct_running_mode = "in_memory"  # The runner's environment stays, then.
    told = json.dumps(options.get_all_options(drop_default=True)).encode()
    return options, FnApiRunner(default_environment=WorkerProcesses(told))


def _expand(path: str) -> str:
    return os.path.expanduser(path) if is_local(path) else path


def _find(words: str) -> tuple[list[str], str, bool]:
    """What to look for.

    Args:
      words: a folder, a photo or a pattern.

    Returns:
      Patterns in Beam's syntax, the folder whose tree the results keep (with a slash at its
      end), and whether all files in it are meant.

    Raises:
      CommandError: nothing matches, or the file system cannot be used.
    """
    path = _expand(words)
    try:
        if is_local(path):
            patterns, root, takes_all = _find_here(path)
        elif _WILDCARD.search(path):
            patterns, root, takes_all = [path], _fixed_part(path), False
        elif path.endswith("/") or not FileSystems.exists(path):
            root = f"{path.rstrip('/')}/"
            patterns, takes_all = [f"{root}**"], True
        else:
            patterns, root, takes_all = [path], _fixed_part(path), False
        # In other programs ** stands for no folder as well.
        patterns += [
            pattern.replace("**/", "") for pattern in patterns if "**/" in pattern
        ]
        found = any(
            match.metadata_list
            for pattern in patterns
            for match in FileSystems.match([pattern], limits=[1])
        )
    # Of many kinds: those of the libraries of the clouds, or one is not installed.
    except Exception as error:
        reason = next(iter(getattr(error, "exception_details", {}).values()), error)
        raise CommandError(f"{words} cannot be searched: {reason}") from error
    if not found:
        raise CommandError(f"{words} matches no file.")
    return patterns, root, takes_all


def _find_here(path: str) -> tuple[list[str], str, bool]:
    """As `_find`, for a path of this machine."""
    if os.path.isdir(path):
        root = os.path.join(path.rstrip(os.sep), "")
        return [f"{glob.escape(root)}**"], root, True
    if not os.path.dirname(path):
        path = os.path.join(os.curdir, path)
    if os.path.exists(path):
        return [glob.escape(path)], _fixed_part(os.path.dirname(path) + "/"), False
    return [path], _fixed_part(path), False


def _fixed_part(pattern: str) -> str:
    """The folder, with a slash at its end, before the first wildcard."""
    fixed = _WILDCARD.split(pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def _is_below(folder: str, other: str) -> bool:
    """Whether a folder is another one or in it."""
    if is_local(folder) and is_local(other):
        folder, other = os.path.realpath(folder), os.path.realpath(other)
    return f"{folder.rstrip('/')}/".startswith(f"{other.rstrip('/')}/")


def _default_manifest(output: str) -> str:
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return f"{output.rstrip('/')}/manifest-{now}.jsonl"


def _describe(
    options: argparse.Namespace,
    *,
    root: str,
    takes_all: bool,
    output: str,
    manifest: str,
) -> Run:
    """What the workers need to know. Loads the weights, to see that they can be."""
    params = load_params(options.params)
    style = {
        "saturation": options.saturation,
        "format": RESULT_FORMATS.get(options.format),
        "quality": options.quality,
        "side_by_side": options.side_by_side,
        "has_provenance": not options.no_provenance,
    }
    rendering = Rendering(params=params, reference=None, **style)
    return Run(
        root=root,
        takes_all=takes_all,
        output=output,
        manifest=manifest,
        # Those that come with the package lie elsewhere on other machines.
        params=None if options.params == RELEASED else str(options.params),
        fingerprint=fingerprint(params),
        settings=digest(rendering.settings()),
        overwrite=options.overwrite,
        **style,
    )


def _last_sentence(error: Exception) -> str:
    """The last line of an error, which Beam gives with the traceback of the worker."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = _STEP.sub("", lines[-1]) if lines else type(error).__name__
    line = _KIND.sub("", line)
    return line if line.endswith(".") else f"{line}."


def _summarize(words: str, output: str, manifest: str) -> int:
    """Tells the outcomes."""
    counts: Counter[str] = Counter()
    try:
        with open_file(manifest) as lines:
            for line in lines:
                outcome = json.loads(line)
                counts[outcome["outcome"]] += 1
                if outcome["outcome"] != FAILED:
                    continue
                if counts[FAILED] <= _FAILURES_SHOWN:
                    print_error(outcome["reason"])
    # Of many kinds: those of the libraries of the clouds.
    except Exception as error:
        raise CommandError(
            f"The run is done, but {manifest} cannot be read here: {error}."
        ) from error
    if not counts.keys() - {LEFT_OUT}:
        raise CommandError(f"{words} holds no photos.")
    if counts[FAILED] > _FAILURES_SHOWN:
        print_error(
            f"{counts[FAILED] - _FAILURES_SHOWN} more, which the manifest names."
        )
    told = ", ".join(
        f"{counts[outcome]} {outcome}"
        for outcome in (COLORIZED, SKIPPED, FAILED, LEFT_OUT)
    )
    print(f"Results in {output}: {told}.")
    print(f"The outcome of each photo: {manifest}")
    if counts[SKIPPED]:
        print_note("what is skipped was there before; --overwrite colorizes it anew.")
    return 1 if counts[FAILED] else 0
