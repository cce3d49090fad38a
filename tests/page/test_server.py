"""The page's server over HTTP: many people at once, and what it refuses."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
from running_server import run_server
from tiny_generator import random_params

from colorgan_jax.inference import predict_photos_ab
from colorgan_jax.lab import AB_SCALE
from colorgan_jax.page.server import create_server

SIZE = 8


@pytest.fixture(scope="module")
def url():
    with run_server(create_server(random_params(seed=0))) as address:
        yield address


def lightness(seed):
    return np.random.default_rng(seed).uniform(0, 100, (SIZE, SIZE)).astype("<f4")


def read_ab(answer):
    numbers = np.frombuffer(answer, "<f4")
    return numbers[: 2 * SIZE * SIZE].reshape(SIZE, SIZE, 2)


def test_fifty_people_at_once_get_their_own_colors(url):
    barrier = threading.Barrier(50)

    def ask(seed):
        session = requests.Session()
        barrier.wait()
        answers = []
        for photo in range(4):
            L = lightness(100 * seed + photo)
            answer = session.post(f"{url}/look", data=L.tobytes())
            assert answer.status_code == 200, answer.text
            answers.append((L, read_ab(answer.content)))
        return answers

    with ThreadPoolExecutor(50) as pool:
        answers = [pair for pairs in pool.map(ask, range(50)) for pair in pairs]
    photos = np.stack([L for L, _ in answers])
    expected = AB_SCALE * predict_photos_ab(random_params(seed=0), photos)
    np.testing.assert_allclose([ab for _, ab in answers], expected, atol=1e-3)


@pytest.mark.parametrize(
    "body, sentence",
    [
        (b"", "256 bytes"),
        (lightness(0).tobytes()[:-1], "256 bytes"),
        (bytes(50_000_000), "256 bytes"),
        (np.full(64, np.nan, "<f4").tobytes(), "from 0 to 100"),
        (np.full(64, 1e9, "<f4").tobytes(), "from 0 to 100"),
    ],
)
def test_what_is_no_lightness_is_refused(url, body, sentence):
    try:
        answer = requests.post(f"{url}/look", data=body)
    except requests.ConnectionError:
        assert len(body) > 1e6  # The server hung up amid a body that is far too long.
    else:
        assert answer.status_code == 400 and sentence in answer.text
    answer = requests.post(f"{url}/look", data=lightness(0).tobytes())
    assert answer.status_code == 200


def test_only_the_files_of_the_page_are_sent(url):
    assert "<title>colorgan" in requests.get(url).text
    assert requests.get(f"{url}/site.json").json()["size"] == SIZE
    for path in ("/nothing", "/../server.py", "/%2e%2e/server.py", "/examples"):
        assert requests.get(url + path).status_code == 404
    assert requests.get(f"{url}/look").status_code in (404, 405)


def test_browsers_are_told_what_threads_need(url):
    headers = requests.get(url).headers
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
