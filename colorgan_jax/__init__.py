"""A JAX implementation of the colorization GAN of "Can We Color It? Yes We GAN!".

From a program:

    from colorgan_jax import colorize, load_params
    rgb = colorize(load_params(), L)

Or with photo files, whose depth, transparency and metadata are kept:

    from colorgan_jax import colorize_photo, load_params, read_photo, write_photo
    photo = read_photo("old.tif")
    write_photo("new.tif", colorize_photo(load_params(), photo))
"""

from typing import TYPE_CHECKING, Any

from colorgan_jax.errors import ColorganError
from colorgan_jax.hint_files import read_hints
from colorgan_jax.hints import Hints, make_hints
from colorgan_jax.inference import colorize, colorize_photo
from colorgan_jax.params import load_params
from colorgan_jax.photos import Photo, read_photo, write_photo

if TYPE_CHECKING:
    from colorgan_jax.networks.discriminator import Discriminator
    from colorgan_jax.networks.generator import Generator

__version__ = "0.1.0"
__all__ = [
    "ColorganError",
    "Discriminator",
    "Generator",
    "Hints",
    "Photo",
    "colorize",
    "colorize_photo",
    "load_params",
    "make_hints",
    "read_hints",
    "read_photo",
    "write_photo",
]


def __getattr__(name: str) -> Any:
    """Imports the networks when they are asked for: they bring Flax."""
    if name == "Discriminator":
        from colorgan_jax.networks.discriminator import Discriminator

        return Discriminator
    if name == "Generator":
        from colorgan_jax.networks.generator import Generator

        return Generator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
