"""A JAX implementation of the colorization GAN of "Can We Color It? Yes We GAN!".

From a program:

    from colorgan_jax import colorize, load_params
    rgb = colorize(load_params(), L)

Or with photo files, whose depth, transparency and metadata are kept:

    from colorgan_jax import colorize_photo, load_params, read_photo, write_photo
    photo = read_photo("old.tif")
    write_photo("new.tif", colorize_photo(load_params(), photo))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from colorgan_jax.bulk import colorize_photos, read_ahead
    from colorgan_jax.errors import ColorganError
    from colorgan_jax.hint_files import read_hints
    from colorgan_jax.hints import Hints, make_hints
    from colorgan_jax.inference import colorize, colorize_photo, where_to_ask
    from colorgan_jax.networks.discriminator import Discriminator
    from colorgan_jax.networks.generator import Generator
    from colorgan_jax.params import fold_batch_norm, load_params, save_params
    from colorgan_jax.photos import Photo, read_photo, write_photo
    from colorgan_jax.references import Reference, make_reference

__version__ = "1.0.0"
__all__ = [
    "ColorganError",
    "Discriminator",
    "Generator",
    "Hints",
    "Photo",
    "Reference",
    "colorize",
    "colorize_photo",
    "colorize_photos",
    "fold_batch_norm",
    "load_params",
    "make_hints",
    "make_reference",
    "read_ahead",
    "read_hints",
    "read_photo",
    "save_params",
    "where_to_ask",
    "write_photo",
]

# Where each of them is.
_MODULES = {
    "ColorganError": "errors",
    "Discriminator": "networks.discriminator",
    "Generator": "networks.generator",
    "Hints": "hints",
    "Photo": "photos",
    "Reference": "references",
    "colorize": "inference",
    "colorize_photo": "inference",
    "colorize_photos": "bulk",
    "fold_batch_norm": "params",
    "load_params": "params",
    "make_hints": "hints",
    "make_reference": "references",
    "read_ahead": "bulk",
    "read_hints": "hint_files",
    "read_photo": "photos",
    "save_params": "params",
    "where_to_ask": "inference",
    "write_photo": "photos",
}


def __getattr__(name: str) -> Any:
    """Imports what is asked for and no more: JAX takes long, and not all need Flax."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
