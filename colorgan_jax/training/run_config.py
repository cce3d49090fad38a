"""The config of a run: what is refused, and what its work directory keeps of it."""

import json
import math
from typing import Any

import jax
import ml_collections
from absl import logging

from colorgan_jax.errors import TrainingError
from colorgan_jax.networks.architecture import (
    Architecture,
    check_encoder,
    unet_depth,
)
from colorgan_jax.params import Params, load_params
from colorgan_jax.paths import AnyPath, make_folder, read_file, replace_file
from colorgan_jax.photos import NEARLY_GRAY
from colorgan_jax.training.sources import source_names
from colorgan_jax.weights import efficientnet as pretrained

CONFIG_FILE = "config.json"

COMPUTE_DTYPES = ("float32", "bfloat16")


# What each number must be, in words and as a test.
_RULES = (
    (
        "1 or more",
        lambda value: value >= 1,
        (
            "epochs",
            "generator.filters",
            "discriminator.filters",
            "discriminator.halvings",
            "data.validation_photos",
            "log_every_steps",
            "validate_every_steps",
            "keep_checkpoints",
        ),
    ),
    (
        "0 or more",
        lambda value: value >= 0,
        (
            "generator.maximum_filters",
            "optimizer.decay_epochs",
            "loss.l1_weight",
            "loss.adversarial_weight",
            "loss.adversarial_from_epoch",
            "data.train_photos",
            "data.memory_gigabytes",
            "checkpoint_every_minutes",
            "time_limit_minutes",
        ),
    ),
    (
        "from 0 to below 1",
        lambda value: 0 <= value < 1,
        ("generator.dropout", "optimizer.beta1", "optimizer.beta2", "ema_decay"),
    ),
    ("more than 0", lambda value: value > 0, ("optimizer.learning_rate",)),
    (
        "more than 0 and at most 1",
        lambda value: 0 < value <= 1,
        ("data.smallest_crop",),
    ),
    ("from 0 to 255", lambda value: 0 <= value <= 255, ("data.minimum_color",)),
    # JAX would take the lower 32 bits of a larger one.
    (f"from 0 to {2**32 - 1}", lambda value: 0 <= value < 2**32, ("seed",)),
)

# All values that a config has: those with a rule, and these.
_VALUES = {
    *(name for _, _, names in _RULES for name in names),
    "image_size",
    "batch_size",
    "compute_dtype",
    "initial_params",
    "generator.encoder",
    "generator.frozen_blocks",
    "data.source",
    "data.validation_source",
}

# What the shapes of the state depend on: fixed as soon as there is a checkpoint.
ARCHITECTURE = (
    "image_size",
    "initial_params",
    "generator.filters",
    "generator.maximum_filters",
    "generator.encoder",
    "generator.frozen_blocks",
    "discriminator.filters",
    "discriminator.halvings",
)

# What photos a run draws: it keeps those that it has drawn.
_OF_THE_SPLIT = (
    "data.train_photos",
    "data.validation_photos",
    "data.validation_source",
    "data.minimum_color",
)

# Where 0 means what None does.
_ZERO_MEANS_NONE = (
    "generator.maximum_filters",
    "data.train_photos",
    "time_limit_minutes",
)


def check_config(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot work, before anything is read or compiled.

    Raises:
      TrainingError: one sentence that names the value.
    """
    values = _flatten(config.to_dict())
    for name in sorted(_VALUES ^ values.keys()):
        raise TrainingError(
            f"The config has no {name}: configs/pix2pix.py lists all values."
            if name in _VALUES
            else f"The config has {name}, which is no value of configs/pix2pix.py."
        )
    for words, holds, names in _RULES:
        for name in names:
            value = values[name]
            if value is not None and not (holds(value) and math.isfinite(value)):
                raise TrainingError(
                    f"--config.{name} is {value}: it must be a number, {words}."
                )
    try:
        unet_depth(config.image_size)
    except ValueError as error:
        raise TrainingError(f"--config.image_size: {error}") from error
    smallest = 4 * 2**config.discriminator.halvings
    if config.image_size < smallest:
        raise TrainingError(
            f"--config.image_size is {config.image_size} and"
            f" --config.discriminator.halvings is {config.discriminator.halvings}: the"
            f" discriminator needs {smallest} pixels or more to see one patch."
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
    if config.optimizer.decay_epochs > config.epochs:
        raise TrainingError(
            f"--config.optimizer.decay_epochs is {config.optimizer.decay_epochs}: it must"
            f" be from 0 to the {config.epochs} epochs of the run."
        )


def load_initial_params(config: ml_collections.ConfigDict) -> Params:
    """The parameters that a run starts from, which the config names.

    Raises:
      ParamsError: as `params.load_params`.
      TrainingError: if they are of another generator than the config's.
    """
    name = config.initial_params
    params = load_params(name)
    actual = Architecture.from_params(params)
    wanted = Architecture(
        config.generator.filters,
        config.generator.maximum_filters,
        config.image_size,
        config.generator.encoder,
    )
    if actual.layer_shapes() != wanted.layer_shapes():
        raise TrainingError(
            f"--config.initial_params is {name}, of another generator than the config:"
            f" image_size={actual.image_size}, generator.filters={actual.filters},"
            f" generator.maximum_filters={actual.maximum_filters},"
            f" generator.encoder={actual.encoder}."
        )
    return params


def check_pretrained(config: ml_collections.ConfigDict) -> None:
    """Refuses to start from what is not there, or is of another generator.

    Raises:
      ParamsError: as `load_initial_params`.
      TrainingError: as there, or says what to install.
    """
    if config.initial_params is not None:
        load_initial_params(config)
        return
    if config.generator.encoder == "efficientnet" and not pretrained.is_available():
        raise TrainingError(
            f"--config.generator.encoder is efficientnet: {pretrained.HOW_TO_INSTALL}."
        )


def check_workdir(workdir: AnyPath, config: ml_collections.ConfigDict) -> None:
    """Refuses to resume as another run; logs what else has changed.

    Raises:
      TrainingError: names what has changed.
    """
    before = _comparable(read_json(workdir / CONFIG_FILE))
    after = _comparable(config.to_dict())
    changed = {
        name: f"{name} {before[name]} -> {value}"
        for name, value in after.items()
        if name in before and before[name] != value
    }
    if refused := [changed[name] for name in ARCHITECTURE if name in changed]:
        raise TrainingError(
            f"{workdir} holds a run with other networks ({', '.join(refused)}); choose"
            " another --workdir, or the config that it was started with."
        )
    if "seed" in changed:
        raise TrainingError(
            f"--config.seed is {config.seed}, but {workdir} holds a run with seed"
            f" {before['seed']}: resume it with that, or start anew in another --workdir."
        )
    if "batch_size" in changed:
        raise TrainingError(
            f"--config.batch_size is {config.batch_size}, but {workdir} holds a run that"
            f" counts its steps in batches of {before['batch_size']}: resume with"
            f" --config.batch_size={before['batch_size']}, or start anew in another"
            " --workdir."
        )
    for name, change in changed.items():
        effect = (
            ", without effect: the run keeps its photos"
            if name in _OF_THE_SPLIT
            else ""
        )
        logging.warning("Config changed since the last start: %s%s.", change, effect)


def write_config(workdir: AnyPath, config: ml_collections.ConfigDict) -> None:
    """Keeps the config in the work directory, which is made if missing."""
    make_folder(workdir)
    text = json.dumps(config.to_dict(), indent=2) + "\n"
    replace_file(workdir / CONFIG_FILE, text.encode())


def read_json(file: AnyPath) -> Any:
    """The content of a file that a run keeps in its work directory.

    Raises:
      TrainingError: if it is missing or damaged.
    """
    try:
        return json.loads(read_file(file))
    except FileNotFoundError as error:
        reason, cause = "missing", error
    except ValueError as error:
        reason, cause = f"damaged ({error})", error
    raise TrainingError(
        f"{file} is {reason}: put it back as the run wrote it, or start anew in another"
        " --workdir."
    ) from cause


def _comparable(config: dict) -> dict:
    """The values of a config by their names; those that mean the same are equal."""
    values = _flatten(config)
    for name in _ZERO_MEANS_NONE:
        if name in values:
            values[name] = values[name] or None
    if values.get("data.minimum_color") is None:
        values["data.minimum_color"] = NEARLY_GRAY
    if "data.source" in values:  # A name alone, a tuple of names, or JSON's list.
        values["data.source"] = ", ".join(source_names(values["data.source"]))
    return values


def _flatten(config: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
