"""The documents: their links, the test photos that they name, and how to fetch those."""

import importlib.util
import os
import re
import subprocess
import tomllib

import numpy as np
import pytest
from documents import DOCUMENTS, ROOT, blocks
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image
from running_server import serve_folder

from colorgan_jax import read_hints
from colorgan_jax.hint_files import read_film_hints

IDS_FILE = ROOT / "docs" / "test-photos.txt"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Of what is ours: the first of those that the package holds.
LICENSE = PROJECT["license"].partition(" AND ")[0].lower()


def load_script(name):
    """A program of docs/, which is no part of a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return load_script("fetch_test_photos")


@pytest.fixture
def archive(tmp_path):
    """A folder in the place of COCO's archive, and its address."""
    folder = tmp_path / "archive"
    folder.mkdir()
    with serve_folder(folder) as address:
        yield folder, address


def coco_name(photo_id):
    return f"COCO_val2014_{photo_id:012d}.jpg"


def write_ids(tmp_path, *ids):
    file = tmp_path / "ids.txt"
    file.write_text("# A comment.\n" + "".join(f"{photo_id}\n" for photo_id in ids))
    return file


def test_the_list_names_600_photos(script):
    ids = script.read_ids(IDS_FILE)
    assert len(ids) == len(set(ids)) == 600
    assert all(photo_id > 0 for photo_id in ids)


def test_the_list_is_that_of_the_photos_themselves(script, real_photos):
    names = {path.name for path in (real_photos / "test").iterdir()}
    assert names == {coco_name(photo_id) for photo_id in script.read_ids(IDS_FILE)}


def test_photos_are_fetched_and_squashed(tmp_path, archive, script):
    source, url = archive
    # The left half red, the right half blue: so are the halves of the square.
    pixels = np.zeros((480, 640, 3), np.uint8)
    pixels[:, :320, 0] = pixels[:, 320:, 2] = 200
    Image.fromarray(pixels).save(source / coco_name(7), quality=95)
    Image.new("L", (300, 500), 90).save(source / coco_name(8))  # COCO has gray ones.

    folder = tmp_path / "a" / "photos"
    ids = write_ids(tmp_path, 7, 8)
    assert script.main([str(folder), "--ids", str(ids), "--url", url]) == 0

    assert sorted(path.name for path in folder.iterdir()) == [
        coco_name(7),
        coco_name(8),
    ]
    with Image.open(folder / coco_name(7)) as image:
        assert image.format == "JPEG"
        halves = np.asarray(image, int)
    assert halves.shape == (256, 256, 3)
    assert np.abs(halves[:, :120] - [200, 0, 0]).max() < 12
    assert np.abs(halves[:, 136:] - [0, 0, 200]).max() < 12
    with Image.open(folder / coco_name(8)) as image:
        assert image.size == (256, 256)
        assert np.abs(np.asarray(image, int) - 90).max() < 3


def test_each_failure_is_a_sentence_and_the_others_are_fetched(
    tmp_path, archive, script, capsys
):
    source, url = archive
    (source / coco_name(1)).write_bytes(b"no photo")
    Image.new("RGB", (300, 300), "red").save(source / coco_name(3))

    arguments = [
        str(tmp_path),
        "--ids",
        str(write_ids(tmp_path, 1, 2, 3)),
        "--url",
        url,
    ]
    assert script.main(arguments) == 1

    damaged, missing, total = capsys.readouterr().err.splitlines()
    assert coco_name(1) in damaged
    assert coco_name(2) in missing
    assert "404" in missing
    assert "2 of 3" in total
    assert [path.name for path in tmp_path.glob("*.jpg")] == [coco_name(3)]


def test_files_that_are_there_are_kept(tmp_path, archive, script):
    source, url = archive
    Image.new("RGB", (300, 300), "red").save(source / coco_name(5))
    kept = tmp_path / coco_name(5)
    kept.write_bytes(b"mine")
    ids = write_ids(tmp_path, 5)
    assert script.main([str(tmp_path), "--ids", str(ids), "--url", url]) == 0
    assert kept.read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["no server", "no id", "no list"])
def test_what_stops_it_is_one_sentence(tmp_path, script, capsys, what):
    ids = write_ids(tmp_path, "seven" if what == "no id" else 7, 8)
    if what == "no list":
        ids.unlink()
    arguments = [str(tmp_path / "photos"), "--ids", str(ids)]
    # Nobody listens at port 1.
    assert script.main([*arguments, "--url", "http://127.0.0.1:1"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    named = "http://127.0.0.1:1" if what == "no server" else str(ids)
    assert named in sentence


def anchors(document):
    """The anchors that GitHub gives to the headings of a document."""
    text = re.sub(r"(?ms)^```.*?^```", "", document.read_text())
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {
        re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_the_hub_reads_in_the_model_card_what_the_card_says():
    from huggingface_hub import ModelCard  # Not at the top: most tests need no hub.

    card = ModelCard.load(ROOT / "docs" / "model-card.md")
    assert card.data.license == LICENSE
    assert card.data.library_name == PROJECT["name"]
    assert card.data.pipeline_tag == "image-to-image"

    sections = dict(re.findall(r"(?ms)^## (.+?)\n(.*?)(?=^## |\Z)", card.text))
    sources = re.findall(r"(?m)^\| (.+) \| \d+% \|", sections["Training data"])
    for dataset, source in zip(card.data.datasets, sources, strict=True):
        # Such as ILSVRC/imagenet-1k, which is "ImageNet samples" there.
        name = dataset.rpartition("/")[2].partition("-")[0]
        assert source.lower().startswith(name), source
    columns = re.search(r"(?m)^\|.*\|$", sections["Results"])[0].lower()
    assert all(metric in columns for metric in card.data.metrics)


def test_the_hub_can_build_the_space():
    from huggingface_hub import SpaceCard

    folder = ROOT / "cloud" / "spaces"
    settings = SpaceCard.load(folder / "README.md").data
    assert settings.sdk == "gradio"
    assert (folder / settings.app_file).is_file()
    assert settings.license == LICENSE
    # Text in quotes: 3.10 is no number.
    assert SpecifierSet(PROJECT["requires-python"]).contains(settings.python_version)
    lines = (folder / "requirements.txt").read_text().splitlines()
    (requirement,) = [Requirement(line) for line in lines if not line.startswith("#")]
    assert requirement.name == PROJECT["name"]


def test_no_file_speaks_of_where_this_is_developed():
    outside = "../" + "shared"
    search = ["git", "grep", "--files-with-matches", "--fixed-strings", outside]
    found = subprocess.run(
        search, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if found.returncode > 1:
        pytest.skip("not a clone: git does not know which files are part of it")
    assert set(found.stdout.split()) <= {".ci/run"}


def test_the_rooms_are_drawn_as_they_are():
    drawing = load_script("draw_rooms")
    assert drawing.SVG.read_text() == drawing.draw(), "python docs/draw_rooms.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site, and the process that built it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        ["mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ
        | {"NO_MKDOCS_2_WARNING": "1", "REPOSITORY_URL": "https://a.example/b"},
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done


def test_the_site_is_built_without_a_warning(site):
    folder, done = site
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    start = (folder / "index.html").read_text()
    assert 'src="before-after.jpg"' in start
    assert 'href="video/"' in start and 'href="hints/#a-reference-photo"' in start
    # What is no document is in the repository.
    assert "https://a.example/b/blob/main/configs/pix2pix.py" in start
    python = (folder / "api" / "index.html").read_text()
    assert "CIE lightness in [0, 100]" in python


def test_the_site_asks_no_other_host(site):
    folder, _ = site
    pages = list(folder.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = re.findall(
            r'<(?:script|img|iframe)[^>]+src="(https?:[^"]+)|<link[^>]+stylesheet[^>]+href="(https?:[^"]+)',
            page.read_text(),
        )
        assert not loaded, page


def test_the_files_of_hints_in_documents_are_read(tmp_path):
    (photo,), (film,) = (
        blocks(f"docs/{name}.md", "json") for name in ("hints", "video")
    )
    (tmp_path / "photo.json").write_text(photo)
    (tmp_path / "film.json").write_text(film)
    assert read_hints(tmp_path / "photo.json").mask.sum() > 4
    frames = read_film_hints(tmp_path / "film.json")
    assert [frame.time for frame in frames] == [12.5, 61]
