"""A JAX implementation of the colorization GAN of "Can We Color It? Yes We GAN!"."""

__version__ = "0.1.0"
