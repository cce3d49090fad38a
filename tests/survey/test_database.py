"""The survey's database, read with SQLite itself beside what colorgan_jax reads."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from colorgan_jax.errors import SurveyError
from colorgan_jax.survey.database import SurveyDatabase, SurveyPhoto, read_ratings

REPOSITORY = Path(__file__).parents[2]


def make_photo(name, kind, gray=0):
    return SurveyPhoto(name, kind, np.full((4, 4, 3), gray, np.uint8))


PHOTOS = [
    make_photo("a.jpg", "real"),
    make_photo("sub/b.jpg", "real"),
    make_photo("a.png", "generated"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "survey.db"


def open_database(path, photos=PHOTOS, question="How real?"):
    return SurveyDatabase(path, photos, question)


def rate_all(database, rater, ratings):
    """Rates every photo, `ratings` being in the order of the photos."""
    while trial := database.current_trial(rater):
        assert database.rate(trial, ratings[trial.photo])


def test_ratings_come_back_in_the_order_of_the_photos(path):
    with open_database(path) as database:
        expected = [[5, 4, 1], [3, 3, 2], [1, 2, 5]]
        for ratings in expected:
            rate_all(database, database.add_rater(), ratings)
        half = database.add_rater()
        database.rate(database.current_trial(half), 4)
        database.add_rater()
        assert database.count_finished() == 3
        while_open = read_ratings(path)
    for ratings in (while_open, read_ratings(str(path))):
        assert sorted(ratings.ratings.tolist()) == sorted(expected)
        assert ratings.is_real.tolist() == [True, True, False]
        assert ratings.names == ["a.jpg", "sub/b.jpg", "a.png"]
        assert ratings.unfinished == 2


def test_a_survey_without_raters_is_an_empty_table(path):
    open_database(path).close()
    ratings = read_ratings(path)
    assert ratings.ratings.shape == (0, 3) and ratings.unfinished == 0


def test_reading_leaves_no_trace(path):
    with open_database(path) as database:
        rate_all(database, database.add_rater(), [1, 2, 3])
    before = path.read_bytes()
    assert read_ratings(path).ratings.tolist() == [[1, 2, 3]]
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def test_the_first_of_several_ratings_counts(path):
    with open_database(path) as database:
        rater = database.add_rater()
        first = database.current_trial(rater)
        assert database.rate(first, 2)
        assert not database.rate(first, 5)
        assert database.current_trial(rater).position == 2
        rows = read_rows(path, "SELECT rating FROM trials WHERE position = 1")
        assert rows == [(2,)]


def read_rows(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_many_threads_at_once_lose_nothing(path):
    photos = [make_photo(f"{number}.png", "real", number) for number in range(8)]

    def rate(number):
        rater = database.add_rater()
        while trial := database.current_trial(rater):
            with pytest.raises(sqlite3.IntegrityError):  # undoes its own work only
                database.rate(trial, 6)
            assert database.rate(trial, number % 5 + 1)

    with open_database(path, photos) as database, ThreadPoolExecutor(16) as threads:
        list(threads.map(rate, range(40)))
    expected = sorted([number % 5 + 1] * 8 for number in range(40))
    assert sorted(read_ratings(path).ratings.tolist()) == expected


def test_each_rater_has_an_order_and_tokens_of_their_own(path):
    photos = [make_photo(f"{number}.png", "real", number) for number in range(10)]
    with open_database(path, photos) as database:
        raters = [database.add_rater() for _ in range(200)]
    rows = read_rows(path, "SELECT rater, photo, token FROM trials ORDER BY position")
    orders = {rater: [] for rater in raters}
    for rater, photo, _ in rows:
        orders[rater].append(photo)
    assert all(sorted(order) == list(range(10)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 200
    # Each photo comes first for about 20 raters: a mean of 20 and, binomially, a
    # standard deviation of 4.2. Beyond 5 of them is a chance of 1 in 100,000.
    firsts = np.bincount([order[0] for order in orders.values()], minlength=10)
    assert firsts.min() >= 1 and firsts.max() <= 41
    tokens = [token for _, _, token in rows]
    assert len(set(tokens)) == 2000 and {len(token) for token in tokens} == {22}
    assert {len(rater) for rater in raters} == {43}


def test_it_goes_on_after_a_restart_with_the_question_that_it_began_with(path):
    with open_database(path) as database:
        rater, cookie = database.add_rater(), database.cookie
        first = database.current_trial(rater)
        database.rate(first, 3)
        second = database.current_trial(rater)
    with open_database(path, question="Another?") as database:
        assert database.has_rater(rater) and not database.has_rater(rater[::-1])
        assert database.current_trial(rater) == second
        assert database.find_trial(rater, first.token) == first
        assert database.question == "How real?" and database.cookie == cookie


def test_what_was_rated_before_a_kill_is_there(path):
    program = (
        "import os, sys; sys.path.insert(0, 'tests/survey'); import test_database as tests\n"
        "database = tests.open_database(sys.argv[1])\n"
        "tests.rate_all(database, database.add_rater(), [1, 2, 3])\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, path], cwd=REPOSITORY, check=False)
    assert path.with_name("survey.db-wal").exists()  # it was not closed
    assert read_ratings(path).ratings.tolist() == [[1, 2, 3]]
    with open_database(path) as database:
        assert database.count_finished() == 1


def test_a_trial_is_found_by_its_own_rater_only(path):
    with open_database(path) as database:
        one, other = database.add_rater(), database.add_rater()
        token = database.current_trial(one).token
        assert database.find_trial(one, token) is not None
        assert database.find_trial(other, token) is None
        assert database.find_trial(one, "") is None


def test_sqlite_itself_refuses_ratings_out_of_range(path):
    with open_database(path) as database:
        trial = database.current_trial(database.add_rater())
        for rating in (0, 6, 2.5, "x"):
            with pytest.raises(sqlite3.IntegrityError):
                database.rate(trial, rating)
        assert database.rate(trial, 1)  # the lock and the transaction are free again


@pytest.mark.parametrize(
    "photos",
    [
        PHOTOS[:2],
        [*PHOTOS[:2], make_photo("a.png", "generated", gray=1)],
        [*PHOTOS[:2], make_photo("c.png", "generated")],
        [*PHOTOS[:2], make_photo("a.png", "real")],
    ],
    ids=["fewer", "other pixels", "other name", "other kind"],
)
def test_a_survey_of_other_photos_is_refused(path, photos):
    open_database(path).close()
    before = path.read_bytes()
    with pytest.raises(SurveyError, match="survey of other photos: name another file"):
        open_database(path, photos)
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


def write_text(path):
    path.write_text("my dissertation, chapter 1")


def write_other_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (id)")


def write_newer_version(path):
    open_database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_text, "is not a survey"),
        (write_other_database, "is not a survey"),
        (write_newer_version, "by another version"),
        (Path.mkdir, "Is a directory"),
    ],
)
@pytest.mark.parametrize("use", [open_database, read_ratings])
def test_other_files_are_refused_and_left_alone(path, write, message, use):
    write(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(SurveyError, match=message) as raised:
        use(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert os.listdir(path.parent) == [path.name]


def test_a_damaged_survey_is_one_sentence(path):
    with open_database(path) as database:
        rate_all(database, database.add_rater(), [1, 2, 3])
    path.write_bytes(path.read_bytes()[:5000])
    for use in (open_database, read_ratings):
        with pytest.raises(SurveyError, match="cannot be used: ") as raised:
            use(path)
        assert "\n" not in str(raised.value)


def test_a_missing_file_begins_a_survey_but_cannot_be_read(path):
    with pytest.raises(SurveyError, match="does not exist"):
        read_ratings(path)
    assert not path.exists()
    path.touch()  # as `mktemp` leaves one
    open_database(path).close()
    assert read_ratings(path).names == [photo.name for photo in PHOTOS]
    with pytest.raises(SurveyError, match="folder .*missing does not exist"):
        open_database(path.parent / "missing" / "survey.db")
