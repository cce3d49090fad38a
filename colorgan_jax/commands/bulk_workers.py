"""The worker processes of `colorgan bulk` on this machine: `python -m` this module is one.

Beam has worker processes of its own. But it waits without end for one that is killed before
it begins, prints tracebacks when one is killed later, and leaves them to themselves at
Ctrl-C. Otherwise these are the same.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

# In a worker, before Beam is imported, which logs then: what goes wrong is told by the
# process that started it.
if __name__ == "__main__":
    logging.disable(logging.CRITICAL)

import grpc  # pyright: ignore[reportMissingImports] (Beam's, the extra `bulk`)
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (  # pyright: ignore[reportMissingImports]
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.worker import (  # pyright: ignore[reportMissingImports]
    sdk_worker_main,
)
from apache_beam.transforms.environments import (  # pyright: ignore[reportMissingImports]
    Environment,
    python_sdk_capabilities,
)
from google.protobuf import text_format

from colorgan_jax.errors import CommandError

_URN = "colorgan:worker:v1"
_SECONDS_BETWEEN_LOOKS = 0.5

_workers: "list[_Worker]" = []


@Environment.register_urn(_URN, bytes)
class WorkerProcesses(Environment):
    """What Beam's FnApiRunner has to be given to work in these processes."""

    def __init__(self, options: bytes):
        """`options` are Beam's, as JSON: the file systems of the workers need them."""
        super().__init__(capabilities=python_sdk_capabilities())
        self._options = options

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """As Beam wants it."""
        return _URN, self._options

    @staticmethod
    def from_runner_api_parameter(
        options: bytes, *parameters: Any
    ) -> "WorkerProcesses":
        """As Beam wants it."""
        return WorkerProcesses(options)


@WorkerHandler.register_environment(_URN, bytes)
class _Worker(GrpcWorkerHandler):
    """A worker process, as Beam's runner sees it.

    Attributes:
      process: the process itself.
      was_killed: whether it ended before its work.
    """

    process: subprocess.Popen
    was_killed = False

    def __init__(self, options: bytes, *services: Any):
        super().__init__(*services)
        self._options = options.decode()
        self._is_closed = threading.Event()

    def start_worker(self) -> None:
        """Starts the process, and watches it."""
        control = self.control_api_service_descriptor()
        environment = {
            **os.environ,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
            "PIPELINE_OPTIONS": self._options,
            "WORKER_ID": self.worker_id,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__], env=environment
        )
        _workers.append(self)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        self.process.wait()
        # Whatever waits for this worker, now or later, would wait without end.
        while not self._is_closed.wait(_SECONDS_BETWEEN_LOOKS):
            self.data_conn.close()
            with contextlib.suppress(RuntimeError):  # Others change the dictionary.
                self.control_conn.abort(RuntimeError("A worker ended."))

    def close(self) -> None:
        """Ends the process: the work is done, or what was begun is in vain."""
        self.was_killed = self.process.poll() is not None
        self._is_closed.set()
        # Nothing is left to do there, and libraries complain while they are unloaded.
        self.process.kill()
        super().close()

    def stop_worker(self) -> None:
        """Waits for the end of the process."""
        self.process.wait()


@contextlib.contextmanager
def watched_workers() -> Iterator[None]:
    """Runs a pipeline such that no worker outlives it.

    Raises:
      CommandError: a worker was killed.
    """
    _workers.clear()

    def interrupt(number: int, frame: Any) -> None:
        _kill_workers()  # Beam would wait for them.
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt), threading.excepthook
    threading.excepthook = _pass_over_broken_channels
    try:
        yield
    except Exception as error:
        if any(worker.was_killed for worker in _workers):
            raise CommandError(
                "A worker was killed, perhaps because the memory was full; fewer of them"
                " take less (--direct_num_workers)."
            ) from error
        raise
    finally:
        _kill_workers()
        signal.signal(signal.SIGINT, before[0])
        threading.excepthook = before[1]


def _kill_workers() -> None:
    for worker in _workers:
        worker.process.kill()


def _pass_over_broken_channels(arguments: threading.ExceptHookArgs) -> None:
    """A `threading.excepthook`: the other side of a channel may end at any time."""
    if not issubclass(arguments.exc_type, grpc.RpcError):
        threading.__excepthook__(arguments)


def silence_patterns() -> None:
    """Silences Python where Beam reads patterns in which a bracket stands for itself."""
    warnings.filterwarnings("ignore", "Possible nested set", FutureWarning)


def _work() -> None:
    """Works until the process that started this one ends it, or has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.excepthook = _pass_over_broken_channels
    silence_patterns()
    with contextlib.suppress(grpc.RpcError):
        sdk_worker_main.main(sys.argv)
    os._exit(0)  # Not as usual: other threads may still wait for the channels.


if __name__ == "__main__":
    _work()
