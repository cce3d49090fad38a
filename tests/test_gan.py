"""Losses and the training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from colorgan_jax import gan
from colorgan_jax.models import Discriminator, Generator

SIZE = 32


@pytest.fixture(scope="module")
def state():
    return jax.jit(
        lambda key: gan.create_state(
            key,
            Generator(filters=8, image_size=SIZE),
            Discriminator(filters=8),
            learning_rate=1e-3,
        )
    )(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    """Smooth colours that depend on the lightness."""
    L = jax.random.uniform(jax.random.key(1), (4, 4, 4, 1), minval=-1)
    L = jax.image.resize(L, (4, SIZE, SIZE, 1), "linear")
    return {"L": L, "ab": jnp.concatenate([0.5 * L, -0.3 * L], axis=-1)}


@pytest.fixture(scope="module")
def train_step():
    return jax.jit(gan.train_step)


def equal(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), a, b)))


def test_losses_equal_arithmetic_by_hand():
    logits = jnp.array([2.0, -1.0])
    # -log sigmoid(x) = log(1 + e^-x), and -log(1 - sigmoid(x)) = log(1 + e^x).
    real = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(1.0))) / 2
    generated = (np.log1p(np.exp(2.0)) + np.log1p(np.exp(-1.0))) / 2
    np.testing.assert_allclose(gan.adversarial_loss(logits, real=True), real, rtol=1e-6)
    np.testing.assert_allclose(
        gan.adversarial_loss(logits, real=False), generated, rtol=1e-6
    )
    np.testing.assert_allclose(
        gan.discriminator_loss(generated_logits=logits, real_logits=logits),
        (real + generated) / 2,
        rtol=1e-6,
    )


def test_each_loss_trains_its_own_network_only(state, batch, train_step):
    trained, _ = train_step(state, batch)
    # A weight of 0 would leave the discriminator out.
    unweighted = state.replace(l1_weight=0.0, adversarial_weight=1e-30, ema_decay=0.0)
    without_generator_loss, metrics = train_step(unweighted, batch)
    assert metrics["generator_loss"] < 1e-29
    # Without its own loss the generator stays; the discriminator's does not move it.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12),
        without_generator_loss.generator.params,
        state.generator.params,
    )
    assert not equal(trained.generator.params, state.generator.params)
    # The discriminator moves, and the generator's loss makes no difference to it.
    assert not equal(trained.discriminator.params, state.discriminator.params)
    assert equal(
        trained.discriminator.params, without_generator_loss.discriminator.params
    )
    # An average that forgets at once is the generator itself.
    assert equal(without_generator_loss.ema, without_generator_loss.generator.variables)


def test_average_follows_the_generator(state, batch, train_step):
    trained, _ = train_step(state, batch)
    # The first step's decay is (1 + 0) / (10 + 0), below the configured 0.999.
    expected = jax.tree.map(
        lambda before, after: 0.1 * before + 0.9 * after,
        state.generator.variables,
        trained.generator.variables,
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        trained.ema,
        expected,
    )


def test_noise_differs_from_step_to_step(state, batch, train_step):
    later = state.replace(generator=state.generator.replace(step=jnp.array(1)))
    losses = [train_step(s, batch)[1]["l1_loss"] for s in (state, state, later)]
    assert losses[0] == losses[1] != losses[2]


def test_result_does_not_depend_on_the_number_of_devices(state, batch, train_step):
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    sharded = (
        jax.device_put(state, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch"))),
    )
    results = []
    for arguments in ((state, batch), sharded):
        trained, metrics = train_step(*arguments)
        results.append(jax.device_get((metrics, trained.generator.batch_stats)))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), *results
    )


def test_one_batch_can_be_learnt_by_heart(state, batch, train_step):
    state, first = train_step(state, batch)
    for _ in range(80):
        state, last = train_step(state, batch)
    np.testing.assert_allclose(
        first["generator_loss"],
        first["adversarial_loss"] + 100 * first["l1_loss"],
        rtol=1e-6,
    )
    assert first["l1_loss"] > 0.1
    assert last["l1_loss"] < 0.05


def test_bfloat16_gives_about_the_same_step_in_a_state_of_float32(
    state, batch, train_step
):
    rounded = jax.jit(
        lambda key: gan.create_state(
            key,
            Generator(filters=8, image_size=SIZE, dtype=jnp.bfloat16),
            Discriminator(filters=8, dtype=jnp.bfloat16),
            learning_rate=1e-3,
        )
    )(jax.random.key(0))
    assert equal(rounded.generator.params, state.generator.params)
    rounded, metrics = train_step(rounded, batch)
    state, expected = train_step(state, batch)
    for name, value in metrics.items():
        # bfloat16 has 8 bits of precision; a gradient sums up many such roundings.
        np.testing.assert_allclose(value, expected[name], rtol=0.05)
        assert value.dtype == jnp.float32
        assert value != expected[name], "nothing was computed in bfloat16"
    for part, whole in zip(jax.tree.leaves(rounded), jax.tree.leaves(state)):
        assert part.dtype == whole.dtype
