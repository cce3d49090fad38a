"""What web servers on this computer share: the survey's and the page's."""

import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from colorgan_jax.errors import CommandError

_BACKLOG = 2048
_HEADERS = [
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]


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
      headers: of every answer, beside those of all servers here.
    """
    config = uvicorn.Config(
        app,
        headers=[*headers, *_HEADERS],
        server_header=False,
        log_config=None,  # the program has set up its own
        access_log=False,
        log_level="error",  # not each port scanner
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=3,
    )
    return uvicorn.Server(config)


async def read_body(request: Request, most: int) -> bytes | None:
    """Reads what a request sends, or None if that is more than so many bytes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            return None
    return bytes(body)


def ignore_disconnect(request: Request, error: ClientDisconnect) -> Response:
    """The answer to a browser that went away in mid-request: nobody reads it."""
    return Response(status_code=400)
