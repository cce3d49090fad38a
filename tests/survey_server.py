"""A survey of ten small photos, served over HTTP by a thread of the tests."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np
import requests
from PIL import Image
from running_server import run_server

from colorgan_jax.survey.database import SurveyDatabase
from colorgan_jax.survey.selection import choose_photos
from colorgan_jax.survey.server import QUESTION, create_server

COUNT = 5


def save_photos(folder: Path, size: int = 24) -> None:
    """Five "real" photos of noise, and five smooth "generated" ones, told by color."""
    random = np.random.default_rng(0)
    for number in range(COUNT):
        for kind in ("real", "generated"):
            pixels = np.zeros((size, size, 3), np.uint8)
            pixels[..., 0] = 40 * number
            pixels[..., 1] = 200 if kind == "real" else 0
            if kind == "real":
                pixels[..., 2] = random.integers(0, 256, (size, size))
            path = folder / kind / f"{kind}-{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)


@contextlib.contextmanager
def serve(folder: Path):
    """Serves the photos of `folder`, with its survey.db; yields the address."""
    photos = choose_photos(
        folder / "real", folder / "generated", count=COUNT, seed=0, report=print
    )
    with (
        SurveyDatabase(folder / "survey.db", photos, QUESTION) as database,
        run_server(create_server(database, photos)) as address,
    ):
        yield address


def find_token(page: str) -> str:
    (token,) = re.findall(r'src="/photo/([^"]+)"', page)
    return token


def identify(png: bytes) -> str:
    """The name of the photo that was sent, told by its colors as `save_photos` made."""
    red, green, _ = np.array(Image.open(io.BytesIO(png)))[0, 0]
    return f"{'real' if green else 'generated'}-{red // 40}.png"


def opinion(name: str) -> int:
    """What the raters of these tests think of a photo: from 1 to 5."""
    return (int(name[-5]) + name.startswith("real")) % 5 + 1


def rate_photos(url: str, session: requests.Session, page: str, stop: int) -> list[str]:
    """Rates photos like a browser, from the page of one on, until `stop` were rated.

    Returns the photos' names in the order in which they were shown.
    """
    names = []
    for _ in range(stop):
        token = find_token(page)
        names.append(identify(session.get(f"{url}/photo/{token}").content))
        rating = {"photo": token, "rating": opinion(names[-1])}
        page = session.post(f"{url}/rate", data=rating).text
    return names
