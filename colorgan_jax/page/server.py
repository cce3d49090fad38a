"""The page from this machine, whose network colorizes for all browsers if they wish.

A browser that asks for it sends the lightness of a photo as the network sees it and gets what
the network makes of that: colors, and the features that hints compare. The photo itself stays
in the browser, and nothing is kept here.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.hints import Kernel
from colorgan_jax.inference import look_at
from colorgan_jax.lab import AB_SCALE
from colorgan_jax.page.site import build_site
from colorgan_jax.params import Params, image_size
from colorgan_jax.serving import create_web_server, ignore_disconnect, read_body

_ADDRESS = "look"
# Photos that the network sees together, and how many may wait for it.
_BATCH = 8
_MOST_WAITING = 256

_HEADERS = [
    ("Cache-Control", "no-cache"),  # Ask whether it has changed, then use what is kept.
    # Without these two no browser gives WebAssembly threads.
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
]
_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
    "svg": "image/svg+xml",
    "jpg": "image/jpeg",
    "txt": "text/plain",
}


def create_server(params: Params, *, webgpu: bytes | None = None) -> uvicorn.Server:
    """Builds the web server; its `run(sockets=[...])` serves until Ctrl-C.

    Args:
      params: parameters of a generator.
      webgpu: as for `build_site`.

    Raises:
      ParamsError: if `params` are not a generator's.
      CommandError: as for `build_site`.
    """
    network = _Network(params)
    files = build_site(
        params,
        webgpu=webgpu,
        server={"address": _ADDRESS, "features": network.feature_shapes},
    )

    async def send_file(request: Request) -> Response:
        name = request.path_params["name"] or "index.html"
        if name not in files:
            raise HTTPException(404, "There is no such page.")
        kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        return Response(files[name], media_type=kind)

    async def look(request: Request) -> Response:
        L = await _read_lightness(request, network.size)
        answer = await network.look(L)
        return Response(answer, media_type="application/octet-stream")

    app = Starlette(
        routes=[
            Route(f"/{_ADDRESS}", look, methods=["POST"]),
            Route("/{name:path}", send_file),
        ],
        # Starlette declares handlers of any exception; it calls each for its own kind.
        exception_handlers={  # pyright: ignore[reportArgumentType]
            HTTPException: _explain,
            ClientDisconnect: ignore_disconnect,
        },
    )
    return create_web_server(app, _HEADERS)


async def _read_lightness(request: Request, size: int) -> np.ndarray:
    """Reads float32 [size, size], and no byte more."""
    expected = 4 * size * size
    body = await read_body(request, expected)
    if body is None or len(body) != expected:
        raise HTTPException(
            400,
            f"This takes the lightness of {size}x{size} pixels: {expected} bytes.",
            {"Connection": "close"},
        )
    L = np.frombuffer(body, "<f4").reshape(size, size)
    if not (np.isfinite(L).all() and L.min() >= -1 and L.max() <= 101):
        raise HTTPException(400, "Lightness is from 0 to 100.")
    return L


def _explain(request: Request, error: HTTPException) -> Response:
    return PlainTextResponse(error.detail, error.status_code, error.headers)


@dataclasses.dataclass(frozen=True)
class _Waiting:
    """A photo that waits for the network, and who waits for the answer."""

    L: np.ndarray
    answer: asyncio.Future[bytes]


class _Network:
    """The network, which looks at the photos of several people at a time.

    Attributes:
      size: height and width of what it sees.
      feature_shapes: block, C, h and w of each part of an answer behind ab.
    """

    def __init__(self, params: Params):
        self.size = image_size(params)
        self._waiting: list[_Waiting] = []
        self._turn = asyncio.Lock()
        blocks = [block for block, _ in Kernel().features]

        def see(L: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
            look = look_at(params, L)
            features = [
                jnp.transpose(look.features[block - 1], (0, 3, 1, 2))
                for block in blocks
                if block <= len(look.features)
            ]
            return AB_SCALE * jnp.asarray(look.ab), features

        self._see: Callable = jax.jit(see, compiler_options=memory_saving_options())
        # Compiled now, not while somebody waits.
        for count in (1, _BATCH):
            _, features = self._see(np.zeros((count, self.size, self.size), np.float32))
        self.feature_shapes = [
            [block, *feature.shape[1:]]
            for block, feature in zip(blocks, features, strict=False)
        ]

    async def look(self, L: np.ndarray) -> bytes:
        """What the network makes of a photo: ab and features, float32."""
        if len(self._waiting) >= _MOST_WAITING:
            raise HTTPException(
                503, "Too many photos wait here: please try again soon."
            )
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(L, answer))
        # Turns are taken in the order of the waiting: whose turn comes is the first of
        # them, unless an earlier turn answered this one as well.
        async with self._turn:
            if not answer.done():
                batch = self._waiting[:_BATCH]
                del self._waiting[:_BATCH]
                try:
                    answers = await run_in_threadpool(
                        self._answer, [waiting.L for waiting in batch]
                    )
                except Exception as error:  # It is each one's answer.
                    for waiting in batch:
                        waiting.answer.set_exception(error)
                else:
                    for waiting, content in zip(batch, answers, strict=True):
                        waiting.answer.set_result(content)
        return await answer

    def _answer(self, photos: Sequence[np.ndarray]) -> list[bytes]:
        count = 1 if len(photos) == 1 else _BATCH
        L = np.zeros((count, self.size, self.size), np.float32)
        L[: len(photos)] = photos
        ab, features = jax.device_get(self._see(L))
        return [
            b"".join(array[k].astype("<f4").tobytes() for array in (ab, *features))
            for k in range(len(photos))
        ]
