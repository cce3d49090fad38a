"""Which photos a run trains on and which it is validated on, kept in its work directory.

A folder may change between two calls of the same run. Drawn anew from what is there, the
split would move photos from validation to training; so it is drawn once.
"""

import dataclasses
import json
from collections.abc import Sequence

from absl import logging

from colorgan_jax.errors import DataError, TrainingError
from colorgan_jax.paths import AnyPath, replace_file
from colorgan_jax.training.run_config import read_json
from colorgan_jax.training.sources import Source, printable

SPLIT_FILE = "photos.json"

# How the batches of the run draw from its training photos: see `data.random_choices`.
_ORDER = "photo i in row i modulo the batch size"


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


def read_split(workdir: AnyPath) -> Split:
    """The split of the run in a work directory.

    Raises:
      TrainingError: if the file is missing or damaged, or an earlier version began the run.
    """
    content = read_json(workdir / SPLIT_FILE)
    if content.pop("order", None) != _ORDER:
        raise TrainingError(
            f"{workdir} holds a run that an earlier version of colorgan_jax began, whose"
            " batches have the photos in another order: finish it with that version, or"
            " start anew in another --workdir."
        )
    return Split(**content)


def write_split(workdir: AnyPath, split: Split) -> None:
    """Keeps the split of a run in its work directory, which exists."""
    # In ASCII, since names of files may hold bytes that are no text.
    content = {"order": _ORDER, **dataclasses.asdict(split)}
    text = json.dumps(content, indent=0) + "\n"
    replace_file(workdir / SPLIT_FILE, text.encode())
