"""A training run whose steps take milliseconds, its photos, and what it leaves behind."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import SingleDeviceSharding
from PIL import Image

from colorgan_jax.training.checkpoint import Checkpoints
from colorgan_jax.training.train import new_state
from configs import quickstart

# A run whose steps take milliseconds, as overrides and as a config.
TINY = {
    "image_size": 32,
    "generator.filters": 4,
    "discriminator.filters": 4,
    "batch_size": 8,
    "log_every_steps": 5,
    "validate_every_steps": 1000,
}


_ROOT = Path(__file__).parents[1]


def tiny_config(**values):
    config = quickstart.get_config()
    for name, value in (TINY | values).items():
        config.update_from_flattened_dict({name: value})
    return config


def tiny_flags(**values):
    """The tiny run as flags of launch.py."""
    return [f"--config.{name}={value}" for name, value in (TINY | values).items()]


# One epoch of two steps, on 20 photos.
SHORT_FLAGS = tiny_flags(
    epochs=1,
    **{
        "optimizer.decay_epochs": 0.0,  # No config's may be longer than the run.
        "data.train_photos": 16,
        "data.validation_photos": 4,
    },
)


def save_photos(folder, count, size=64):
    """Writes photos of large soft spots, each like no other, into a new folder."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")


def launch(workdir, *, devices=2, flags=(), environment=(), **values):
    """Starts launch.py as a user would, on the tiny run."""
    count = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "--config=configs/quickstart.py",
            f"--workdir={workdir}",
            *tiny_flags(**values),
            *flags,
        ],
        cwd=_ROOT,
        env=os.environ | {"XLA_FLAGS": count} | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition, process):
    """Waits until it holds; fails if the process ends first."""
    while not condition():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def read_metrics(workdir):
    with (workdir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def latest_step(workdir):
    with Checkpoints(workdir) as saved:
        return saved.latest_step()


def state_of(workdir, **values):
    """Every array of the newest checkpoint, random key included."""
    config = tiny_config(**values)
    create = jax.jit(
        lambda: new_state(config, steps_per_epoch=19),
        # Whatever devices it was saved from.
        out_shardings=SingleDeviceSharding(jax.devices()[0]),
    )
    with Checkpoints(workdir) as saved:
        state = saved.restore(jax.eval_shape(create))
    return jax.device_get(
        jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    )
