"""A real Chromium without a window, driven by Selenium, for tests of web pages."""

import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)
_CHROMEDRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    not (_CHROMIUM and _CHROMEDRIVER), reason="there is no Chromium, or no chromedriver"
)


def open_browser(profile, *, downloads=None):
    """Opens a browser whose profile, and what it downloads, are in these folders."""
    options = webdriver.ChromeOptions()
    options.binary_location = _CHROMIUM
    for option in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "no-first-run",
        "window-size=1280,800",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{option}")
    if downloads:
        options.add_experimental_option(
            "prefs", {"download.default_directory": str(downloads)}
        )
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    return webdriver.Chrome(options, webdriver.ChromeService(_CHROMEDRIVER))


def wait(browser, condition, seconds=10):
    """Waits until `condition(browser)` is true, and returns it."""
    return WebDriverWait(browser, seconds, poll_frequency=0.02).until(condition)
