"""The survey's database: its photos, its raters and what each rated, in SQLite."""

import hashlib
import os
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from colorgan_jax.errors import SurveyError

# Both stand in the header of every SQLite file, whose layout is part of the format
# (https://www.sqlite.org/fileformat.html, section 1.3).
_APPLICATION_ID = int.from_bytes(b"cGAN")
_FORMAT_VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT_VERSION};
CREATE TABLE survey (
  question TEXT NOT NULL,
  cookie TEXT NOT NULL
);
CREATE TABLE photos (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('real', 'generated')),
  digest TEXT NOT NULL
);
CREATE TABLE raters (
  id TEXT PRIMARY KEY,
  started TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE trials (
  token TEXT PRIMARY KEY,
  rater TEXT NOT NULL REFERENCES raters,
  position INTEGER NOT NULL,
  photo INTEGER NOT NULL REFERENCES photos,
  rating INTEGER CHECK (rating IN (1, 2, 3, 4, 5)),
  rated TEXT,
  UNIQUE (rater, position),
  UNIQUE (rater, photo)
);
"""


@dataclass(frozen=True)
class SurveyPhoto:
    """A photo as the raters see it.

    Attributes:
      name: its path below the folder it comes from.
      kind: "real" or "generated".
      pixels: uint8 [H, W, 3], sRGB in [0, 255].
    """

    name: str
    kind: str
    pixels: np.ndarray

    @property
    def digest(self) -> str:
        """SHA-256 of the size and the pixels, in hexadecimal."""
        return hashlib.sha256(
            repr(self.pixels.shape).encode() + self.pixels.tobytes()
        ).hexdigest()


@dataclass(frozen=True)
class Trial:
    """One photo that one rater is asked about.

    Attributes:
      token: a random name for it, which tells nothing about the photo.
      position: its place in the rater's order, from 1.
      photo: the place of the photo in the survey's list, from 0.
    """

    token: str
    position: int
    photo: int


@dataclass(frozen=True)
class Ratings:
    """What the raters said.

    Attributes:
      ratings: int [raters, photos], from 1 to 5; only raters who rated every photo.
      is_real: bool [photos].
      names: the photos' names, a column each.
      unfinished: how many raters began and did not finish.
    """

    ratings: np.ndarray
    is_real: np.ndarray
    names: list[str]
    unfinished: int


class SurveyDatabase:
    """A survey's file, open for a server: several threads may use it at once.

    There is one connection and a lock around it, so that the threads wait for each
    other here and not inside SQLite. Each transaction takes a few milliseconds.
    """

    def __init__(
        self, path: str | os.PathLike, photos: Sequence[SurveyPhoto], question: str
    ):
        """Opens a survey, or begins one where the file is missing or empty.

        Args:
          path: the file; its folder must exist.
          photos: what the raters see.
          question: what they are asked. A survey that has begun keeps its own.

        Raises:
          SurveyError: the file cannot be opened, is no survey (it is left as it is),
            or is a survey of other photos.
        """
        self._path = Path(path)
        self._lock = threading.Lock()
        if not self._path.parent.is_dir():
            raise SurveyError(f"The folder {self._path.parent} does not exist.")
        is_new = not _is_survey(self._path)
        try:
            self._connection = sqlite3.connect(self._path, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        try:
            if is_new:
                self._create(photos, question)
            # A commit then waits for the disk once instead of three times, and readers
            # wait for nothing.
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._check_photos(photos)
            self.question, self.cookie = self._connection.execute(
                "SELECT question, cookie FROM survey"
            ).fetchone()
        except sqlite3.Error as error:
            self.close()
            raise _unusable(self._path, error) from error
        except SurveyError:
            self.close()
            raise

    def _create(self, photos: Sequence[SurveyPhoto], question: str) -> None:
        with self._connection:  # the schema, too, is there whole or not at all
            self._connection.executescript(_SCHEMA)
            self._connection.executemany(
                "INSERT INTO photos (id, name, kind, digest) VALUES (?, ?, ?, ?)",
                [
                    (number, photo.name, photo.kind, photo.digest)
                    for number, photo in enumerate(photos)
                ],
            )
            # A cookie goes to every port of a host: with a name of its own, two
            # surveys on one machine do not take each other's raters away.
            self._connection.execute(
                "INSERT INTO survey (question, cookie) VALUES (?, ?)",
                (question, f"rater-{secrets.token_hex(4)}"),
            )

    def _check_photos(self, photos: Sequence[SurveyPhoto]) -> None:
        stored = self._connection.execute(
            "SELECT name, kind, digest FROM photos ORDER BY id"
        ).fetchall()
        if stored != [(photo.name, photo.kind, photo.digest) for photo in photos]:
            raise SurveyError(
                f"{self._path} holds a survey of other photos: name another file with"
                " --database, or use the same --real, --generated, --count and --seed as"
                " before."
            )
        self._count = len(stored)

    def __enter__(self) -> "SurveyDatabase":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. Nothing is lost without it, either."""
        self._connection.close()

    def add_rater(self) -> str:
        """Adds a rater with a random order of the photos.

        Returns:
          The rater's id: 43 random characters (256 bits).

        Raises:
          sqlite3.Error: it could not be saved; then there is no such rater.
        """
        rater = secrets.token_urlsafe(32)
        order = secrets.SystemRandom().sample(range(self._count), self._count)
        with self._lock, self._connection:
            self._connection.execute("INSERT INTO raters (id) VALUES (?)", (rater,))
            self._connection.executemany(
                "INSERT INTO trials (token, rater, position, photo) VALUES (?, ?, ?, ?)",
                [
                    (secrets.token_urlsafe(16), rater, position, photo)
                    for position, photo in enumerate(order, start=1)
                ],
            )
        return rater

    def has_rater(self, rater: str) -> bool:
        """Whether there is a rater of this id."""
        return bool(self._select("SELECT 1 FROM raters WHERE id = ?", rater))

    def current_trial(self, rater: str) -> Trial | None:
        """The photo that a rater is to rate now, None for one who has finished."""
        trials = self._select(
            "SELECT token, position, photo FROM trials"
            " WHERE rater = ? AND rating IS NULL ORDER BY position LIMIT 1",
            rater,
        )
        return Trial(*trials[0]) if trials else None

    def find_trial(self, rater: str, token: str) -> Trial | None:
        """The trial of this token, None where it is not one of this rater's."""
        trials = self._select(
            "SELECT token, position, photo FROM trials WHERE rater = ? AND token = ?",
            rater,
            token,
        )
        return Trial(*trials[0]) if trials else None

    def rate(self, trial: Trial, rating: int) -> bool:
        """Saves the rating of a trial, unless it has one: the first one counts.

        Args:
          trial: one that this database returned.
          rating: from 1 to 5.

        Returns:
          Whether this rating counts.

        Raises:
          sqlite3.Error: it could not be saved; the trial is still without a rating.
        """
        with self._lock, self._connection:
            changed = self._connection.execute(
                "UPDATE trials SET rating = ?, rated = CURRENT_TIMESTAMP"
                " WHERE token = ? AND rating IS NULL",
                (rating, trial.token),
            )
        return changed.rowcount == 1

    def count_finished(self) -> int:
        """How many raters have rated every photo."""
        finished = self._select(
            "SELECT rater FROM trials GROUP BY rater HAVING count(*) = count(rating)"
        )
        return len(finished)

    def _select(self, query: str, *values: str) -> list[tuple]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


def read_ratings(database: str | os.PathLike) -> Ratings:
    """Reads what the raters of a survey said; a server may be running meanwhile.

    Args:
      database: the file that `survey serve --database` made. It is not changed.

    Raises:
      SurveyError: the file is missing, cannot be read, or is no survey.
    """
    path = Path(database)
    if not _is_survey(path):
        raise SurveyError(f"{path} does not exist or is empty.")
    # Beside an open database lies its write-ahead log. Without one, nobody writes, and
    # SQLite is told so: else it would want to make that log, even on a read-only disk.
    is_open = path.with_name(f"{path.name}-wal").exists()
    options = "mode=ro" if is_open else "immutable=1"
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?{options}", uri=True)
        ) as connection:
            photos = connection.execute(
                "SELECT name, kind FROM photos ORDER BY id"
            ).fetchall()
            # Every rater has a row for every photo, in one order: a table.
            rows = connection.execute(
                "SELECT coalesce(rating, 0) FROM trials ORDER BY rater, photo"
            ).fetchall()
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    ratings = np.array(rows, dtype=np.int64).reshape(-1, len(photos))
    finished = (ratings > 0).all(axis=1)
    return Ratings(
        ratings=ratings[finished],
        is_real=np.array([kind == "real" for _, kind in photos]),
        names=[name for name, _ in photos],
        unfinished=int((~finished).sum()),
    )


def _is_survey(path: Path) -> bool:
    """Whether a file is a survey; False where there is none, or an empty file.

    Its first bytes tell. SQLite is kept from what is no survey: it would tidy up after
    another program that was killed, and so change that program's file.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SurveyError(f"{path} cannot be opened: {error.strerror}.") from error
    if not header:
        return False
    version, application_id = header[60:64], header[68:72]
    if (
        not header.startswith(b"SQLite format 3\0")
        or int.from_bytes(application_id) != _APPLICATION_ID
    ):
        raise SurveyError(
            f"{path} is not a survey: name a file that colorgan survey serve made or, to"
            " start a survey, one that does not exist yet."
        )
    if int.from_bytes(version) != _FORMAT_VERSION:
        raise SurveyError(f"{path} was made by another version of colorgan_jax.")
    return True


def _unusable(path: Path, error: sqlite3.Error) -> SurveyError:
    return SurveyError(f"The survey {path} cannot be used: {error}.")
