"""The page as people meet it: in Chromium, with a mouse, fingers and keys."""

import io
import json
import re

import numpy as np
import pytest
import skimage.data
from browser import needs_chromium, open_browser, wait
from exiftool import needs_exiftool, read_tags, write_tags
from PIL import Image
from running_server import run_server, serve_folder
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from tiny_generator import random_params

from colorgan_jax import colorize_photo, load_params, read_hints
from colorgan_jax.page.server import create_server
from colorgan_jax.page.site import build_site
from colorgan_jax.photos import read_photo

pytestmark = needs_chromium

SCREENS = [(320, 568), (360, 740), (768, 1024), (1280, 720), (1920, 1080)]


@pytest.fixture(scope="module")
def url():
    with run_server(create_server(random_params(seed=0))) as address:
        yield address


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory, downloads):
    browser = open_browser(tmp_path_factory.mktemp("profile"), downloads=downloads)
    yield browser
    browser.quit()


@pytest.fixture
def page(shared_browser, url):
    """The page, ready for photos; by the end of the test it has met no error."""
    shared_browser.get_log("browser")
    open_page(shared_browser, url)
    yield shared_browser
    shared_browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    shared_browser.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled", {"enabled": False}
    )
    # What the page's own Content-Security-Policy forbids would be in it, for one.
    assert shared_browser.get_log("browser") == []


def open_page(browser, url):
    browser.get(url)
    # By one script, since the page may load itself anew meanwhile.
    ready = "return document.getElementById('loading')?.hidden"
    wait(browser, lambda _: browser.execute_script(ready), 60)
    assert problem(browser) == ""


def find(browser, name):
    return browser.find_element(By.ID, name)


def problem(browser):
    return find(browser, "problem").text


def upload(browser, *paths, colored=True):
    """Opens files, and waits until the last of them is in color."""
    find(browser, "files").send_keys("\n".join(map(str, paths)))
    if colored:
        wait_for_colors(browser, 0)
        assert problem(browser) == ""


def wait_for_colors(browser, count):
    """Waits until the photo is colored with so many hints, and nothing is under way."""

    def is_done(_):
        return find(browser, "busy").text == "" and len(markers(browser)) == count

    wait(browser, is_done, 60)


def shown(browser, canvas="color"):
    """The pixels of a canvas, uint8 [H, W, 3]."""
    width, height, data = browser.execute_script(
        """const canvas = document.getElementById(arguments[0]);
        const { data } = canvas.getContext("2d")
          .getImageData(0, 0, canvas.width, canvas.height);
        return [canvas.width, canvas.height, Array.from(data)];""",
        canvas,
    )
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def click_at(browser, x, y):
    """Clicks on the photo at fractions of its width and height."""
    stage = find(browser, "stage")
    size = stage.size
    ActionChains(browser).move_to_element_with_offset(
        stage, round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])
    ).click().perform()


def markers(browser):
    return find(browser, "markers").find_elements(By.TAG_NAME, "button")


def swatch(browser, name):
    return browser.find_element(By.CSS_SELECTOR, f"#swatches [title='{name}']")


def save_photo(path, height, width, seed=0, mode="L", **options):
    """A smooth photo with some noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    pixels = (
        128
        + 100 * np.sin(5 * rows + 3 * columns)
        + random.normal(0, 8, (height, width))
    )
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).convert(mode)
    image.save(path, **options)
    return path


def download(browser, downloads, button="download"):
    """Presses the button, and returns the path of the file that comes."""
    for path in downloads.iterdir():
        path.unlink()
    find(browser, button).click()

    def finished(_):
        paths = list(downloads.iterdir())
        # Chromium gives the file its name when it is complete.
        return paths if paths and paths[0].suffix in (".png", ".jpg", ".json") else None

    (path,) = wait(browser, finished, 60)
    return path


def test_a_photo_by_mouse_from_file_to_download(page, tmp_path, downloads):
    path = save_photo(tmp_path / "old photo.png", 90, 120)
    upload(page, path)
    photo = read_photo(path)
    expected = colorize_photo(random_params(seed=0), photo)
    assert np.abs(shown(page).astype(int) - expected.pixels).max() <= 2
    gray = shown(page, "gray").astype(int)
    assert np.abs(gray - photo.pixels.reshape(90, 120, -1)).max() <= 1

    click_at(page, 0.25, 0.5)
    wait_for_colors(page, 1)
    swatch(page, "grass").click()
    wait_for_colors(page, 1)
    hint = saved_hints(page, downloads)["hints"]
    assert len(hint) == 1 and hint[0]["point"] == pytest.approx([0.25, 0.5], abs=0.02)
    written = downloads / "old photo.json"
    hints = read_hints(written)  # As the command reads it.
    a, b = hints.ab[0]
    assert a < -10 and b > 15  # Green.
    expected = colorize_photo(random_params(seed=0), photo, hints=hints)
    assert np.abs(shown(page).astype(int) - expected.pixels).max() <= 2

    result = download(page, downloads)
    assert result.name == "old photo_color.png"
    found = np.asarray(Image.open(result).convert("RGB")).astype(int)
    assert np.abs(found - expected.pixels).max() <= 2


def saved_hints(browser, downloads):
    return json.loads(download(browser, downloads, "save-hints").read_text())


@pytest.mark.parametrize("height, width, mode", [(301, 211, "RGB"), (5, 3, "L")])
def test_other_sizes_have_the_commands_colors(
    page, tmp_path, downloads, height, width, mode
):
    path = save_photo(tmp_path / "p.png", height, width, mode=mode)
    upload(page, path)
    expected = colorize_photo(random_params(seed=0), read_photo(path))
    found = np.asarray(Image.open(download(page, downloads)).convert("RGB"))
    assert np.abs(found.astype(int) - expected.pixels).max() <= 2


def test_transparency_stays(page, tmp_path, downloads):
    path = tmp_path / "clear.png"
    pixels = np.full((20, 30, 4), 90, np.uint8)
    pixels[..., 3] = 255
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels).save(path)
    upload(page, path)
    found = np.asarray(Image.open(download(page, downloads)))
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    expected = colorize_photo(random_params(seed=0), read_photo(path)).pixels
    assert np.abs(found[10:, :, :3].astype(int) - expected[10:]).max() <= 2
    Select(find(page, "format")).select_by_value("image/jpeg")
    assert np.asarray(Image.open(download(page, downloads)))[:8].min() > 240


@needs_exiftool
@pytest.mark.parametrize("kind", ["image/png", "image/jpeg"])
def test_metadata_comes_along(page, tmp_path, downloads, kind):
    path = save_photo(tmp_path / "sideways.jpg", 40, 60, quality=95)
    thumbnail = save_photo(tmp_path / "thumbnail.jpg", 10, 15)
    write_tags(
        path,
        "-n",
        "-Orientation=6",
        "-Artist=Ada",
        "-DateTimeOriginal=1962:05:01 12:00:00",
        f"-ThumbnailImage<={thumbnail}",
    )
    upload(page, path)
    option = f"#format [value='{kind}']"
    page.find_element(By.CSS_SELECTOR, option).click()
    result = download(page, downloads)
    assert result.suffix == (".png" if kind == "image/png" else ".jpg")
    image = Image.open(result)
    image.load()
    assert image.size == (40, 60)  # Upright.
    tags = read_tags(result)
    assert tags["IFD0:Artist"] == "Ada"
    assert tags["ExifIFD:DateTimeOriginal"] == "1962:05:01 12:00:00"
    assert tags["IFD0:Orientation"] == 1
    assert tags["XMP-iptcExt:DigitalSourceType"].endswith(
        "compositeWithTrainedAlgorithmicMedia"
    )
    assert tags["XMP-iptcExt:AISystemUsed"] == "colorgan_jax"
    assert not [name for name in tags if name.startswith("IFD1")]
    page.find_element(By.CSS_SELECTOR, "#format [value='image/png']").click()


def test_undo_redo_moving_and_removing(page, tmp_path):
    upload(page, save_photo(tmp_path / "p.png", 60, 60))
    plain = shown(page)
    click_at(page, 0.3, 0.3)
    swatch(page, "red").click()
    wait_for_colors(page, 1)
    red = shown(page)
    assert not np.array_equal(plain, red)

    (marker,) = markers(page)
    before = marker.rect
    ActionChains(page).drag_and_drop_by_offset(marker, 90, 60).perform()
    wait_for_colors(page, 1)
    after = markers(page)[0].rect
    assert after["x"] - before["x"] == pytest.approx(90, abs=2)
    assert after["y"] - before["y"] == pytest.approx(60, abs=2)

    def press(*keys):
        ActionChains(page).key_down(Keys.CONTROL).send_keys(*keys).key_up(
            Keys.CONTROL
        ).perform()

    press("z")  # The move,
    wait_for_colors(page, 1)
    np.testing.assert_array_equal(shown(page), red)
    find(page, "undo").click()  # the color,
    find(page, "undo").click()  # the point.
    wait_for_colors(page, 0)
    np.testing.assert_array_equal(shown(page), plain)
    assert not find(page, "undo").is_enabled()
    for _ in range(2):
        find(page, "redo").click()
    wait_for_colors(page, 1)
    np.testing.assert_array_equal(shown(page), red)
    markers(page)[0].click()
    find(page, "remove").click()
    wait_for_colors(page, 0)
    np.testing.assert_array_equal(shown(page), plain)
    find(page, "undo").click()
    wait_for_colors(page, 1)
    find(page, "clear").click()
    wait_for_colors(page, 0)
    assert markers(page) == []


def test_all_by_keys(page, tmp_path):
    upload(page, save_photo(tmp_path / "p.png", 60, 60))
    page.execute_script("document.getElementById('stage').focus()")

    def press(*keys):
        ActionChains(page).send_keys(*keys).perform()

    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_UP)
    press(Keys.ENTER)
    wait_for_colors(page, 1)
    assert page.switch_to.active_element.accessible_name == "gray"
    press(Keys.TAB, Keys.TAB, Keys.ENTER)
    wait_for_colors(page, 1)
    press(Keys.ESCAPE)
    assert page.switch_to.active_element == markers(page)[0]
    assert not find(page, "editor").is_displayed()
    left = markers(page)[0].rect["x"]
    press(Keys.ARROW_LEFT)
    wait_for_colors(page, 1)
    width = find(page, "stage").size["width"]
    assert markers(page)[0].rect["x"] - left == pytest.approx(-width / 100, abs=1.5)
    press(Keys.DELETE)
    wait_for_colors(page, 0)
    assert markers(page) == []
    assert page.switch_to.active_element == find(page, "stage")


def test_a_finger(page, tmp_path):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    upload(page, save_photo(tmp_path / "p.png", 60, 60))

    def touch(kind, *points):
        points = [{"x": x, "y": y} for x, y in points]
        page.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points}
        )

    place = page.execute_script(
        """const stage = document.getElementById("stage");
        stage.scrollIntoView({ block: "center" });
        const { left, top, width, height } = stage.getBoundingClientRect();
        return [left + width / 4, top + height / 2, width];"""
    )
    x, y, width = place
    touch("touchStart", (x, y))
    touch("touchEnd")
    wait_for_colors(page, 1)
    touch("touchStart", (x, y))
    for step in range(1, 11):
        touch("touchMove", (x + width / 20 * step, y))
    touch("touchEnd")
    wait_for_colors(page, 1)
    center = page.execute_script(
        """const { left, width } = document.querySelector("#markers button")
          .getBoundingClientRect();
        return left + width / 2;"""
    )
    assert center == pytest.approx(x + width / 2, abs=2)


def test_colors_from_the_photo_and_by_name(page, tmp_path):
    upload(page, save_photo(tmp_path / "p.png", 60, 60))
    click_at(page, 48.5 / 60, 29.5 / 60)
    wait_for_colors(page, 1)
    field = find(page, "typed")
    for typed, color in (("navy", "#000080"), ("3050A0", "#3050a0")):
        field.clear()
        field.send_keys(typed + Keys.ENTER)
        wait_for_colors(page, 1)
        assert color in markers(page)[0].accessible_name
        assert field.get_property("value") == color
    field.clear()
    field.send_keys("bleu" + Keys.ENTER)
    assert field.get_attribute("aria-invalid") == "true"
    assert "#3050a0" in markers(page)[0].accessible_name
    click_at(page, 0.2, 0.2)
    wait_for_colors(page, 2)
    find(page, "dropper").click()
    color = shown(page)[29, 48]
    click_at(page, 48.5 / 60, 29.5 / 60)  # On the first marker, but through it.
    wait_for_colors(page, 2)
    taken = bytes.fromhex(re.findall("#(.{6})", markers(page)[1].accessible_name)[0])
    assert np.abs(np.array(list(taken)) - color).max() <= 2


def test_the_sliders(page, tmp_path):
    path = save_photo(tmp_path / "p.png", 40, 40)
    upload(page, path)
    for name, value in (("saturation", 50), ("split", 50)):
        page.execute_script(
            """const slider = document.getElementById(arguments[0]);
            slider.value = arguments[1];
            slider.dispatchEvent(new Event("input"));""",
            name,
            value,
        )
    wait_for_colors(page, 0)
    expected = colorize_photo(random_params(seed=0), read_photo(path), saturation=0.5)
    wait(
        page,
        lambda _: np.abs(shown(page).astype(int) - expected.pixels).max() <= 2,
    )
    # Left of the middle, the window shows gray; right of it, color.
    stage = Image.open(io.BytesIO(find(page, "stage").screenshot_as_png))
    pixels = np.asarray(stage.convert("RGB")).astype(int)
    spread = np.ptp(pixels, axis=-1)
    width = spread.shape[1]
    assert spread[:, : width // 2 - 4].max() <= 1
    assert spread[:, width // 2 + 4 :].max() > 10


def test_hint_files_of_the_command(page, tmp_path, downloads):
    path = save_photo(tmp_path / "p.png", 50, 70)
    upload(page, path)
    content = {
        "version": 1,
        "hints": [
            {"point": [0.1, 0.9], "ab": [12.5, -30], "radius": 0.03},
            {"stroke": [[0.2, 0.5], [0.3, 0.6], [0.9, 0.65]], "color": "#556b2f"},
            {"rectangle": [0.0, 0.0, 1.0, 0.2], "color": "#7fb2e5"},
        ],
    }
    file = tmp_path / "hints.json"
    file.write_text(json.dumps(content))
    find(page, "hint-file").send_keys(str(file))
    wait_for_colors(page, 3)
    expected = colorize_photo(
        random_params(seed=0), read_photo(path), hints=read_hints(file)
    )
    assert np.abs(shown(page).astype(int) - expected.pixels).max() <= 2
    assert saved_hints(page, downloads) == content

    for wrong, sentence in [
        ("nothing", "it is not JSON."),
        ('{"version": 2, "hints": []}', "its version is 2"),
        ('{"version": 1, "hints": [{"point": [0, 2], "ab": [0, 0]}]}', "hint 1: "),
        ('{"version": 1, "hints": [{"point": [0, 0]}]}', '"color" or "ab"'),
    ]:
        file.write_text(wrong)
        find(page, "hint-file").send_keys(str(file))
        wait(page, lambda _, sentence=sentence: sentence in problem(page))
    assert len(markers(page)) == 3


def test_a_broken_file_among_others(page, tmp_path, downloads):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo at all")
    first = save_photo(tmp_path / "first.png", 30, 40)
    second = save_photo(tmp_path / "second.png", 40, 30, seed=1)
    upload(page, first, broken, second, colored=False)
    wait(page, lambda _: problem(page) != "")
    assert "broken.jpg cannot be read" in problem(page)
    names = [
        button.accessible_name
        for button in find(page, "strip").find_elements(By.TAG_NAME, "button")
    ]
    assert names == ["first.png", "second.png"]
    click_at(page, 0.5, 0.5)
    wait_for_colors(page, 1)
    page.find_element(By.CSS_SELECTOR, "[aria-label='first.png']").click()
    wait_for_colors(page, 0)
    assert markers(page) == []  # Each photo has its own.
    result = download(page, downloads)
    expected = colorize_photo(random_params(seed=0), read_photo(first)).pixels
    found = np.asarray(Image.open(result).convert("RGB")).astype(int)
    assert result.name == "first_color.png" and np.abs(found - expected).max() <= 2

    find(page, "close").click()
    wait_for_colors(page, 1)  # The other photo's.
    assert not find(page, "strip").is_displayed()
    find(page, "close").click()
    assert not find(page, "workplace").is_displayed()
    upload(page, first)
    assert np.abs(shown(page).astype(int) - expected).max() <= 2


def test_the_network_on_the_server(page, tmp_path):
    path = save_photo(tmp_path / "p.png", 60, 80)
    page.find_element(By.CSS_SELECTOR, "#where [value='server']").click()
    wait(page, lambda _: find(page, "loading").get_property("hidden"))
    assert "is sent to the server" in find(page, "privacy").text
    upload(page, path)
    click_at(page, 0.4, 0.6)
    wait_for_colors(page, 1)
    swatch(page, "sky blue").click()
    wait_for_colors(page, 1)
    color = re.findall("#(.{6})", markers(page)[0].accessible_name)[0]
    file = tmp_path / "hints.json"
    x, y = page.execute_script(
        """const { left, top } = document.querySelector("#markers button").style;
        return [parseFloat(left) / 100, parseFloat(top) / 100];"""
    )
    file.write_text(
        json.dumps({"version": 1, "hints": [{"point": [x, y], "color": f"#{color}"}]})
    )
    expected = colorize_photo(
        random_params(seed=0), read_photo(path), hints=read_hints(file)
    )
    assert np.abs(shown(page).astype(int) - expected.pixels).max() <= 2


@pytest.mark.parametrize("width, height", SCREENS)
def test_the_page_fits_the_screen(page, tmp_path, width, height):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True},
    )
    upload(page, save_photo(tmp_path / "p.png", 400, 600))
    click_at(page, 0.5, 0.5)
    wait_for_colors(page, 1)
    widest = page.execute_script("return document.documentElement.scrollWidth")
    assert widest == width
    stage = find(page, "stage").rect
    assert stage["height"] <= height
    assert stage["width"] / stage["height"] == pytest.approx(1.5, rel=0.01)
    for element in page.find_elements(By.CSS_SELECTOR, "button, .button, select"):
        if element.is_displayed():
            rect = element.rect
            assert rect["height"] >= 43 and rect["width"] >= 40, element.text
            assert rect["x"] >= 0 and rect["x"] + rect["width"] <= width


def test_everything_has_a_name_for_screen_readers(page, tmp_path):
    upload(page, save_photo(tmp_path / "p.png", 60, 60))
    click_at(page, 0.5, 0.5)
    wait_for_colors(page, 1)
    controls = page.find_elements(By.CSS_SELECTOR, "button, input, select, canvas + *")
    unnamed = [
        element.get_attribute("outerHTML")
        for element in controls
        if element.tag_name in ("button", "input", "select")
        and element.is_displayed()
        and not element.accessible_name
    ]
    assert unnamed == []
    assert find(page, "stage").accessible_name == "p.png, 60 by 60 pixels"


def test_offline_after_the_first_visit_on_a_simple_host(tmp_path, tmp_path_factory):
    folder = tmp_path / "site"
    for name, content in build_site(random_params(seed=0)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    photo = save_photo(tmp_path / "p.png", 60, 60)
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    try:
        with serve_folder(folder) as address:
            url = f"{address}/"
            open_page(browser, url)
            # The host sends no headers for it: the page's service worker does.
            assert browser.execute_script("return crossOriginIsolated")
        browser.get_log("browser")
        open_page(browser, url)
        upload(browser, photo)
        expected = colorize_photo(random_params(seed=0), read_photo(photo)).pixels
        assert np.abs(shown(browser).astype(int) - expected).max() <= 2

        asked = [
            json.loads(entry["message"])["message"]["params"]["request"]["url"]
            for entry in browser.get_log("performance")
            if '"Network.requestWillBeSent"' in entry["message"]
        ]
        assert f"{url}page.js" in asked
        foreign = [
            address
            for address in asked
            if address.startswith(("http", "ws")) and not address.startswith(url)
        ]
        assert foreign == []
    finally:
        browser.quit()


@pytest.mark.slow  # The released weights.
def test_three_photos_have_the_colors_of_the_command(
    shared_browser, downloads, tmp_path
):
    params = load_params()
    with run_server(create_server(params)) as url:
        open_page(shared_browser, url)
        for name in ("astronaut", "chelsea", "coffee"):
            path = tmp_path / f"{name}.jpg"
            Image.fromarray(getattr(skimage.data, name)()).save(path, quality=95)
            upload(shared_browser, path)
            click_at(shared_browser, 0.4, 0.6)
            wait_for_colors(shared_browser, 1)
            swatch(shared_browser, "turquoise").click()
            wait_for_colors(shared_browser, 1)
            saved_hints(shared_browser, downloads)
            hints = read_hints(downloads / f"{name}.json")
            expected = colorize_photo(params, read_photo(path), hints=hints).pixels
            result = download(shared_browser, downloads)
            found = np.asarray(Image.open(result).convert("RGB")).astype(int)
            assert np.abs(found - expected).max() <= 2


@pytest.mark.slow  # A quarter of a minute.
def test_thirty_megapixels(page, tmp_path, downloads):
    path = save_photo(tmp_path / "large.jpg", 5000, 6000, quality=90)
    upload(page, path)
    result = download(page, downloads)
    expected = colorize_photo(random_params(seed=0), read_photo(path)).pixels
    found = np.asarray(Image.open(result).convert("RGB"))
    assert found.shape == expected.shape
    for rows in np.split(np.arange(5000), 10):
        difference = np.abs(found[rows].astype(int) - expected[rows])
        assert difference.max() <= 2
