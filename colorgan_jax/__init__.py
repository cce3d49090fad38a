"""A JAX implementation of the colorization GAN of "Can We Color It? Yes We GAN!".

From a program:

    from colorgan_jax import colorize, load_params
    rgb = colorize(load_params(), L)
"""

from colorgan_jax.errors import ColorganError
from colorgan_jax.inference import colorize
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.params import load_params

__version__ = "0.1.0"
__all__ = [
    "ColorganError",
    "Discriminator",
    "Generator",
    "colorize",
    "load_params",
]
