"""Which photos a run trains on and which it is validated on, kept in its work directory.

A folder may change between two calls of the same run. Drawn anew from what is there, the
split would move photos from validation to training; so it is drawn once.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from colorgan_jax.errors import DataError
from colorgan_jax.paths import replace_file
from colorgan_jax.training.run_config import read_json
from colorgan_jax.training.sources import Source, printable

SPLIT_FILE = "photos.json"


@dataclasses.dataclass(frozen=True)
class Split:
    """The photos of a run.

    Attributes:
      training: their `Source.keys`, in the order that batches count in.
      validation: the same of the photos that are held out.
      unused: how many other photos the source had when the split was drawn.
    """

    training: Sequence[str]
    validation: Sequence[str]
    unused: int

    def find(self, source: Source, name: str) -> tuple[list[int], list[int]]:
        """The indices of the training and of the validation photos in their source.

        Says in the log how many photos have come into the source since.

        Args:
          source: what the split was drawn from.
          name: what messages call it.

        Raises:
          DataError: if photos of the run are no longer there.
        """
        indices = {key: index for index, key in enumerate(source.keys)}
        wanted = [*self.training, *self.validation]
        if missing := [key for key in wanted if key not in indices]:
            raise DataError(
                f"Of the {len(wanted)} photos of this run {len(missing)} cannot be found in"
                f" {name} (such as {printable(missing[0])}): put back what is missing, or"
                " start anew in another --workdir."
            )
        new = len(indices) - len(wanted) - self.unused
        if new > 0:
            logging.warning(
                "New photos in %s: %d, not used, since a run keeps the photos that it began"
                " with.",
                name,
                new,
            )
        training, validation = (
            [indices[key] for key in keys] for keys in (self.training, self.validation)
        )
        return training, validation


def read_split(workdir: Path) -> Split | None:
    """The split of the run in a work directory, or None where version 0.1 began it.

    Raises:
      TrainingError: if the file is damaged.
    """
    file = workdir / SPLIT_FILE
    if not file.exists():
        logging.warning(
            "%s has no %s, as an earlier version left it: the photos of the run are drawn"
            " once more, and are the same if their source is.",
            workdir,
            SPLIT_FILE,
        )
        return None
    return Split(**read_json(file))


def write_split(workdir: Path, split: Split) -> None:
    """Keeps the split of a run in its work directory, which exists."""
    # In ASCII, since names of files may hold bytes that are no text.
    text = json.dumps(dataclasses.asdict(split), indent=0) + "\n"
    replace_file(workdir / SPLIT_FILE, text.encode())
