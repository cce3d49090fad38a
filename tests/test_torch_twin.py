"""Networks, losses and training step agree with the same GAN written in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.training.gan import create_state, train_step

torch = pytest.importorskip("torch")

import torch_twin

FILTERS, SIZE, BATCH = 8, 64, 4
LEARNING_RATE = 2e-4


@pytest.fixture(scope="module")
def state():
    """Networks without dropout in which no parameter and no statistic has its initial value."""
    abstract = jax.eval_shape(
        lambda key: create_state(
            key,
            Generator(filters=FILTERS, image_size=SIZE, dropout=0.0),
            Discriminator(filters=FILTERS),
            learning_rate=LEARNING_RATE,
        ),
        jax.random.key(0),
    )
    random = np.random.default_rng(1)
    draw = {
        "kernel": lambda shape: random.normal(0.0, 0.05, shape),
        "bias": lambda shape: random.normal(0.0, 0.1, shape),
        "scale": lambda shape: random.normal(1.0, 0.1, shape),
        "mean": lambda shape: random.normal(0.0, 0.5, shape),
        "var": lambda shape: random.uniform(0.5, 2.0, shape),
    }

    def variables(tree):
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.asarray(draw[path[-1].key](leaf.shape), leaf.dtype),
            tree,
        )

    def network(network):
        params = variables(network.params)
        return network.replace(
            step=0,
            params=params,
            batch_stats=variables(network.batch_stats),
            opt_state=network.tx.init(params),
        )

    return abstract.replace(
        generator=network(abstract.generator),
        discriminator=network(abstract.discriminator),
        ema=variables(abstract.ema),
        key=jax.random.key(0),
    )


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(2)
    return {
        "L": random.uniform(-1, 1, (BATCH, SIZE, SIZE, 1)).astype(np.float32),
        "ab": random.uniform(-1, 1, (BATCH, SIZE, SIZE, 2)).astype(np.float32),
    }


@pytest.fixture
def trainer(state):
    generator = torch_twin.Generator(FILTERS, SIZE, dropout=0.0)
    discriminator = torch_twin.Discriminator(FILTERS)
    torch_twin.copy_from_flax(generator, state.generator.variables)
    torch_twin.copy_from_flax(discriminator, state.discriminator.variables)
    return torch_twin.Trainer(generator, discriminator)


def outputs(state, batch, *, train):
    """Generated ab, logits on it and logits on the photos, as one jitted call."""

    @jax.jit
    def run(state, batch):
        def apply(network, *images):
            return network.apply_fn(
                network.variables, *images, train=train, mutable=["batch_stats"]
            )[0]

        generated = apply(state.generator, batch["L"])
        return generated, *(
            apply(state.discriminator, batch["L"], ab)
            for ab in (generated, batch["ab"])
        )

    return run(state, batch)


@pytest.mark.parametrize("train", [True, False])
def test_networks_give_the_same_outputs(state, batch, trainer, train):
    L, ab = (trainer.to_torch(batch[name]) for name in ("L", "ab"))
    trainer.generator.train(train)
    trainer.discriminator.train(train)
    with torch.no_grad():
        generated = trainer.generator(L)
        expected = [
            generated,
            trainer.discriminator(L, generated),
            trainer.discriminator(L, ab),
        ]
    for actual, twin in zip(outputs(state, batch, train=train), expected, strict=True):
        twin = twin.permute(0, 2, 3, 1).numpy()
        assert np.std(twin) > 1e-2
        np.testing.assert_allclose(actual, twin, atol=1e-4)


def test_channels_last_is_the_same_twin(state, batch, trainer):
    generator = torch_twin.Generator(FILTERS, SIZE, dropout=0.0)
    discriminator = torch_twin.Discriminator(FILTERS)
    torch_twin.copy_from_flax(generator, state.generator.variables)
    torch_twin.copy_from_flax(discriminator, state.discriminator.variables)
    channels_last = torch_twin.Trainer(generator, discriminator, channels_last=True)
    losses, expected = (
        twin.train_step(*(twin.to_torch(batch[name]) for name in ("L", "ab")))
        for twin in (channels_last, trainer)
    )
    for name in expected:
        np.testing.assert_allclose(losses[name], expected[name], rtol=1e-5)


def test_half_precision_is_the_same_twin_but_for_rounding(state, batch, trainer):
    generator = torch_twin.Generator(FILTERS, SIZE, dropout=0.0)
    discriminator = torch_twin.Discriminator(FILTERS)
    torch_twin.copy_from_flax(generator, state.generator.variables)
    torch_twin.copy_from_flax(discriminator, state.discriminator.variables)
    half = torch_twin.Trainer(generator, discriminator, dtype=torch.bfloat16)
    losses, expected = (
        twin.train_step(*(twin.to_torch(batch[name]) for name in ("L", "ab")))
        for twin in (half, trainer)
    )
    for name in expected:
        np.testing.assert_allclose(losses[name], expected[name], rtol=2e-2)
    # That it did compute in bfloat16, whose results have 8 bits in place of 24.
    assert abs(losses["l1_loss"] / expected["l1_loss"] - 1) > 1e-6
    assert {p.dtype for p in generator.parameters()} == {torch.float32}


def test_training_step_is_the_same(state, batch, trainer):
    new_state, metrics = jax.jit(train_step)(state, batch)
    losses = trainer.train_step(*(trainer.to_torch(batch[n]) for n in ("L", "ab")))

    for name, expected in losses.items():
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4)

    for network in ("generator", "discriminator"):
        before = flatten_dict(getattr(state, network).params)
        after = flatten_dict(getattr(new_state, network).params)
        twin = getattr(trainer, network)
        twin_after = flatten_dict(torch_twin.to_flax(twin)["params"])
        twin_gradients = flatten_dict(torch_twin.gradients_to_flax(twin))
        # Adam's first moment after its first step is (1 - beta1) = half the gradient.
        moments = flatten_dict(getattr(new_state, network).opt_state[0].mu)
        for path, gradient in twin_gradients.items():
            largest = np.abs(gradient).max()
            np.testing.assert_allclose(
                2 * moments[path], gradient, atol=1e-3 * largest, err_msg=str(path)
            )
            # Adam's first step is the learning rate times the gradient's sign, so it says nothing
            # where the gradient is zero but for rounding.
            clear = np.abs(gradient) > 1e-2 * largest
            assert clear.any()
            np.testing.assert_allclose(
                (after[path] - before[path])[clear],
                (twin_after[path] - before[path])[clear],
                atol=1e-2 * LEARNING_RATE,
                err_msg=str(path),
            )

    generator_stats = flatten_dict(new_state.generator.batch_stats)
    twin_stats = flatten_dict(torch_twin.to_flax(trainer.generator)["batch_stats"])
    for path, mean in generator_stats.items():
        # PyTorch averages the unbiased variance, Flax the biased one: compare the means only.
        if path[-1] == "mean":
            np.testing.assert_allclose(mean, twin_stats[path], atol=1e-4)
