"""Networks, losses and training step agree with the same GAN written in PyTorch.

What that computed is in golden/gan.npz; make_golden.py made it, and says what it holds.
"""

from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.training.gan import create_state, train_step

FILTERS, SIZE = 8, 32
LEARNING_RATE = 2e-4


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parent / "golden" / "gan.npz") as file:
        golden = unflatten_dict(dict(file), sep="/")
    for name in ("images", "before"):
        golden[name] = jax.tree.map(np.float32, golden[name])
    return golden


@pytest.fixture(scope="module")
def state(golden):
    """Our networks with the twin's variables, before the first step."""

    state = jax.eval_shape(
        lambda: create_state(
            jax.random.key(0),
            Generator(filters=FILTERS, image_size=SIZE, dropout=0.0),
            Discriminator(filters=FILTERS),
            learning_rate=LEARNING_RATE,
        )
    )

    def network(network, variables):
        opt_state = jax.jit(network.tx.init)(variables["params"])
        return network.replace(step=0, opt_state=opt_state, **variables)

    before = golden["before"]
    return state.replace(
        generator=network(state.generator, before["generator"]),
        discriminator=network(state.discriminator, before["discriminator"]),
        ema=before["generator"],
        key=jax.random.key(0),
    )


@pytest.fixture(scope="module")
def step(state, golden):
    """The state after one step, and the step's scalars."""
    return jax.device_get(jax.jit(train_step)(state, golden["images"]))


def assert_equal(actual, golden, *, tolerance):
    """Compares two trees, with a tolerance for each array relative to its largest value."""
    actual, golden = (flatten_dict(tree, sep="/") for tree in (actual, golden))
    assert actual.keys() == golden.keys()
    for name, expected in golden.items():
        largest = np.abs(expected).max()
        np.testing.assert_allclose(
            actual[name], expected, rtol=0, atol=tolerance * largest, err_msg=name
        )


def sample(params):
    """The values of which there are golden ones: every fifth of a kernel."""
    return unflatten_dict(
        {
            path: np.ravel(array)[::5] if path[-1] == "kernel" else array
            for path, array in flatten_dict(params).items()
        }
    )


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_outputs(state, golden, mode):
    @jax.jit
    def outputs(state, images):
        def apply(network, *inputs):
            return network.apply_fn(
                network.variables,
                *inputs,
                train=mode == "train",
                mutable=["batch_stats"],
            )[0]

        L, ab = images["L"], images["ab"]
        generated = apply(state.generator, L)
        return {
            "generated": generated,
            "logits_of_generated": apply(state.discriminator, L, generated),
            "logits_of_given": apply(state.discriminator, L, ab),
        }

    assert_equal(outputs(state, golden["images"]), golden[mode], tolerance=1e-5)


def test_losses_and_norms_of_gradients(step, golden):
    _, metrics = step
    expected = golden["step"]["losses"] | {
        f"{network}_gradient_norm": norm
        for network, norm in golden["step"]["gradient_norms"].items()
    }
    assert_equal(metrics, expected, tolerance=1e-5)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_gradients(step, golden, network):
    after, _ = step
    moments = optax.tree.get(getattr(after, network).opt_state, "mu")
    # Adam's first moment after its first step is (1 - beta1) = half the gradient.
    gradients = jax.tree.map(lambda moment: 2 * moment, moments)
    assert_equal(
        sample(gradients), golden["step"]["gradients"][network], tolerance=1e-4
    )


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_parameters_after_a_step(state, step, golden, network):
    after, _ = step
    changes = jax.tree.map(
        lambda a, b: a - b,
        getattr(after, network).params,
        getattr(state, network).params,
    )
    changes = flatten_dict(sample(changes))
    gradients = flatten_dict(golden["step"]["gradients"][network])
    for path, expected in flatten_dict(golden["step"]["changes"][network]).items():
        # Adam's first step is the learning rate times the sign of the gradient, so it says
        # nothing where the gradient is zero but for rounding: three quarters of the innermost
        # kernels meet nothing but padding.
        gradient = np.abs(gradients[path])
        is_clear = gradient > 1e-3 * gradient.max()
        assert is_clear.mean() > 0.2
        np.testing.assert_allclose(
            changes[path][is_clear],
            expected[is_clear],
            atol=1e-3 * LEARNING_RATE,
            err_msg=str(path),
        )


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_running_statistics_after_a_step(step, golden, network):
    after, _ = step
    statistics = getattr(after, network).batch_stats
    assert_equal(statistics, golden["step"]["statistics"][network], tolerance=1e-5)
