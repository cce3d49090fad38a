"""The survey's web pages: a welcome, one photo at a time, a word of thanks.

The pages are plain HTML with forms (`pages/`) and work without JavaScript. What a rater
sees depends on the database alone, so reloading, going back, returning the next day and
restarting the server all lead to the photo that is to be rated now.

Nothing that a browser receives tells real photos from generated ones: each rater has
random tokens of one length for them, and all are sent as PNGs of one size, in pixels and
in bytes.
"""

import html
import io
import logging
import sqlite3
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from colorgan_jax.serving import create_web_server, ignore_disconnect, read_body
from colorgan_jax.survey.database import SurveyDatabase, SurveyPhoto

QUESTION = "How realistic are the colors of this photo?"

_PAGES = Path(__file__).parent / "pages"
_COOKIE_SECONDS = 365 * 24 * 3600
_MAXIMUM_BODY = 1024  # bytes; a rating takes 37
_RATINGS = {str(rating): rating for rating in range(1, 6)}

_CONTENT_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    # The page of a photo that has been rated must not come back, and no photo may stay
    # on the rater's disk, where it could be compared with another rater's.
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _CONTENT_POLICY),
]


def create_server(
    database: SurveyDatabase, photos: Sequence[SurveyPhoto]
) -> uvicorn.Server:
    """Builds the web server; its `run(sockets=[...])` serves until Ctrl-C.

    Args:
      database: the survey, with these photos.
      photos: what the raters see.
    """
    return create_web_server(_create_app(database, photos), _HEADERS)


def _create_app(database: SurveyDatabase, photos: Sequence[SurveyPhoto]) -> Starlette:
    app = Starlette(
        routes=[
            Route("/", _welcome),
            Route("/start", _start, methods=["POST"]),
            Route("/rate", _Rate),
            Route("/photo/{token}", _send_photo),
            Mount("/static", StaticFiles(directory=_PAGES / "static")),
        ],
        # Starlette declares handlers of any exception; it calls each for its own kind.
        exception_handlers={  # pyright: ignore[reportArgumentType]
            HTTPException: _explain,
            sqlite3.Error: _explain_storage,
            ClientDisconnect: ignore_disconnect,
        },
    )
    app.state.database = database
    app.state.photos = [_encode(photo) for photo in photos]
    return app


def _encode(photo: SurveyPhoto) -> bytes:
    """A PNG without compression: its length depends on the size in pixels alone."""
    encoded = io.BytesIO()
    Image.fromarray(photo.pixels).save(encoded, format="PNG", compress_level=0)
    return encoded.getvalue()


def _welcome(request: Request) -> Response:
    if _find_rater(request):
        return _redirect("/rate")
    return _page(
        "welcome.html",
        title="Survey",
        count=len(request.app.state.photos),
        question=request.app.state.database.question,
    )


def _start(request: Request) -> Response:
    response = _redirect("/rate")
    if not _find_rater(request):
        database = request.app.state.database
        response.set_cookie(
            database.cookie,
            database.add_rater(),
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="lax",  # it is sent along when a rater follows a link to the survey
            secure=request.url.scheme == "https",
        )
    return response


class _Rate(HTTPEndpoint):
    """The photo that a rater is to rate now, and where the rating goes."""

    def get(self, request: Request) -> Response:
        database, count = request.app.state.database, len(request.app.state.photos)
        trial = database.current_trial(_require_rater(request))
        if trial is None:
            return _page("thanks.html", title="Thank you", count=count)
        return _page(
            "trial.html",
            title=f"Photo {trial.position} of {count}",
            token=trial.token,
            question=database.question,
            position=trial.position,
            done=trial.position - 1,
            count=count,
        )

    async def post(self, request: Request) -> Response:
        body = await read_body(request, _MAXIMUM_BODY)
        if body is None:
            raise HTTPException(
                413, "That is too long for a rating.", {"Connection": "close"}
            )
        form = parse_qs(body.decode("latin-1"))
        return await run_in_threadpool(_rate, request, form)


def _rate(request: Request, form: dict[str, list[str]]) -> Response:
    database = request.app.state.database
    rater = _require_rater(request)
    ratings = form.get("rating", [])
    if len(ratings) != 1 or ratings[0] not in _RATINGS:
        raise HTTPException(400, "A rating is a number from 1 to 5.")
    trial = database.find_trial(rater, form.get("photo", [""])[0])
    if trial is None:
        raise HTTPException(404, "This photo is not one of yours to rate.")
    counts = database.rate(trial, _RATINGS[ratings[0]])
    if counts and database.current_trial(rater) is None:
        finished = database.count_finished()
        raters = "rater has" if finished == 1 else "raters have"
        print(f"{finished} {raters} finished.", flush=True)
    return _redirect("/rate")


def _send_photo(request: Request) -> Response:
    rater, token = _require_rater(request), request.path_params["token"]
    trial = request.app.state.database.find_trial(rater, token)
    if trial is None:
        raise HTTPException(404, "This photo is not one of yours to rate.")
    return Response(request.app.state.photos[trial.photo], media_type="image/png")


def _find_rater(request: Request) -> str | None:
    """The id of the rater whose browser this is, None where the survey has none."""
    database = request.app.state.database
    rater = request.cookies.get(database.cookie)
    return rater if rater and database.has_rater(rater) else None


def _require_rater(request: Request) -> str:
    rater = _find_rater(request)
    if rater is None:
        raise HTTPException(
            403,
            "Your browser did not send this survey's cookie. Allow cookies for this page,"
            " then start.",
        )
    return rater


def _explain(request: Request, error: HTTPException) -> Response:
    """The page for a request that cannot be answered."""
    message = error.detail
    if message == HTTPStatus(error.status_code).phrase:  # Starlette's own: no sentence
        message = "There is no such page."
    page = _page("error.html", title="Survey", message=message)
    page.status_code = error.status_code
    page.headers.update(error.headers or {})
    return page


def _explain_storage(request: Request, error: sqlite3.Error) -> Response:
    """The page for a disk that is full, gone or read-only, and a line for the operator."""
    logging.getLogger(__name__).error("The database cannot be used: %s.", error)
    return _explain(
        request,
        HTTPException(
            503,
            "Your answer could not be saved. What you rated before is safe: please try"
            " again in a moment.",
        ),
    )


def _redirect(path: str) -> Response:
    return RedirectResponse(path, status_code=303)  # 303: with GET, whatever it was


def _page(name: str, *, title: str, **values: str | int) -> HTMLResponse:
    """One of the pages in the frame that all share."""
    values = {key: html.escape(str(value)) for key, value in values.items()}
    content = Template((_PAGES / name).read_text("utf-8")).substitute(values)
    frame = Template((_PAGES / "frame.html").read_text("utf-8"))
    return HTMLResponse(frame.substitute(title=html.escape(title), content=content))
