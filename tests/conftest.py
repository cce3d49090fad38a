"""Runs the tests on two virtual CPU devices, so that sharding is always exercised."""

import os

# Read when JAX and TensorFlow start, hence set before any test module imports them.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_DEFAULT_PRNG_IMPL"] = "rbg"  # As train.py: it compiles much faster.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
)
