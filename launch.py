"""Trains the colorization GAN.

Command: python launch.py --config=configs/pix2pix.py
Resume: rerun the same command. Every value of the config can be overridden:
--config.batch_size=8.
"""

import faulthandler
import io
import logging as python_logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags import tuple_parser


class _NamesParser(tuple_parser.TupleParser):
    """Takes names as they are, whatever is in them; the flag may be given repeatedly."""

    def parse(self, argument: str | list[str] | tuple[str, ...]) -> tuple[str, ...]:
        return (argument,) if isinstance(argument, str) else tuple(argument)


# The type of data.source in configs/pix2pix.py.
config_flags.register_flag_parser_for_type(str | tuple, _NamesParser())
_CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run, or gs://BUCKET/NAME. Default: runs/<name of the config file>.",
)
_MULTIHOST = flags.DEFINE_bool(
    "multihost",
    False,
    "Train together with the other hosts of the job, each of which runs this command. On a"
    " Cloud TPU, GKE, Slurm and Open MPI they find each other; elsewhere all three of the"
    " next flags say where they are.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT, a free port of the first host."
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes",
    None,
    "How many processes train together, one a host or, under Slurm, a GPU.",
    lower_bound=1,
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this is; the first one is 0.", lower_bound=0
)
flags.mark_flag_as_required("config")

# Says "try again" to whatever started this (EX_TEMPFAIL of sysexits.h).
_TRY_AGAIN = 75


def main(arguments: list[str]) -> None:
    """Hands the flags over to `colorgan_jax.training.train`."""
    if arguments[1:]:
        _fail(
            f"it takes flags only; found {' '.join(arguments[1:])}. Photos are named by"
            " --config.data.source=FOLDER."
        )
    config_file = Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    if not config_file.is_file():
        configs = sorted((Path(__file__).parent / "configs").glob("[!_]*.py"))
        names = ", ".join(map(os.path.relpath, configs))
        _fail(f"--config: there is no file {config_file}; there are {names}.")
    for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID):
        if flag.value is not None and not _MULTIHOST.value:
            _fail(f"--{flag.name} is for several hosts: it goes with --multihost.")
    workdir = _WORKDIR.value or Path("runs") / config_file.stem
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names may be unprintable.
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().setFormatter(
        python_logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    )
    # JAX would report each kind of accelerator that it looks for and does not find, and
    # TensorFlow its operations.
    python_logging.getLogger("jax").setLevel(python_logging.WARNING)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

    # Imported after the flags are checked: JAX and TensorFlow take seconds.
    import jax

    from colorgan_jax.compilation import enable_compilation_cache
    from colorgan_jax.errors import ColorganError
    from colorgan_jax.paths import set_up_buckets
    from colorgan_jax.photos import silence_decoders
    from colorgan_jax.training import hosts
    from colorgan_jax.training.checkpoint import silence_orbax
    from colorgan_jax.training.train import train

    set_up_buckets()
    silence_decoders()
    enable_compilation_cache()
    silence_orbax()
    try:
        if _MULTIHOST.value:
            # JAX aborts the process where others are gone: a stack of Python's explains
            # nothing then.
            faulthandler.disable()
            hosts.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
            if jax.process_index() != 0:  # The first host speaks for all.
                logging.set_verbosity(logging.ERROR)
        stopped_by = train(_CONFIG.value, workdir)
    except ColorganError as error:
        _fail(str(error))
    except OSError as error:  # Such as a full disk, or a folder that is read-only.
        _fail(
            f"{error}. What was saved before is intact; resume: mend this and rerun the"
            " same command."
        )
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        _fail(
            f"another host of the job is gone ({str(error).splitlines()[0]}). What was"
            " saved before is intact; resume: rerun the same command on all hosts.",
            _TRY_AGAIN,
        )
    except KeyboardInterrupt:
        _fail("interrupted; what was saved before is intact.")
    if stopped_by:
        print(f"Stopped by {stopped_by}. Resume: rerun the same command.")
        # What shells and job schedulers expect of a program ended by a signal.
        by_signal = "SIGTERM" if stopped_by == "preemption" else stopped_by
        if by_signal in signal.Signals.__members__:
            sys.exit(128 + signal.Signals[by_signal])
        sys.exit(_TRY_AGAIN)


def _fail(message: str, status: int = 1) -> NoReturn:
    """Ends the program with a sentence."""
    print(f"launch.py: {message}", file=sys.stderr)
    if _MULTIHOST.value:
        # At once: in its own way JAX waits for the other hosts, which wait for this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _parse_flags(arguments: list[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except AttributeError as error:  # Of ml_collections; its text suggests a name.
        name, *guess = re.findall(r"[\"']+(\w+)[\"']", str(error).replace("\\", ""))
        hint = f"did you mean {guess[0]}? " if guess else ""
        problem = f"the config has no value {name}: {hint}configs/pix2pix.py lists all."
    except flags.UnrecognizedFlagError as error:
        text = str(error).replace(" ?", "?")
        problem = f"{text} (Config values are set by --config.NAME=VALUE.)"
    except flags.Error as error:
        if flags.FLAGS["config"].present:
            problem = f"{error}."
        else:
            problem = "name a config, such as --config=configs/pix2pix.py."
    sys.exit(f"launch.py: {problem}")


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
