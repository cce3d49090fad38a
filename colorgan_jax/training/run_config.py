"""The config of a run: what is refused, and what its work directory keeps of it."""

import json
from pathlib import Path

import jax
import ml_collections
from absl import logging

from colorgan_jax.errors import TrainingError
from colorgan_jax.networks.generator import check_encoder, unet_depth
from colorgan_jax.paths import replace_file
from colorgan_jax.weights import efficientnet as pretrained

# What the shapes of the state depend on: fixed for the life of a work directory. The
# values are those of a config.json from before the name was there.
ARCHITECTURE = {
    "image_size": None,
    "generator.filters": None,
    "generator.maximum_filters": 0,
    "generator.encoder": "unet",
    "generator.frozen_blocks": 0,
    "discriminator.filters": None,
}

COMPUTE_DTYPES = ("float32", "bfloat16")


def check_config(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot work, before anything is read or compiled."""
    try:
        unet_depth(config.image_size)
    except ValueError as error:
        raise TrainingError(f"--config.image_size: {error}") from error
    if config.image_size < 32:
        raise TrainingError(
            f"--config.image_size is {config.image_size}: the discriminator needs 32"
            " pixels or more to see one patch."
        )
    try:
        check_encoder(
            config.generator.encoder, config.image_size, config.generator.frozen_blocks
        )
    except ValueError as error:
        raise TrainingError(f"--config.generator.{error}") from error
    if config.compute_dtype not in COMPUTE_DTYPES:
        raise TrainingError(
            f"--config.compute_dtype is {config.compute_dtype}: it must be"
            f" {' or '.join(COMPUTE_DTYPES)}."
        )
    if config.batch_size < 2:
        raise TrainingError(
            f"--config.batch_size is {config.batch_size}: it must be 2 or more, since"
            " BatchNorm over the single pixel of the bottleneck would erase it."
        )
    if config.batch_size % jax.device_count():
        raise TrainingError(
            f"--config.batch_size is {config.batch_size}: it must be a multiple of the"
            f" {jax.device_count()} devices that share it."
        )
    if not 0 < config.data.smallest_crop <= 1:
        raise TrainingError(
            f"--config.data.smallest_crop is {config.data.smallest_crop}: it must be more"
            " than 0 and at most 1."
        )
    if not 0 <= config.optimizer.decay_epochs <= config.epochs:
        raise TrainingError(
            f"--config.optimizer.decay_epochs is {config.optimizer.decay_epochs}: it must"
            f" be from 0 to the {config.epochs} epochs of the run."
        )
    values = _flatten(config.to_dict())
    for name, smallest in {
        "epochs": 1,
        "log_every_steps": 1,
        "validate_every_steps": 1,
        "keep_checkpoints": 1,
        "generator.maximum_filters": 0,
        "loss.adversarial_from_epoch": 0,
    }.items():
        if values[name] < smallest:
            raise TrainingError(
                f"--config.{name} is {values[name]}: it must be {smallest} or more."
            )


def check_pretrained(config: ml_collections.ConfigDict) -> None:
    """Refuses to start from a pre-trained network that is not installed."""
    if config.generator.encoder == "efficientnet" and not pretrained.is_available():
        raise TrainingError(
            f"--config.generator.encoder is efficientnet: {pretrained.HOW_TO_INSTALL}."
        )


def check_workdir(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Refuses a work directory with other networks; logs what else has changed."""
    file = workdir / "config.json"
    if not file.exists():
        return
    before = ARCHITECTURE | _flatten(json.loads(file.read_text()))
    changed = {
        name: f"{name} {before[name]} -> {value}"
        for name, value in _flatten(config.to_dict()).items()
        if name in before and before[name] != value
    }
    if refused := [changed[name] for name in ARCHITECTURE if name in changed]:
        raise TrainingError(
            f"{workdir} holds a run with other networks ({', '.join(refused)}); choose"
            " another --workdir, or the config that it was started with."
        )
    for change in changed.values():
        logging.warning("Config changed since the run was started: %s.", change)


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    replace_file(workdir / "config.json", text.encode())


def _flatten(config: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
