"""The page's server over HTTP: many people at once, and what it refuses."""

import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from running_server import run_server
from tiny_generator import random_params

from colorgan_jax import load_params
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


@pytest.mark.slow  # Half a minute: the released weights.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells memory")
def test_fifty_people_take_no_more_memory_than_a_few():
    command = [sys.executable, "-m", "colorgan_jax", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = re.search(r"http://\S+", server.stdout.readline())[0]

        def most_memory():
            status = Path(f"/proc/{server.pid}/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000

        photos = np.random.default_rng(0).uniform(0, 100, (8, 256, 256)).astype("<f4")
        expected = AB_SCALE * predict_photos_ab(load_params(), photos)

        def ask(person):
            answer = requests.post(f"{url}look", data=photos[person % 8].tobytes())
            numbers = np.frombuffer(answer.content, "<f4")[: 2 * 256 * 256]
            return np.abs(numbers.reshape(256, 256, 2) - expected[person % 8]).max()

        def ask_all(people):
            with ThreadPoolExecutor(people) as pool:
                assert max(pool.map(ask, range(2 * people))) < 0.01

        ask_all(10)
        before = most_memory()
        ask_all(50)
        assert most_memory() - before < 100  # MB; their answers alone have 45.
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
