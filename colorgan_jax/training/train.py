"""A training run from config to trained parameters, top to bottom."""

import functools
import os
import time

import jax
import jax.numpy as jnp
import ml_collections
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.errors import TrainingError
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.params import fold_batch_norm
from colorgan_jax.paths import user_path
from colorgan_jax.training import data, gan, results, schedules
from colorgan_jax.training.checkpoint import Checkpoints, has_checkpoint
from colorgan_jax.training.hosts import mesh_of_all_devices
from colorgan_jax.training.lock import locked
from colorgan_jax.training.metric_log import MetricLog
from colorgan_jax.training.run_config import (
    check_config,
    check_pretrained,
    check_workdir,
    load_initial_params,
    write_config,
)
from colorgan_jax.training.split import read_split, write_split
from colorgan_jax.training.stopping import StopSignals, what_is_due
from colorgan_jax.training.validation import score
from colorgan_jax.weights import efficientnet as pretrained

# JAX's default generator costs the compiler for CPUs a second for each array drawn.
RANDOM_GENERATOR = "rbg"

# How many training photos the final scores are taken on.
SCORED_TRAINING_PHOTOS = 256


def train(config: ml_collections.ConfigDict, workdir: str | os.PathLike) -> str | None:
    """Trains, or resumes where an earlier call with the same work directory stopped.

    Writes into `workdir`: config.json, photos.json (which photos it trains on and which
    it is validated on), checkpoints/, metrics.csv, tensorboard/, and, at each validation
    and when it stops, loss_curves.png, samples/ and params.safetensors; and, of the
    validation with the highest PSNR, best.safetensors.

    A run that resumes keeps its networks, its seed, its batch size and its photos.

    Args:
      config: as in configs/pix2pix.py, where every value is explained.
      workdir: made if missing; a folder, or gs://BUCKET/NAME.

    Returns:
      None at the end of the run, else what stopped it before: "SIGINT", "SIGTERM",
      "preemption" or "the time limit". The state is saved then, and a further call
      resumes.

    Raises:
      DataError: if there are too few photos, or the run's own are missing.
      TrainingError: if the config is impossible or does not fit what is in the work
        directory, or if another run is writing there.
      NonFiniteError: if a loss or a gradient is no longer finite.
      CheckpointError: if a checkpoint cannot be read or written.
      PathError, MissingPackageError: as `paths.user_path`.
      OSError: if another file of the work directory cannot be read or written.
    """
    started = time.monotonic()
    workdir = user_path(workdir)
    check_config(config)
    split = None
    if has_checkpoint(workdir):
        split = read_split(workdir)
        check_workdir(workdir, config)
    else:
        check_pretrained(config)
    train_photos, validation_photos = data.load_photos(config, split)
    mean_ab = data.mean_ab(train_photos, config.batch_size)
    steps_per_epoch = data.steps_per_epoch(train_photos, config.batch_size)
    last_step = config.epochs * steps_per_epoch

    mesh = mesh_of_all_devices()
    sharding = NamedSharding(mesh, PartitionSpec("batch"))
    create_state = jax.jit(
        functools.partial(new_state, config, steps_per_epoch),
        out_shardings=NamedSharding(mesh, PartitionSpec()),
    )
    train_step = jax.jit(
        gan.train_step,
        donate_argnames="state",
        static_argnames="adversarial",
        compiler_options=memory_saving_options(),
    )
    release = jax.jit(lambda state: fold_batch_norm(state.averaged))
    adversarial_from = schedules.adversarial_from(config, steps_per_epoch)

    with (
        locked(workdir),
        StopSignals() as signals,
        Checkpoints(workdir, config.keep_checkpoints) as saved,
    ):
        if saved.latest_step() is None:
            state = create_state(load_pretrained(config))
        else:
            state = saved.restore(jax.eval_shape(create_state))
        step = int(state.step)
        if step > last_step:
            raise TrainingError(
                f"{workdir} holds a run of {step / steps_per_epoch:.3g} epochs, and"
                f" --config.epochs is {config.epochs}: ask for more epochs, or choose"
                " another --workdir."
            )
        if jax.process_index() == 0:
            write_config(workdir, config)
            if split is None:
                write_split(workdir, data.split_of(train_photos, validation_photos))
        if step == last_step:
            logging.info(
                "The run is complete after %d steps: nothing is left to train. For another"
                " choose another --workdir.",
                step,
            )
        else:
            if step:
                logging.info("Resuming after step %d of %d.", step, last_step)
            logging.info(
                "Training on %d %s; compiling the first step may take a minute.",
                jax.device_count(),
                jax.devices()[0].device_kind,
            )
        metric_log = MetricLog(
            workdir,
            step=step,
            last_step=last_step,
            steps_per_epoch=steps_per_epoch,
            batch_size=config.batch_size,
        )
        write_results = functools.partial(
            results.write_results,
            workdir,
            config,
            mean_ab,
            validation_photos,
            metric_log,
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
            state, metrics = train_step(
                state,
                batch,
                l1_weight=config.loss.l1_weight,
                adversarial_weight=config.loss.adversarial_weight,
                ema_decay=config.ema_decay,
                adversarial=config.loss.adversarial_weight > 0
                and step >= adversarial_from,
            )
            step += 1
            signals.heed()
            metric_log.add_step(metrics)
            if step % config.log_every_steps == 0 or step % steps_per_epoch == 0:
                metric_log.write_losses()

            if step % config.validate_every_steps == 0 or step == last_step:
                metric_log.write_losses()
                params = release(state)
                scores = score(
                    params, validation_photos, config.batch_size, sharding, signals
                )
                if scores is not None:
                    metric_log.write_scores(scores)
                    metric_log.flush()
                    saved.save(state, validation_psnr=scores["generated"])
                    write_results(params, is_best=saved.best_step() == step)
                metric_log.restart_clock()

            stopped_by, save_is_due = what_is_due(
                config, step, signals, saved, started=started
            )
            if stopped_by or save_is_due:
                metric_log.write_losses()
                metric_log.flush()
                saved.save(state)
            if stopped_by:
                break
        metric_log.close()
        if stopped_by and step < last_step:
            saved.wait()
            write_results(release(state))
            return stopped_by

    params = release(state)
    if scores is None:  # The last validation was given up, or was in an earlier call.
        scores = score(params, validation_photos, config.batch_size, sharding)
        write_results(params)
    some_train_photos = train_photos.part(slice(SCORED_TRAINING_PHOTOS))
    some_train_photos = some_train_photos.at_size(config.image_size)
    train_scores = score(params, some_train_photos, config.batch_size, sharding)
    if jax.process_index() == 0:
        results.print_report(
            {
                f"{len(validation_photos)} validation photos": scores,
                f"{len(some_train_photos)} training photos": train_scores,
            },
            workdir,
        )
    return None


def new_state(
    config: ml_collections.ConfigDict,
    steps_per_epoch: int,
    pretrained_layers: dict | None = None,
) -> gan.GANState:
    """The state that a run begins with.

    Args:
      config: of the run.
      steps_per_epoch: of the run; the learning rate depends on it.
      pretrained_layers: as of `load_pretrained`.
    """
    dtype = jnp.dtype(config.compute_dtype)
    return gan.create_state(
        jax.random.key(config.seed, impl=RANDOM_GENERATOR),
        Generator(
            image_size=config.image_size,
            folded=config.initial_params is not None,
            dtype=dtype,
            **config.generator,
        ),
        Discriminator(dtype=dtype, **config.discriminator),
        learning_rate=schedules.learning_rate(config, steps_per_epoch),
        # The discriminator's own steps begin later.
        discriminator_learning_rate=schedules.learning_rate(
            config, steps_per_epoch, schedules.adversarial_from(config, steps_per_epoch)
        ),
        beta1=config.optimizer.beta1,
        beta2=config.optimizer.beta2,
        pretrained=pretrained_layers,
    )


def load_pretrained(config: ml_collections.ConfigDict) -> dict | None:
    """Parameters that a new generator starts from in place of random ones."""
    if config.initial_params is not None:
        return dict(load_initial_params(config))
    check_pretrained(config)
    if config.generator.encoder == "efficientnet":
        return pretrained.efficientnet_encoder()
    return None
