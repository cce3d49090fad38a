"""Web servers on this computer: the survey's and the page's."""

import socket

import uvicorn
from starlette.applications import Starlette

from colorgan_jax.errors import CommandError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """Binds the port, before people are told of it.

    Args:
      host: an address of this computer.
      port: 0 picks a free one.

    Raises:
      CommandError: it cannot be bound.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        # Python appends the address.
        reason, *_ = (error.strerror or str(error)).split(" (while")
        raise CommandError(
            f"Nothing can be served at --host {host} --port {port}: {reason}."
        ) from error


def addresses(listener: socket.socket) -> str:
    """A sentence: what to open in a browser."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        return (
            f"Open http://localhost:{port}/ here, or port {port} of this computer's"
            " address on other devices."
        )
    return f"Open http://{f'[{host}]' if ':' in host else host}:{port}/ ."


def create_web_server(app: Starlette, headers: list[tuple[str, str]]) -> uvicorn.Server:
    """Builds a web server; its `run(sockets=[...])` serves until Ctrl-C.

    Args:
      app: what answers.
      headers: of every answer.
    """
    config = uvicorn.Config(
        app,
        headers=headers,
        server_header=False,
        log_config=None,  # the program has set up its own
        access_log=False,
        log_level="error",  # not each port scanner
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)
