"""Scores of a generator while it is trained."""

import functools
from collections.abc import Callable
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.inference import predict_ab
from colorgan_jax.lab import L_SCALE, from_network, lab_to_rgb, limit_chroma
from colorgan_jax.metrics import baselines
from colorgan_jax.metrics.scores import psnr
from colorgan_jax.params import Params
from colorgan_jax.training import data, gan
from colorgan_jax.training.stopping import StopSignals


@overload
def score(
    params: Params,
    photos: data.Photos,
    batch_size: int,
    sharding: NamedSharding,
    signals: None = None,
) -> dict[str, float]: ...


@overload
def score(
    params: Params,
    photos: data.Photos,
    batch_size: int,
    sharding: NamedSharding,
    signals: StopSignals,
) -> dict[str, float] | None: ...


def score(
    params: Params,
    photos: data.Photos,
    batch_size: int,
    sharding: NamedSharding,
    signals: StopSignals | None = None,
) -> dict[str, float] | None:
    """Mean PSNR over photos, next to two baselines that look at no photo.

    Args:
      params: inference parameters, as of `params.fold_batch_norm`.
      photos: every one counts once.
      batch_size: how many to colorize at a time, over all devices.
      sharding: as in `data.validation_batches`.
      signals: where one is received, the score is given up.

    Returns:
      None if given up, else decibels at peak 1.0, mean of the photos' own values:
      "generated" and the names of `baselines.gray` and `baselines.random_ab`.
    """
    batches = data.validation_batches(photos, batch_size=batch_size, sharding=sharding)
    score_batch = _compiled_score_batch()
    totals = []
    for number, batch in enumerate(batches):
        numbers = number * batch_size + np.arange(batch_size)
        totals.append(score_batch(params, batch, numbers))
        jax.block_until_ready(totals[-1])
        if signals and signals.received and jax.process_count() == 1:
            return None
    return {
        name: float(sum(total[name] for total in totals)) / len(photos)
        for name in totals[0]
    }


@functools.cache
def _compiled_score_batch() -> Callable[..., dict[str, jax.Array]]:
    # When first called: to ask for the options starts JAX's backend.
    return jax.jit(_score_batch, compiler_options=memory_saving_options())


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
        # Not a product: what fills up the last batch is black, of infinite PSNR.
        name: jnp.sum(jnp.where(batch["mask"], psnr(rgb, real), 0))
        for name, rgb in candidates.items()
    }
