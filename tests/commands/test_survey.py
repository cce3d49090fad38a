"""colorgan survey: what it prints, how it stops, and what it refuses."""

import csv
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from survey_server import (
    find_token,
    identify,
    opinion,
    rate_photos,
    save_photos,
    serve,
)

from colorgan_jax.__main__ import main
from colorgan_jax.survey.database import read_ratings

REPOSITORY = Path(__file__).parents[2]


def rate_all_photos(url):
    """A rater's whole session, with a double click on the last button."""
    session = requests.Session()
    rate_photos(url, session, session.post(f"{url}/start").text, stop=9)
    last = {"photo": find_token(session.get(f"{url}/rate").text)}
    last["rating"] = opinion(
        identify(session.get(f"{url}/photo/{last['photo']}").content)
    )
    for _ in range(2):
        assert "Thank you" in session.post(f"{url}/rate", data=last).text


def serve_arguments(folder, *more):
    options = ["--real", folder / "real", "--generated", folder / "generated"]
    options += ["--database", folder / "survey.db", "--port", "0", *more]
    return ["survey", "serve", *map(str, options)]


@pytest.fixture
def program(tmp_path):
    """`colorgan survey serve` as users start it, and its address."""
    save_photos(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "colorgan_jax", *serve_arguments(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            expected = "5 real and 5 generated photos, shown at 24x24 pixels."
            assert process.stdout.readline().startswith(expected)
            address = process.stdout.readline()
            yield process, re.search(r"http://127.0.0.1:\d+", address)[0], tmp_path
        finally:
            process.kill()


def test_the_program_tells_who_finished_and_stops_by_ctrl_c(program):
    process, url, folder = program
    for expected in ("1 rater has finished.\n", "2 raters have finished.\n"):
        rate_all_photos(url)
        assert process.stdout.readline() == expected
    process.send_signal(signal.SIGINT)  # while a browser's connection is open
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0 and errors == ""
    database = folder / "survey.db"
    command = f"colorgan survey analyze {database}"
    assert output.strip() == f"Stopped. The results: {command}"
    files = {path.name for path in folder.iterdir()}
    assert files == {"real", "generated", "survey.db"}
    assert len(read_ratings(database).ratings) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set as Linux does")
def test_a_full_disk_loses_nothing_and_the_rater_can_go_on(program):
    import resource

    process, url, folder = program
    session = requests.Session()
    rate_photos(url, session, session.post(f"{url}/start").text, stop=3)
    token = find_token(session.get(f"{url}/rate").text)
    # No file of the process may grow any more.
    limits = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1, limits[1]))
    data = {"photo": token, "rating": 4}
    reply = session.post(f"{url}/rate", data=data)
    assert reply.status_code == 503 and "could not be saved" in reply.text
    assert requests.post(f"{url}/start").status_code == 503
    assert find_token(session.get(f"{url}/rate").text) == token
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    assert "Photo 5 of 10" in session.post(f"{url}/rate", data=data).text
    with closing(sqlite3.connect(folder / "survey.db")) as connection:
        rows = connection.execute("SELECT rating IS NULL FROM trials").fetchall()
    assert Counter(rows) == {(0,): 4, (1,): 6}
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.count("The database cannot be used") == 2
    assert "Traceback" not in errors and errors.count("\n") == 2


@pytest.fixture
def folder(tmp_path):
    save_photos(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--real", "nothing"], "The folder nothing does not exist."),
        (["--generated", "{}/real"], "must lie apart"),
        (["--count", "6"], "real holds 5 that can be read."),
        (["--database", "{}/real/real-0.png"], "real-0.png is not a survey"),
        (["--database", "{}/none/survey.db"], "none does not exist"),
        (["--port", "{port}"], "{port}: Address already in use."),
        (["--host", "192.0.2.1"], "--host 192.0.2.1 --port 0: "),
    ],
)
def test_what_cannot_be_served_is_one_sentence(folder, capsys, arguments, message):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = [text.format(folder, port=port) for text in arguments]
        assert main(serve_arguments(folder, *arguments)) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert output.err.startswith("error: ") and message.format(port=port) in output.err
    assert sorted(os.listdir(folder)) == ["generated", "real"]


def test_a_survey_of_other_photos_is_refused(folder, capsys):
    with serve(folder):
        pass
    pixels = np.zeros((24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "real" / "real-0.png")
    assert main(serve_arguments(folder)) == 1
    assert "holds a survey of other photos" in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_install_it(folder, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "colorgan_jax.survey.server", raising=False)
    monkeypatch.delattr("colorgan_jax.survey.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if not installed
    assert main(serve_arguments(folder)) == 1
    error = capsys.readouterr().err
    assert "needs the package uvicorn" in error
    assert "pip install 'colorgan_jax[survey]'" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "word", "sentence"),
    [
        ("--count", "0", "0 is not a whole number of at least 1."),
        ("--count", "five", "five is not a whole number of at least 1."),
        ("--port", "65536", "65536 is not a whole number from 0 to 65535."),
        ("--port", "http", "http is not a whole number from 0 to 65535."),
        ("--seed", "1.5", "1.5 is not a whole number."),
    ],
)
def test_numbers_out_of_range_are_usage_errors(folder, capsys, option, word, sentence):
    with pytest.raises(SystemExit) as stopped:
        main(serve_arguments(folder, option, word))
    assert stopped.value.code == 2
    assert f"argument {option}: {sentence}\n" in capsys.readouterr().err


def test_the_analysis_of_a_survey_that_is_being_served(folder, capsys):
    database, output = folder / "survey.db", folder / "new" / "results"
    with serve(folder) as url:
        assert main(["survey", "analyze", str(database), "--output", str(output)]) == 0
        assert "Nobody has rated all photos yet" in capsys.readouterr().out
        assert sorted(os.listdir(output)) == ["analysis.json", "ratings.csv"]

        for _ in range(2):
            rate_all_photos(url)
        requests.post(f"{url}/start")
        assert main(["survey", "analyze", str(database), "--output", str(output)]) == 0
    assert "2 raters rated 5 real photos" in capsys.readouterr().out
    with Image.open(output / "ratings.png") as plot:
        assert plot.width >= 1000
    with open(output / "ratings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 and {row["photo"] for row in rows} == {
        f"{kind}-{number}.png" for kind in ("real", "generated") for number in range(5)
    }
    # The real ones get 2, 3, 4, 5, 1 and the generated ones 1, 2, 3, 4, 5: means of 3.
    result = json.loads((output / "analysis.json").read_text())
    assert result["raters"] == 2 and result["unfinished"] == 1
    assert result["real"]["mean"] == result["generated"]["mean"] == 3.0


def test_the_analysis_of_a_summary(folder, capsys):
    table_1 = ["4.4706", "0.7001", "85", "3.1667", "1.2837", "85"]
    output = folder / "results"
    arguments = ["--from-summary", *table_1, "--output", str(output)]
    assert main(["survey", "analyze", *arguments]) == 0
    assert "4.4706" in capsys.readouterr().out
    assert os.listdir(output) == ["analysis.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/none.db"], "none.db does not exist"),
        (["{}/real/real-0.png"], "real-0.png is not a survey"),
        (["--from-summary", *["9", "1", "5", "4", "1", "5"]], "between 1 and 5"),
        (
            [
                "--from-summary",
                *["4", "1", "5", "3", "1", "5"],
                "--output",
                "{}/real/real-0.png",
            ],
            "real-0.png cannot be written: File exists.",
        ),
    ],
)
def test_what_cannot_be_analyzed_is_one_sentence(folder, capsys, arguments, message):
    arguments = [text.format(folder) for text in arguments]
    assert main(["survey", "analyze", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["a.db", "--from-summary", *["4", "1", "5", "3", "1", "5"]]]
)
def test_the_analysis_is_of_a_file_or_of_a_summary(capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["survey", "analyze", *arguments])
    assert stopped.value.code == 2 and "--from-summary" in capsys.readouterr().err
