"""Scores of a generator while it is trained."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from colorgan_jax.compilation import jit_network
from colorgan_jax.inference import predict_ab
from colorgan_jax.lab import L_SCALE, from_network, lab_to_rgb, limit_chroma
from colorgan_jax.metrics import baselines
from colorgan_jax.metrics.scores import psnr
from colorgan_jax.params import Params
from colorgan_jax.training import data, gan
from colorgan_jax.training.stopping import StopSignals


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
