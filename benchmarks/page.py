"""What the page takes in a browser: bytes, and seconds until there are colors.

    python benchmarks/page.py

A Chromium that has never seen the page opens it, colors an example, and then a photo of 24
megapixels. First the page is files on a simple web server and the network runs in the browser,
then both come from `colorgan serve`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from browser import open_browser, wait
from running_server import QuietHandler, run_server, serve_folder
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select
from timing import describe_machine

from colorgan_jax import load_params
from colorgan_jax.page.server import create_server
from colorgan_jax.page.site import build_site

HEIGHT, WIDTH = 4000, 6000
CLICKS = 10
VISITS = 3


class _Counting(QuietHandler):
    sent = 0

    def copyfile(self, source, outputfile):
        content = source.read()
        _Counting.sent += len(content)
        outputfile.write(content)


class Visit:
    """A browser that has never seen the page, which it opens."""

    def __init__(self, url: str, profile: str):
        self.browser = open_browser(profile)
        self.start = time.perf_counter()
        self.browser.get(url)
        self.wait_until("document.getElementById('loading')?.hidden")

    def seconds_to_colors(self, act: Callable[[], object]) -> float:
        """Does something that colors a photo, and waits for it."""
        start = time.perf_counter()
        act()
        self.wait_until("document.getElementById('busy').textContent === ''")
        return time.perf_counter() - start

    def click(self, x: float, y: float) -> float:
        """Sets a color at a spot."""
        return self.seconds_to_colors(
            lambda: self.browser.execute_script(
                """const stage = document.getElementById("stage");
                const { left, top, width, height } = stage.getBoundingClientRect();
                stage.dispatchEvent(new MouseEvent("click", {
                  clientX: left + arguments[0] * width, clientY: top + arguments[1] * height,
                }));""",
                x,
                y,
            )
        )

    def find(self, selector: str):
        """An element of the page."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def wait_until(self, condition: str) -> None:
        """Waits until a condition in JavaScript is true."""
        wait(
            self.browser,
            lambda _: self.browser.execute_script(f"return {condition}"),
            99,
        )


def measure(url: str, photo: Path, *, on_server: bool) -> dict[str, float]:
    """Seconds of one visit."""
    with tempfile.TemporaryDirectory() as profile:
        visit = Visit(url, profile)
        try:
            if on_server:
                Select(visit.find("#where")).select_by_value("server")
                visit.wait_until("document.getElementById('loading').hidden")
            visit.seconds_to_colors(visit.find("#examples button").click)
            seconds = {"to first colors": time.perf_counter() - visit.start}
            seconds["24 megapixels"] = visit.seconds_to_colors(
                lambda: visit.find("#files").send_keys(str(photo))
            )
            random = np.random.default_rng(0)
            clicks = [
                visit.click(*random.uniform(0.05, 0.95, 2)) for _ in range(CLICKS)
            ]
            seconds["first click"] = clicks[0]
            seconds[f"click {CLICKS}"] = clicks[-1]
            return seconds
        finally:
            visit.browser.quit()


def main() -> None:
    """Runs the command line."""
    print(describe_machine())
    params = load_params()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        for name, content in build_site(params).items():
            (site / name).parent.mkdir(parents=True, exist_ok=True)
            (site / name).write_bytes(content)
        photo = Path(folder) / "photo.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
        cv2.imwrite(str(photo), cv2.resize(noise, (WIDTH, HEIGHT)))
        with (
            serve_folder(site, _Counting) as files,
            run_server(create_server(params)) as server,
        ):
            for name, url, on_server in (
                ("in the browser", files, False),
                ("on the server", server, True),
            ):
                _Counting.sent = 0
                visits = [
                    measure(url, photo, on_server=on_server) for _ in range(VISITS)
                ]
                if not on_server:
                    print(f"{_Counting.sent / VISITS / 1e6:.1f} MB sent for a visit")
                for key in visits[0]:
                    median = statistics.median(visit[key] for visit in visits)
                    print(f"{name}: {key} {median:.2f} s")


if __name__ == "__main__":
    main()
