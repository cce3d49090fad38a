"""Losses and the training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.training import gan

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
    """Smooth colors that depend on the lightness."""
    L = jax.random.uniform(jax.random.key(1), (4, 4, 4, 1), minval=-1)
    L = jax.image.resize(L, (4, SIZE, SIZE, 1), "linear")
    return {"L": L, "ab": jnp.concatenate([0.5 * L, -0.3 * L], axis=-1)}


@pytest.fixture(scope="module")
def train_step():
    # Part of another function, where nothing is donated: tests share a state.
    return jax.jit(gan.train_step, static_argnames="adversarial")


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
    without_generator_loss, metrics = train_step(
        state, batch, l1_weight=0.0, adversarial_weight=0.0, ema_decay=0.0
    )
    assert metrics["generator_loss"] == 0
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


def test_one_batch_can_be_learned_by_heart(state, batch, train_step):
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
    for part, whole in zip(
        jax.tree.leaves(rounded), jax.tree.leaves(state), strict=True
    ):
        assert part.dtype == whole.dtype


def test_the_losses_are_added_by_their_weights(state, batch, train_step):
    _, metrics = train_step(state, batch, l1_weight=7.0, adversarial_weight=3.0)
    np.testing.assert_allclose(
        metrics["generator_loss"],
        3 * metrics["adversarial_loss"] + 7 * metrics["l1_loss"],
        rtol=1e-6,
    )


def test_a_step_is_a_plain_jit_with_the_state_donated(state, batch, train_step):
    expected, expected_metrics = train_step(state, batch)
    copy = jax.tree.map(jnp.copy, state)
    compiled = gan.train_step.lower(copy, batch, adversarial=True).compile()
    own, metrics = gan.train_step(state=copy, batch=batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(copy.generator.params))
    lowered, _ = compiled(jax.tree.map(jnp.copy, state), batch)
    for trained in (own, lowered):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
            trained.ema,
            expected.ema,
        )
    np.testing.assert_allclose(
        metrics["generator_loss"], expected_metrics["generator_loss"], rtol=1e-5
    )


def test_without_adversarial_loss_the_discriminator_is_left_out(
    state, batch, train_step
):
    _, with_it = train_step(state, batch)
    trained, metrics = train_step(state, batch, adversarial=False)
    assert set(metrics) == {"generator_loss", "l1_loss", "generator_gradient_norm"}
    # The forward pass is the same, and only the L1 loss is left of the sum.
    np.testing.assert_allclose(metrics["l1_loss"], with_it["l1_loss"], rtol=1e-6)
    np.testing.assert_allclose(
        metrics["generator_loss"], 100 * with_it["l1_loss"], rtol=1e-6
    )
    assert not equal(trained.generator.params, state.generator.params)
    for before, after in zip(
        jax.tree.leaves(state.discriminator),
        jax.tree.leaves(trained.discriminator),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


@pytest.fixture(scope="module")
def frozen(batch):
    """Three given layers, and states with four frozen ones: new, and of two steps.

    The learning rate is 0 in the first step and 1e-3 in the second.
    """
    generator = Generator(
        filters=4, image_size=SIZE, encoder="efficientnet", frozen_blocks=4
    )
    shapes = jax.eval_shape(
        lambda: generator.init(jax.random.key(0), batch["L"], train=False)
    )["params"]
    random = np.random.default_rng(0)
    pretrained = jax.tree.map(
        lambda leaf: random.normal(0, 0.05, leaf.shape).astype(np.float32),
        {name: shapes[name] for name in ("encoder_1", "encoder_4", "encoder_5")},
    )
    new = jax.jit(
        lambda pretrained: gan.create_state(
            jax.random.key(0),
            generator,
            Discriminator(filters=4),
            learning_rate=lambda step: 1e-3 * jnp.minimum(step, 1),
            pretrained=pretrained,
        )
    )(pretrained)
    train_step = jax.jit(gan.train_step)
    first, _ = train_step(new, batch)
    second, _ = train_step(first, batch)
    return pretrained, (new, first, second)


def test_a_generator_starts_from_pretrained_layers(frozen):
    pretrained, (new, *_) = frozen
    for variables in (new.generator.variables, new.averaged):
        for name, layer in pretrained.items():
            assert equal(variables["params"][name], layer)
        assert (
            variables["params"]["encoder_2"]["bottleneck_2_expand"]["kernel"].std() > 0
        )


def test_frozen_layers_stay_bit_by_bit_and_all_others_move(frozen):
    _, (new, *_, last) = frozen
    start = new.generator.variables["params"]
    for variables in (last.generator.variables, last.averaged):
        assert set(variables["params"]) == set(start)
        for name, layer in variables["params"].items():
            if name in ("encoder_1", "encoder_2", "encoder_3", "encoder_4"):
                assert equal(layer, start[name])
            else:
                same = jax.tree.map(
                    lambda a, b: bool((a == b).all()), layer, start[name]
                )
                assert not any(jax.tree.leaves(same)), name


def test_nothing_but_their_values_is_kept_of_frozen_layers(frozen):
    _, (*_, last) = frozen
    kept = [
        jax.tree_util.keystr(path)
        for path, _ in jax.tree_util.tree_leaves_with_path(last)
        if "stem" in str(path)
    ]
    prefix = ".generator.frozen['encoder_1']['stem']"
    assert sorted(kept) == [f"{prefix}['bias']", f"{prefix}['kernel']"]


def test_layers_of_a_folded_generator_can_be_frozen(batch):
    generator = Generator(
        filters=4,
        image_size=SIZE,
        encoder="efficientnet",
        frozen_blocks=1,
        folded=True,
    )
    new = jax.jit(
        lambda: gan.create_state(
            jax.random.key(0), generator, Discriminator(filters=4), learning_rate=1e-3
        )
    )()
    after, _ = jax.jit(gan.train_step, static_argnames="adversarial")(
        new, batch, adversarial=False
    )
    before, after = new.averaged["params"], after.averaged["params"]
    kept = {name for name in after if equal(before[name], after[name])}
    assert kept == {"stem", "bottleneck_1_depthwise", "bottleneck_1_project"}


def test_a_learning_rate_may_change_with_the_steps(frozen):
    _, (new, first, second) = frozen
    for network in ("generator", "discriminator"):
        before, same, moved = (
            jax.tree.leaves(getattr(state, network).params)
            for state in (new, first, second)
        )
        for a, b, c in zip(before, same, moved, strict=True):
            np.testing.assert_array_equal(a, b)
            # Adam moves most parameters by about the learning rate, and none by much
            # more.
            assert 1e-5 < np.abs(c - b).max() < 3e-3
