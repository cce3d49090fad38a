"""What `colorgan colorize --hints` names: a file for one photo, or a folder of files."""

from collections.abc import Sequence
from pathlib import Path

from colorgan_jax.commands.outputs import Source
from colorgan_jax.errors import CommandError
from colorgan_jax.hint_files import read_hints
from colorgan_jax.hints import Hints


class GivenHints:
    """The hints of the photos of one run, all read before the first is colorized.

    Attributes:
      files: those that belong to a photo.
      unused: files of the folder that belong to none.
    """

    def __init__(self, path: Path | None, sources: Sequence[Source], output: Path):
        """Reads them.

        Args:
          path: a file of hints; a folder, in which that of old/family.jpg is
            family.jpg.json or family.json, and in a subfolder for a photo whose result is
            in that subfolder of `output`; or None.
          sources: the photos.
          output: the folder for the results.

        Raises:
          CommandError: one file is given for several photos, or no file of the folder
            belongs to a photo.
          HintsError: a file cannot be used.
        """
        self.unused: list[Path] = []
        found: dict[int, Path] = {}
        if path is not None and path.is_dir():
            for source in sources:
                place = path / source.wanted.relative_to(output)
                names = (f"{place.name}.json", f"{place.stem}.json")
                files = [place.with_name(name) for name in names]
                if file := next((file for file in files if file.is_file()), None):
                    found[source.number] = file
            if not found:
                raise CommandError(
                    f"The folder {path} has hints for none of the photos: those of"
                    " family.jpg are in family.jpg.json."
                )
            self.unused = sorted(set(path.rglob("*.json")) - set(found.values()))
        elif path is not None:
            if len(sources) != 1:
                raise CommandError(
                    f"{path} has hints for one photo, but there are {len(sources)}: give"
                    " a folder of such files."
                )
            found[sources[0].number] = path
        self.files = frozenset(found.values())
        self._hints = {number: read_hints(file) for number, file in found.items()}

    def of(self, source: Source) -> Hints | None:
        """The hints of a photo, if there are any."""
        return self._hints.get(source.number)
