"""What `--reference` names: a photo whose colors are taken over."""

from pathlib import Path

from colorgan_jax.errors import CommandError
from colorgan_jax.photos import Photo, is_nearly_gray, read_rgb
from colorgan_jax.references import Reference, make_reference


def read_reference(path: Path | None) -> Reference | None:
    """The photo whose colors are taken over.

    Raises:
      CommandError: it has no colors.
      PhotoError: it cannot be read.
    """
    if path is None:
        return None
    rgb = read_rgb(path)
    if is_nearly_gray(rgb):
        raise CommandError(f"{path} has no colors to take over (--reference).")
    return make_reference(Photo(rgb))
