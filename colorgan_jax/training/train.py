"""A training run, from config to trained parameters: the parts tied together."""

import functools
import json
import os
import signal
import time
from pathlib import Path
from typing import Self

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from colorgan_jax import figures
from colorgan_jax.compilation import jit_network
from colorgan_jax.errors import TrainingError
from colorgan_jax.inference import colorize, predict_ab
from colorgan_jax.lab import L_SCALE, from_network, lab_to_rgb, limit_chroma, rgb_to_lab
from colorgan_jax.metrics import baselines
from colorgan_jax.metrics.scores import psnr
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator, check_encoder, unet_depth
from colorgan_jax.params import PARAMS_FILE, Params, fold_batch_norm, save_params
from colorgan_jax.paths import replace_file
from colorgan_jax.training import data, gan
from colorgan_jax.training.checkpoint import Checkpoints
from colorgan_jax.training.metric_log import Logbook
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

# JAX's default generator costs the compiler for CPUs a second for each array drawn.
RANDOM_GENERATOR = "rbg"

# How many photos a sample grid shows, and how many training photos the final scores
# are taken on.
SAMPLE_PHOTOS = 6
SCORED_TRAINING_PHOTOS = 256


class StopSignals:
    """Notes Ctrl-C and SIGTERM, so that the run saves its state before it stops.

    A second Ctrl-C ends the process at once, which leaves earlier checkpoints intact.
    With several hosts SIGTERM is left to JAX, which makes all of them stop at the same
    step (see `Checkpoints.reached_preemption`).

    Attributes:
      received: name of the signal, or None.
    """

    def __init__(self):
        self.received: str | None = None
        self._previous = {}

    def __enter__(self) -> Self:
        numbers = [signal.SIGINT]
        if jax.process_count() == 1:
            numbers.append(signal.SIGTERM)
        for number in numbers:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _) -> None:
        self.received = signal.Signals(number).name
        logging.warning(
            "%s: saving, then stopping. Ctrl-C now stops at once and loses the steps"
            " since the last checkpoint.",
            self.received,
        )
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def train(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> str | None:
    """Trains, or goes on where an earlier call with the same work directory stopped.

    Writes into `workdir`: config.json, checkpoints/, metrics.csv, tensorboard/, and,
    at each validation and when it stops, loss_curves.png, samples/ and
    params.safetensors.

    Args:
      config: as in configs/pix2pix.py, where every value is explained.
      workdir: made if missing.

    Returns:
      None at the end of the run, else what stopped it before: "SIGINT", "SIGTERM",
      "preemption" or "the time limit". The state is saved then, and a further call
      goes on.

    Raises:
      DataError: if there are too few photos.
      TrainingError: if the config is impossible or does not fit what is in the work
        directory.
      NonFiniteError: if a loss or a gradient is no longer finite.
      CheckpointError: if a checkpoint cannot be read or written.
    """
    started = time.monotonic()
    workdir = Path(workdir)
    _check_config(config)
    _check_workdir(workdir, config)
    if not (workdir / "checkpoints").exists():
        _check_pretrained(config)
    train_photos, validation_photos = data.load_photos(config)
    mean_ab = data.mean_ab(train_photos)
    if jax.process_index() == 0:
        _write_config(workdir, config)
    steps_per_epoch = data.steps_per_epoch(train_photos, config.batch_size)
    last_step = config.epochs * steps_per_epoch

    logging.info(
        "Training on %d %s; compiling the first step may take a minute.",
        jax.device_count(),
        jax.devices()[0].device_kind,
    )
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    new_state = jax.jit(
        functools.partial(_new_state, config, steps_per_epoch),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    train_step = jit_network(gan.train_step, donate_argnums=0)
    release = jax.jit(lambda state: fold_batch_norm(state.averaged))
    adversarial_from = _adversarial_from(config, steps_per_epoch)

    with (
        StopSignals() as signals,
        Checkpoints(workdir, config.keep_checkpoints) as saved,
    ):
        if saved.latest_step() is None:
            state = new_state(_load_pretrained(config))
        else:
            state = saved.restore(jax.eval_shape(new_state))
            logging.info("Going on after step %d of %d.", state.step, last_step)
        step = int(state.step)
        saved_at = time.monotonic()
        logbook = Logbook(
            workdir,
            step=step,
            last_step=last_step,
            steps_per_epoch=steps_per_epoch,
            batch_size=config.batch_size,
        )
        write_results = functools.partial(
            _write_results, workdir, config, mean_ab, validation_photos, logbook
        )
        batches = data.training_batches(
            train_photos,
            image_size=config.image_size,
            batch_size=config.batch_size,
            seed=config.seed,
            first_step=step,
            last_step=last_step,
            sharding=sharding,
        )
        scores = stopped_by = None
        for batch in batches:
            is_adversarial = step >= adversarial_from
            weight = config.loss.adversarial_weight if is_adversarial else 0.0
            if state.adversarial_weight != weight:
                logbook.write_losses()  # A row is of steps of one kind.
                state = state.replace(adversarial_weight=weight)
            state, metrics = train_step(state, batch)
            step += 1
            logbook.add_step(metrics)
            if step % config.log_every_steps == 0 or step % steps_per_epoch == 0:
                logbook.write_losses()

            if step % config.validate_every_steps == 0 or step == last_step:
                logbook.write_losses()
                params = release(state)
                scores = score(
                    params, validation_photos, config.batch_size, sharding, signals
                )
                if scores is not None:
                    logbook.write_scores(scores)
                    saved.save(state, validation_psnr=scores["generated"])
                    saved_at = time.monotonic()
                    write_results(params)
                logbook.restart_clock()

            stopped_by, save_is_due = _what_is_due(
                config, step, signals, saved, started=started, saved_at=saved_at
            )
            if stopped_by or save_is_due:
                logbook.write_losses()
                saved.save(state)
                saved_at = time.monotonic()
            if stopped_by:
                break
        logbook.close()
        if stopped_by and step < last_step:
            saved.wait()
            params = release(state)
            write_results(params)
            return stopped_by

    params = release(state)
    if scores is None:  # The last validation was given up, or was in an earlier call.
        scores = score(params, validation_photos, config.batch_size, sharding)
        write_results(params)
    some_train_photos = train_photos.part(slice(SCORED_TRAINING_PHOTOS))
    some_train_photos = some_train_photos.at_size(config.image_size)
    train_scores = score(params, some_train_photos, config.batch_size, sharding)
    if jax.process_index() == 0:
        _print_report(
            {
                f"{len(validation_photos)} validation photos": scores,
                f"{len(some_train_photos)} training photos": train_scores,
            },
            workdir,
        )
    return None


def score(
    params: Params,
    photos: data.Photos,
    batch_size: int,
    sharding: NamedSharding,
    signals: StopSignals | None = None,
) -> dict[str, float] | None:
    """Mean PSNR over photos, beside what two colorizations without a model get.

    Args:
      params: inference parameters, as of `inference.fold_batch_norm`.
      photos: every one counts once.
      batch_size: how many to colorize at a time, over all devices.
      sharding: as in `data.validation_batches`.
      signals: where one is received, the score is given up.

    Returns:
      None if given up, else decibels at peak 1.0, mean of the photos' own values:
      "generated", "gray" (ab = 0) and "random ab" (the report's baseline: uniform in
      [-110, 110], pixel by pixel).
    """
    batches = data.validation_batches(photos, batch_size=batch_size, sharding=sharding)
    totals = []
    for number, batch in enumerate(batches):
        numbers = number * batch_size + np.arange(batch_size)
        totals.append(_score_batch(params, batch, numbers))
        jax.block_until_ready(totals[-1])
        if signals and signals.received and jax.process_count() == 1:
            return None
    return {
        name: float(sum(total[name] for total in totals)) / len(photos)
        for name in totals[0]
    }


@jit_network
def _score_batch(
    params: Params, batch: gan.Batch, numbers: jax.Array
) -> dict[str, jax.Array]:
    network_L, ab = batch["L"], batch["ab"]
    real = lab_to_rgb(from_network(network_L, ab))
    L = (network_L[..., 0] + 1) * L_SCALE
    candidates = {
        "generated": lab_to_rgb(
            limit_chroma(from_network(network_L, predict_ab(params, network_L)))
        ),
        baselines.GRAY: baselines.gray(L),
        baselines.RANDOM_AB: baselines.random_ab(L, numbers),
    }
    return {
        name: jnp.sum(psnr(rgb, real) * batch["mask"])
        for name, rgb in candidates.items()
    }


def _what_is_due(
    config: ml_collections.ConfigDict,
    step: int,
    signals: StopSignals,
    saved: Checkpoints,
    *,
    started: float,
    saved_at: float,
) -> tuple[str | None, bool]:
    """Whether to stop now, and why; and whether to save now."""
    if saved.reached_preemption(step):
        return "preemption", True
    minutes = (time.monotonic() - started) / 60
    minutes_unsaved = (time.monotonic() - saved_at) / 60
    reasons = np.array(
        [
            signals.received is not None,
            0 < config.time_limit_minutes <= minutes,
            minutes_unsaved >= config.checkpoint_every_minutes,
        ]
    )
    if jax.process_count() > 1:
        # Clocks differ, and all hosts must save at the same step: the first decides.
        if step % config.log_every_steps:
            return None, False
        reasons = multihost_utils.broadcast_one_to_all(reasons)
    signalled, timed_out, save_is_due = reasons
    if signalled:
        return signals.received or "SIGINT", True
    return ("the time limit" if timed_out else None), bool(save_is_due)


def _check_config(config: ml_collections.ConfigDict) -> None:
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


def _check_pretrained(config: ml_collections.ConfigDict) -> None:
    """Refuses to start from a pre-trained network that is not installed."""
    if config.generator.encoder == "efficientnet" and not pretrained.is_available():
        raise TrainingError(
            f"--config.generator.encoder is efficientnet: {pretrained.HOW_TO_INSTALL}."
        )


def _check_workdir(workdir: Path, config: ml_collections.ConfigDict) -> None:
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


def _write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
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


def _new_state(
    config: ml_collections.ConfigDict,
    steps_per_epoch: int,
    pretrained_layers: dict | None = None,
) -> gan.GANState:
    dtype = jnp.dtype(config.compute_dtype)
    return gan.create_state(
        jax.random.key(config.seed, impl=RANDOM_GENERATOR),
        Generator(image_size=config.image_size, dtype=dtype, **config.generator),
        Discriminator(dtype=dtype, **config.discriminator),
        learning_rate=_learning_rate(config, steps_per_epoch),
        # The discriminator's own steps begin later.
        discriminator_learning_rate=_learning_rate(
            config, steps_per_epoch, _adversarial_from(config, steps_per_epoch)
        ),
        beta1=config.optimizer.beta1,
        beta2=config.optimizer.beta2,
        l1_weight=config.loss.l1_weight,
        adversarial_weight=config.loss.adversarial_weight,
        ema_decay=config.ema_decay,
        pretrained=pretrained_layers,
    )


def _adversarial_from(config: ml_collections.ConfigDict, steps_per_epoch: int) -> int:
    """The number of steps that are taken before the discriminator comes in."""
    return round(config.loss.adversarial_from_epoch * steps_per_epoch)


def _learning_rate(
    config: ml_collections.ConfigDict, steps_per_epoch: int, first_step: int = 0
) -> float | optax.Schedule:
    """Constant, then linear to 0 over the last `decay_epochs`, as in pix2pix.

    As a function of the steps that a network has taken since the run's `first_step`.
    """
    learning_rate = config.optimizer.learning_rate
    decay_steps = round(config.optimizer.decay_epochs * steps_per_epoch)
    if decay_steps == 0:
        return learning_rate
    schedule = optax.schedules.linear_schedule(
        learning_rate,
        0.0,
        transition_steps=decay_steps,
        transition_begin=config.epochs * steps_per_epoch - decay_steps,
    )
    return lambda steps: schedule(first_step + steps)


def _load_pretrained(config: ml_collections.ConfigDict) -> dict | None:
    """Parameters that a new generator starts from in place of random ones."""
    _check_pretrained(config)
    if config.generator.encoder == "efficientnet":
        return pretrained.efficientnet_encoder()
    return None


def _write_results(
    workdir: Path,
    config: ml_collections.ConfigDict,
    mean_ab: tuple[float, float],
    photos: data.Photos,
    logbook: Logbook,
    params: Params,
) -> None:
    """Writes parameters, a sample grid and the curves, on the first host."""
    if jax.process_index() != 0:
        return
    params = jax.device_get(params)
    training = {"config": config.to_dict(), "step": logbook.step, "mean_ab": mean_ab}
    save_params(workdir / PARAMS_FILE, params, training)
    figures.save_loss_curves(workdir / "loss_curves.png", logbook.rows)
    real = photos.load(np.arange(min(SAMPLE_PHOTOS, len(photos)))) / np.float32(255)
    L = rgb_to_lab(real)[..., 0]
    samples = workdir / "samples"
    samples.mkdir(exist_ok=True)
    figures.save_comparison_grid(
        samples / f"step_{logbook.step:07d}.png",
        {
            "gray": lab_to_rgb(jnp.stack([L, 0 * L, 0 * L], axis=-1)),
            "generated": colorize(params, L),
            "real": real,
        },
    )


def _print_report(scores: dict[str, dict[str, float]], workdir: Path) -> None:
    width = max(len(photos) for photos in scores)
    columns = list(next(iter(scores.values())))
    print(f"{'PSNR in dB (peak 1.0)':{width}}  {'  '.join(columns)}")
    for photos, values in scores.items():
        cells = (f"{values[name]:{len(name)}.2f}" for name in columns)
        print(f"{photos:{width}}  {'  '.join(cells)}")
    print(f"Pictures: {workdir}/samples/ and {workdir}/loss_curves.png")
    print(
        "Colorize a photo of your own:"
        f" python -m colorgan_jax colorize PHOTO.jpg --params {workdir}"
    )
