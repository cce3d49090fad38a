"""The command line, run in-process on photos and tiny random parameters."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import skimage.color
import skimage.data
import skimage.metrics
import skimage.transform
from PIL import Image

from colorgan_jax import paths, photos
from colorgan_jax.__main__ import main
from colorgan_jax.compilation import enable_compilation_cache

REPOSITORY = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("private_compilation_cache", "empty_folder")


def grain(height, width, channels, seed=0):
    """Random bytes, coarse enough to survive JPEG."""
    random = np.random.default_rng(seed)
    small = random.integers(20, 230, (height // 8 + 1, width // 8 + 1, channels))
    return np.kron(small, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)


def save(path, height=40, width=60, channels=3, **options):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = grain(height, width, channels).squeeze()
    Image.fromarray(pixels).save(path, **options)


def lightness(path):
    return skimage.color.rgb2lab(photos.read_rgb(path) / 255.0)[..., 0]


def chroma(path):
    return np.ptp(photos.read_rgb(path).astype(int), axis=-1).mean()


def test_a_gray_photo_gets_color_and_keeps_size_and_lightness(params, capsys):
    save("old.png", channels=1)
    assert main(["colorize", "old.png", "--params", params]) == 0
    output = capsys.readouterr()
    assert output.out == f"{Path('colorized/old.png')}\n" and output.err == ""
    with Image.open("colorized/old.png") as image:
        assert image.size == (60, 40) and image.mode == "RGB"
    assert chroma("old.png") == 0 and chroma("colorized/old.png") > 5
    # 8 bits are worth up to half a unit.
    np.testing.assert_allclose(
        lightness("colorized/old.png"), lightness("old.png"), atol=0.6
    )


def test_without_params_photos_come_closer_to_the_real_ones_than_gray():
    gains = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        real = skimage.transform.resize(getattr(skimage.data, name)(), (256, 256))
        lab = skimage.color.rgb2lab(real)
        gray = skimage.color.lab2rgb(lab * [1, 0, 0])
        Image.fromarray(np.round(gray * 255).astype(np.uint8)).save(f"{name}.png")
        assert main(["colorize", f"{name}.png"]) == 0
        generated = photos.read_rgb(f"colorized/{name}.png") / 255
        gains.append(
            skimage.metrics.peak_signal_noise_ratio(real, generated)
            - skimage.metrics.peak_signal_noise_ratio(real, gray)
        )
    assert np.mean(gains) > 2


def test_saturation_makes_colors_stronger_or_weaker(params):
    save("a.png", channels=1)
    chromas = []
    for factor in ("0", "0.2", "0.4"):
        command = ["colorize", "a.png", "--params", params, "--overwrite"]
        assert main([*command, "--saturation", factor]) == 0
        ab = skimage.color.rgb2lab(photos.read_rgb("colorized/a.png"))[..., 1:]
        chromas.append(np.hypot(ab[..., 0], ab[..., 1]).mean())
    assert chromas[0] < 0.1
    np.testing.assert_allclose(chromas[2] / chromas[1], 2, rtol=0.1)


@pytest.mark.parametrize(
    ("name", "format"), [("a.jpg", "JPEG"), ("a.JPEG", "JPEG"), ("a.webp", "WEBP")]
)
def test_the_format_is_kept_at_high_quality(params, name, format):
    save(name, quality=95)
    assert main(["colorize", name, "--params", params, "--output", "out"]) == 0
    with Image.open(f"out/{name}") as image:
        assert image.format == format and image.size == (60, 40)
    assert np.abs(lightness(f"out/{name}") - lightness(name)).mean() < 1.5


@pytest.mark.parametrize(
    ("name", "format", "result", "written"),
    [
        ("scan", "JPEG", "scan.jpg", "JPEG"),
        ("scan.2020", "PNG", "scan.2020.png", "PNG"),
        ("scan.jpg", "PNG", "scan.png", "PNG"),  # by its content
        ("scan.JFIF", "JPEG", "scan.JFIF", "JPEG"),
        ("scan.bmp", "BMP", "scan.png", "PNG"),
        ("scan.gif", "GIF", "scan.png", "PNG"),
        ("scan.tif", "TIFF", "scan.tif", "TIFF"),
        ("scan.jp2", "JPEG2000", "scan.jp2", "JPEG2000"),
        ("scan.avif", "AVIF", "scan.avif", "AVIF"),
    ],
)
def test_the_format_of_a_result_is_that_of_the_content(
    params, name, format, result, written
):
    save(name, format=format)
    assert main(["colorize", name, "--params", params]) == 0
    assert os.listdir("colorized") == [result]
    with Image.open(f"colorized/{result}") as image:
        assert image.format == written and image.size == (60, 40)


def test_a_rotated_photo_comes_out_upright(params):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    save("phone.jpg", exif=exif)
    assert main(["colorize", "phone.jpg", "--params", params]) == 0
    with Image.open("colorized/phone.jpg") as image:
        assert image.size == (40, 60) and image.getexif()[0x0112] == 1
    difference = lightness("colorized/phone.jpg") - lightness("phone.jpg")
    assert np.abs(difference).mean() < 1.5


def test_unreadable_photos_are_named_and_the_others_go_on(params, capsys):
    save("good.png")
    save("also good.jpg")
    Path("text.png").write_text("no photo")
    Path("cut.png").write_bytes(Path("good.png").read_bytes()[:100])
    names = ["text.png", "good.png", "missing.jpg", "cut.png", "also good.jpg"]
    assert main(["colorize", *names, "--params", params]) == 1
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f"[2/5] {Path('colorized/good.png')}",
        f"[5/5] {Path('colorized/also good.jpg')}",
    ]
    errors = output.err.splitlines()
    assert len(errors) == 4
    for name, error in zip(
        ["text.png", "missing.jpg", "cut.png"], errors, strict=False
    ):
        assert error.startswith(f"error: {name} ")
    assert errors[3] == "error: 3 of 5 photos could not be colorized."
    assert sorted(os.listdir("colorized")) == ["also good.jpg", "good.png"]


def test_a_result_that_its_format_has_no_room_for_becomes_png(params):
    save("wide.webp", height=8, width=9000)  # WebP ends at 16,383 pixels a side.
    arguments = ["wide.webp", "--params", params, "--side-by-side"]
    assert main(["colorize", *arguments]) == 0
    with Image.open("colorized/wide.png") as image:
        assert image.size == (18_000, 8)


def test_a_result_that_cannot_have_its_name_is_one_sentence(params, capsys):
    for number in range(6):
        save(f"{number}.png")
    name = "1" * 255  # The longest that file systems take: there is no room for ".jpg".
    save(name, format="JPEG")
    assert main(["colorize", name, "0.png", "1.png", "2.png", "--params", params]) == 1
    output = capsys.readouterr()
    assert len(output.out.splitlines()) == 3
    long, count = output.err.splitlines()
    assert long == f"error: colorized/{name}.jpg cannot be written: File name too long."
    assert count == "error: 1 of 4 photos could not be colorized."


def test_a_folder_keeps_its_subfolders(params, capsys):
    save("album/a.png")
    save("album/trip/a.png", channels=1)
    Path("album/notes.txt").write_text("no photo")
    # The results lie inside the folder of photos, but are no photos of it.
    arguments = ["album", "--params", params, "--output", "album/color"]
    assert main(["colorize", *arguments]) == 0
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f"[1/2] {Path('album/color/a.png')}",
        f"[2/2] {Path('album/color/trip/a.png')}",
    ]
    assert output.err == f"note: 1 file is left out: {Path('album/notes.txt')}.\n"


def test_photos_of_one_name_do_not_overwrite_each_other(params):
    save("one/a.png", height=20)
    save("two/a.png", height=30)
    save("three/A.PNG", height=35)
    names = ["one/a.png", "two", "three/A.PNG", "one/../one/a.png"]
    assert main(["colorize", *names, "--params", params]) == 0
    sizes = {}
    for name in os.listdir("colorized"):
        with Image.open(f"colorized/{name}") as image:
            sizes[name] = image.height
    assert sizes == {"a.png": 20, "a-2.png": 30, "A.PNG": 35}


def test_an_input_is_never_overwritten(params):
    save("a.png")
    save("a-2.png", height=20)
    before = {name: Path(name).read_bytes() for name in ("a.png", "a-2.png")}
    arguments = ["a.png", "a-2.png", "--params", params, "--output", "."]
    assert main(["colorize", *arguments]) == 0
    for name, content in before.items():
        assert Path(name).read_bytes() == content
    assert sorted(os.listdir()) == ["a-2-2.png", "a-2.png", "a-3.png", "a.png"]


def test_a_link_to_an_input_is_never_written_through(params):
    save("a.png")
    before = Path("a.png").read_bytes()
    Path("out").mkdir()
    Path("out/a.png").symlink_to(Path("a.png").resolve())
    assert main(["colorize", "a.png", "--params", params, "--output", "out"]) == 0
    assert Path("a.png").read_bytes() == before
    assert sorted(os.listdir("out")) == ["a-2.png", "a.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--params", "nothing"], "nothing does not exist"),
        (
            ["a.png", "--params", "empty"],
            "The folder empty holds no params.safetensors",
        ),
        (["a.png", "--params", "a.png"], "a.png is damaged or no safetensors file"),
        (["empty", "--params", "PARAMS"], "The folder empty holds no photos"),
        (
            ["full", "--params", "PARAMS", "--output", "full"],
            "cannot go into the folder",
        ),
        (
            ["a.png", "--params", "PARAMS", "--output", "file"],
            "--output file is a file",
        ),
        (
            ["a.png", "--params", "PARAMS", "--output", "color.jpg"],
            "colorgan colorize - < PHOTO > color.jpg",
        ),
        (
            ["-", "--params", "PARAMS", "--output", "folder"],
            "- stands alone",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence(params, capsys, arguments, message):
    save("a.png")
    save("full/a.png")
    Path("empty").mkdir()
    Path("file").touch()
    arguments = [params if word == "PARAMS" else word for word in arguments]
    assert main(["colorize", *arguments]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and message in output.err
    assert output.err.count("\n") == 1
    assert sorted(os.listdir()) == ["a.png", "empty", "file", "full"]


def test_a_full_disk_ends_the_run_with_one_sentence(params, capsys, monkeypatch):
    save("a.png")
    save("b.png")

    def fill_disk(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(paths.UnfinishedFile, "status", fill_disk)
    assert main(["colorize", "a.png", "b.png", "--params", params]) == 1
    error = capsys.readouterr().err
    assert "No space left on device" in error and error.count("\n") == 1
    assert os.listdir("colorized") == []


def test_photos_in_batches_get_the_colors_that_they_get_alone(params, capsys):
    names = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        save(name, height=10 + 9 * number)
    Path("5.png").write_text("no photo")  # leaves its batch with fewer
    assert main(["colorize", *names, "--params", params, "--output", "all"]) == 1
    numbers = [line.split("/")[0] for line in capsys.readouterr().out.splitlines()]
    assert numbers == ["[1", "[2", "[3", "[4", "[5", "[7"]
    for name in names[:5] + names[6:]:
        assert main(["colorize", name, "--params", params, "--output", "one"]) == 0
        alone, together = (
            photos.read_rgb(f"{folder}/{name}").astype(int) for folder in ("one", "all")
        )
        # The network rounds its last bits by the size of the batch.
        assert np.abs(alone - together).max() <= 1


def test_lines_keep_the_order_of_the_photos_whichever_is_written_first(
    params, capsys, monkeypatch
):
    names = [f"{number}.png" for number in range(9)]
    for name in names:
        save(name)

    def create(file, path):
        time.sleep(0.3 if path.name == "0.png" else 0)
        written.append(path.name)

    written = []
    monkeypatch.setattr(paths.UnfinishedFile, "create", create)
    assert main(["colorize", *names, "--params", params]) == 0
    assert sorted(written) == names and written[0] != "0.png"
    assert capsys.readouterr().out.splitlines() == [
        f"[{number}/9] {Path('colorized', name)}"
        for number, name in enumerate(names, start=1)
    ]


@pytest.mark.usefixtures("heeded_ctrl_c")
def test_ctrl_c_ends_the_command_soon_and_leaves_whole_files(params, tmp_path):
    save("album/00.png", height=1000, width=1000)
    for number in range(1, 60):
        os.link("album/00.png", f"album/{number:02}.png")
    command = ["colorize", "album", "--params", params]
    run = subprocess.Popen(
        [sys.executable, "-m", "colorgan_jax", *command],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    run.stdout.readline()
    before = len(os.listdir("colorized"))
    run.send_signal(signal.SIGINT)
    _, error = run.communicate(timeout=20)
    assert (run.returncode, error) == (130, "error: interrupted.\n")
    results = os.listdir("colorized")
    # What was being written is finished; dozens more were only waiting for it.
    assert 1 <= len(results) <= before + 2 * os.cpu_count()
    for name in results:  # no file of another name, and none cut short
        assert photos.read_rgb(f"colorized/{name}").shape == (1000, 1000, 3)
        assert (tmp_path / "album" / name).exists()


@pytest.mark.parametrize(
    ("arguments", "usage", "message"),
    [
        (["colorise"], "usage: colorgan ", "invalid choice: 'colorise'"),
        (["colorize"], "usage: colorgan colorize ", "required: PHOTO"),
        (
            ["colorize", "a.png", "--outptu", "b"],
            "usage: colorgan colorize ",
            "unrecognized arguments: --outptu b",
        ),
        (["colorize", "film.MKV"], "usage: colorgan colorize ", "colorgan video"),
    ],
)
def test_usage_errors_exit_with_2(capsys, arguments, usage, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(usage) and message in error


def test_without_a_command_all_commands_are_shown(capsys):
    assert main([]) == 2
    assert "colorize photos at their full resolution" in capsys.readouterr().err


def test_formats_go_by_the_names_of_their_extensions(params):
    save("a.png")
    for word, result in (("JPG", "a.jpg"), ("tif", "a.tif"), ("WebP", "a.webp")):
        assert main(["colorize", "a.png", "--params", params, "--format", word]) == 0
        assert Path("colorized", result).is_file()


@pytest.mark.parametrize("word", ["much", "-0.5", "11", "nan", "inf"])
def test_a_saturation_that_is_none_is_named(word, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["colorize", "a.png", f"--saturation={word}"])
    assert stopped.value.code == 2
    assert f"{word} is not a number from 0 to 10." in capsys.readouterr().err


def test_the_program_prints_nothing_but_the_paths(params, tmp_path):
    save("a.png")
    save("b.png")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    environment.pop("JAX_COMPILATION_CACHE_DIR")  # as in a user's environment
    environment.pop("JAX_PLATFORMS")  # JAX is to look for a GPU and find none
    for names, status in ((["a.png"], 0), (["b.png", "nothing.png"], 1)):
        command = ["colorize", *names, "--params", params]
        result = subprocess.run(
            [sys.executable, "-m", "colorgan_jax", *command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == status
        assert len(result.stdout.splitlines()) == 1
        assert len(result.stderr.splitlines()) == 2 * status
    assert list((tmp_path / "cache" / "colorgan_jax").iterdir())


def test_the_compilation_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    def enabled(**environment):
        for name in ("XDG_CACHE_HOME", "HOME"):
            monkeypatch.setenv(name, environment.get(name, ""))
        jax.config.update("jax_compilation_cache_dir", environment.get("JAX"))
        enable_compilation_cache()
        return jax.config.jax_compilation_cache_dir

    home, caches = str(tmp_path / "home"), str(tmp_path / "caches")
    assert enabled(HOME=home) == str(tmp_path / "home/.cache/colorgan_jax")
    assert enabled(HOME=home, XDG_CACHE_HOME=caches) == f"{caches}/colorgan_jax"
    assert Path(caches, "colorgan_jax").is_dir()
    # JAX itself sets the option to the environment's JAX_COMPILATION_CACHE_DIR.
    assert enabled(HOME=home, XDG_CACHE_HOME=caches, JAX="elsewhere") == "elsewhere"
    Path("file").touch()
    assert enabled(HOME=home, XDG_CACHE_HOME=str(tmp_path / "file")) is None


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    command = [sys.executable, "-m", "colorgan_jax", "survey", "analyze"]
    summary = ["--from-summary", "4.4706", "0.7001", "17", "3.1667", "1.2837", "17"]
    reader, writer = os.pipe()
    os.close(reader)
    run = subprocess.run(
        [*command, *summary],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert run.returncode == 141 and run.stderr == b""
