"""The survey as raters meet it: in Chromium, with a mouse, keys, and on a phone."""

import itertools
import re
import sqlite3
from contextlib import closing

import pytest
import requests
from browser import needs_chromium, open_browser, wait
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from survey_server import identify, opinion, save_photos, serve

from colorgan_jax.survey.database import read_ratings

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory):
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def browser(shared_browser):
    """A browser without cookies, which has met no error by the end of the test."""
    shared_browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    shared_browser.get_log("browser")
    yield shared_browser
    shared_browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    # What the page's own Content-Security-Policy forbids would be in it, for one.
    assert shared_browser.get_log("browser") == []


def wait_for_trial(browser, number):
    """Waits until a photo can be rated."""
    wait(browser, lambda _: browser.title == f"Photo {number} of 10")
    wait(browser, lambda _: button(browser, 1).is_enabled())


def begin(browser, url):
    browser.get(url)
    browser.find_element(By.XPATH, "//button[text()='Start']").click()
    wait_for_trial(browser, 1)


def button(browser, rating):
    return browser.find_element(By.CSS_SELECTOR, f"button[value='{rating}']")


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def shown_photo(browser):
    """The name of the photo on the page."""
    address = browser.find_element(By.ID, "photo").get_attribute("src")
    cookies = {cookie["name"]: cookie["value"] for cookie in browser.get_cookies()}
    return identify(requests.get(address, cookies=cookies).content)


def ratings_of(folder, browser):
    """The ratings of the browser's rater so far, in the order in which they came."""
    (cookie,) = browser.get_cookies()
    query = "SELECT rating FROM trials WHERE rater = ? AND rating ORDER BY position"
    with closing(sqlite3.connect(folder / "survey.db")) as connection:
        rows = connection.execute(query, (cookie["value"],)).fetchall()
    return [rating for (rating,) in rows]


def test_a_whole_session_with_clicks_and_keys_and_a_closed_browser(tmp_path):
    save_photos(tmp_path)
    profile = tmp_path / "profile"
    with serve(tmp_path) as url:
        browser = open_browser(profile)
        try:
            begin(browser, url)
            for number in range(1, 11):
                wait_for_trial(browser, number)
                assert (
                    f"Photo {number} of 10"
                    in browser.find_element(By.TAG_NAME, "main").text
                )
                bar = browser.find_element(By.TAG_NAME, "progress")
                assert float(bar.get_attribute("position")) == (number - 1) / 10
                rating = opinion(shown_photo(browser))
                if number % 2:
                    button(browser, rating).click()
                else:
                    press(browser, str(rating))
                if number == 4:
                    wait_for_trial(browser, 5)
                    browser.quit()
                    browser = open_browser(profile)
                    browser.get(url)
            wait(browser, lambda _: browser.title == "Thank you")
            assert "Your ratings of all 10 photos are saved." in browser.page_source
            browser.get(url)
            assert browser.title == "Thank you"
            assert browser.get_log("browser") == []
        finally:
            browser.quit()
    ratings = read_ratings(tmp_path / "survey.db")
    assert ratings.ratings.tolist() == [[opinion(name) for name in ratings.names]]


def test_reload_and_back_lead_to_the_photo_that_is_to_be_rated(survey, browser):
    folder, url = survey
    begin(browser, url)
    for number, rating in enumerate((2, 4), start=1):
        wait_for_trial(browser, number)
        button(browser, rating).click()
    wait_for_trial(browser, 3)
    photo = shown_photo(browser)
    for move in (browser.refresh, browser.back, browser.back, browser.forward):
        move()
        if browser.current_url.startswith(url):  # not the empty page before the first
            wait_for_trial(browser, 3)
            assert shown_photo(browser) == photo
    assert ratings_of(folder, browser) == [2, 4]

    # As if the browser had kept the page in memory, which it does as it likes.
    restored = "new PageTransitionEvent('pageshow', {persisted: true})"
    browser.execute_script(f"window.isOld = true; window.dispatchEvent({restored})")
    wait(browser, lambda _: not browser.execute_script("return window.isOld"))

    browser.get(url)
    press(browser, "5")  # before the photo can be seen: nothing
    wait_for_trial(browser, 3)
    press(browser, "1")
    wait_for_trial(browser, 4)
    assert ratings_of(folder, browser) == [2, 4, 1]


def test_one_photo_is_rated_by_a_double_click_and_by_a_held_key(survey, browser):
    folder, url = survey
    begin(browser, url)
    ActionChains(browser).double_click(button(browser, 3)).perform()
    wait_for_trial(browser, 2)
    key = {"type": "keyDown", "key": "4", "code": "Digit4", "text": "4"}
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
    wait_for_trial(browser, 3)
    for _ in range(5):
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {**key, "autoRepeat": True})
    browser.execute_cdp_cmd("Input.dispatchKeyEvent", {**key, "type": "keyUp"})
    press(browser, "0", "6", "a", Keys.F1, Keys.ENTER)
    ActionChains(browser).key_down(Keys.CONTROL).send_keys("1").key_up(
        Keys.CONTROL
    ).perform()
    browser.refresh()
    wait_for_trial(browser, 3)
    assert ratings_of(folder, browser) == [3, 4]


@pytest.mark.parametrize(
    "key",
    [
        {"key": "2", "code": "Numpad2"},
        {"key": "é", "code": "Digit2"},  # the key of the digit 2 in France
    ],
)
def test_digits_of_other_keyboards(survey, browser, key):
    folder, url = survey
    begin(browser, url)
    for kind in ("keyDown", "keyUp"):
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": kind, **key})
    wait_for_trial(browser, 2)
    assert ratings_of(folder, browser) == [2]


def test_a_photo_that_does_not_load_cannot_be_rated(survey, browser):
    folder, url = survey
    begin(browser, url)
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/photo/*"]})
    try:
        browser.refresh()
        failure = browser.find_element(By.ID, "failure")
        wait(browser, lambda _: failure.is_displayed())
        assert "Please reload the page." in failure.text
        press(browser, "3")
        assert not button(browser, 3).is_enabled()
        assert ratings_of(folder, browser) == []
    finally:
        browser.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})
    browser.get_log("browser")  # the photo that was blocked
    browser.refresh()
    wait_for_trial(browser, 1)
    assert not browser.find_element(By.ID, "failure").is_displayed()


def test_it_works_without_javascript(survey, browser):
    folder, url = survey
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        begin(browser, url)
        for number in range(1, 11):
            wait_for_trial(browser, number)
            assert "keys" not in browser.find_element(By.TAG_NAME, "main").text
            button(browser, number % 5 + 1).click()
        wait(browser, lambda _: browser.title == "Thank you")
    finally:
        browser.execute_cdp_cmd(
            "Emulation.setScriptExecutionDisabled", {"value": False}
        )
    assert ratings_of(folder, browser) == [2, 3, 4, 5, 1] * 2


@pytest.mark.parametrize(
    ("width", "height"), [(320, 568), (360, 640), (400, 860), (740, 360), (1280, 720)]
)
def test_the_page_fits_the_screen(url, browser, width, height):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 2, "mobile": True},
    )
    browser.get(url)
    widest = "return document.documentElement.scrollWidth"
    assert browser.execute_script(widest) == width
    begin(browser, url)
    assert browser.execute_script(widest) == width
    buttons = [button(browser, rating).rect for rating in range(1, 6)]
    for place in buttons:
        assert place["width"] >= 44 and place["height"] >= 44
        assert place["y"] + place["height"] <= height  # in view without scrolling
    gaps = [
        right["x"] - left["x"] - left["width"]
        for left, right in itertools.pairwise(buttons)
    ]
    assert min(gaps) >= 8
    photo = browser.find_element(By.ID, "photo").rect
    assert photo["y"] >= 0 and photo["y"] + photo["height"] <= buttons[0]["y"]
    assert min(photo["width"], photo["height"]) >= min(0.85 * width, 0.4 * height)


def test_a_screen_reader_and_the_tab_key_find_everything(survey, browser):
    folder, url = survey
    begin(browser, url)
    names = [button(browser, rating).accessible_name for rating in range(1, 6)]
    assert names == ["1, not at all", "2", "3", "4", "5, entirely"]
    scale = browser.find_element(By.CSS_SELECTOR, "[role='group']")
    question = "How realistic are the colors of this photo?"
    assert scale.accessible_name == question
    assert browser.find_element(By.TAG_NAME, "h1").text == question
    bar = browser.find_element(By.TAG_NAME, "progress")
    assert bar.aria_role == "progressbar"
    assert bar.accessible_name == "Photo 1 of 10"
    assert browser.find_element(By.ID, "photo").accessible_name == "The photo to rate"

    for rating in (1, 2):
        press(browser, Keys.TAB)
        focused = browser.switch_to.active_element
        assert focused.get_attribute("value") == str(rating)
        assert focused.value_of_css_property("outline-style") == "solid"
        assert focused.value_of_css_property("outline-width") == "3px"
    press(browser, Keys.SPACE)
    wait_for_trial(browser, 2)
    assert ratings_of(folder, browser) == [2]


def relative_luminance(gray):
    """WCAG 2.2's definition, of a gray in [0, 255]."""
    value = gray / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_gray_and_legible(url, browser, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    begin(browser, url)

    def gray(element, name):
        red, green, blue, *alpha = map(
            float, re.findall(r"[\d.]+", element.value_of_css_property(name))
        )
        assert red == green == blue and alpha in ([], [1.0])
        return red

    ground = gray(browser.find_element(By.TAG_NAME, "body"), "background-color")
    assert (ground < 64) == (scheme == "dark")
    for selector in ("h1", ".progress", ".ends", "button"):
        element = browser.find_element(By.CSS_SELECTOR, selector)
        behind = gray(element, "background-color") if selector == "button" else ground
        darker, lighter = sorted(
            relative_luminance(value) for value in (gray(element, "color"), behind)
        )
        # WCAG's level AA asks for 4.5.
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
