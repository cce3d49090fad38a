"""Generators of pix2pix's PyTorch code predict here what they predict there.

What those computed is in golden/net_G.npz; make_golden.py made it, and says what it holds.
"""

from pathlib import Path

import jax
import numpy as np
import pytest
from torch_writer import save

from colorgan_jax import Generator
from colorgan_jax.errors import ParamsError
from colorgan_jax.weights.pix2pix import load_pix2pix
from colorgan_jax.weights.torch_files import open_torch_file

GOLDEN = Path(__file__).parents[1] / "golden"
FIRST, LAST = "model.model.0.weight", "model.model.3.weight"
BLOCK = "model.model.1.model."
INNERMOST = BLOCK + 6 * "3.model."
NORM = f"{BLOCK}2"


@pytest.fixture(scope="module")
def state():
    """The state dict of the golden generator, which has one filter."""
    with open_torch_file(GOLDEN / "latest_net_G.pth") as file:
        return {name: np.array(file.read(name)) for name in file.shapes}


@pytest.mark.parametrize("name", ["latest_net_G.pth", "legacy_net_G.pth"])
def test_it_predicts_what_the_generator_in_pytorch_does(name):
    params = load_pix2pix(GOLDEN / name)
    with np.load(GOLDEN / "net_G.npz") as golden:
        L, expected = golden["L"].astype(np.float32), golden["ab"]
    L = np.kron(L, np.ones((8, 8), np.float32))[None, ..., None]
    generator = Generator.from_params(params)
    ab = jax.jit(lambda L: generator.apply({"params": params}, L, train=False))(L)
    # A kernel that is turned, or whose channels are in another order, makes a difference
    # of 2e-5 or more, in whichever layer it is.
    np.testing.assert_allclose(ab[0, ::7, ::5], expected, rtol=0, atol=1e-6)
    assert np.std(expected) > 0.03


def test_counts_of_batches_are_not_needed(state, tmp_path):
    """Versions of PyTorch before 0.4.1 have none."""
    few = {name: state[name] for name in state if not name.endswith("_tracked")}
    assert len(few) < len(state)
    params = load_pix2pix(save(tmp_path / "a.pth", few))
    jax.tree.map(
        np.testing.assert_array_equal,
        params,
        load_pix2pix(GOLDEN / "latest_net_G.pth"),
    )


def without(state, *starts):
    return {name: state[name] for name in state if not name.startswith(starts)}


def filled(state, name, value):
    return {**state, name: np.full_like(state[name], value)}


def array(*shape):
    return np.zeros(shape, np.float32)


# What is made of the state dict -> what is said of it.
OTHERS = {
    "three channels": (
        lambda state: {**state, FIRST: array(1, 3, 4, 4), LAST: array(2, 3, 4, 4)},
        "from 3 to 3 channels",
    ),
    "unet_128": (lambda state: without(state, INNERMOST), "for 128x128 pixels"),
    "InstanceNorm": (
        lambda state: {**state, f"{BLOCK}1.bias": array(2)},
        "no batch normalization",
    ),
    "no norm": (lambda state: without(state, NORM), "no batch normalization"),
    "no statistics": (
        lambda state: without(state, f"{NORM}.running"),
        "no batch normalization",
    ),
    "ResNet": (
        lambda state: {
            "model.1.weight": array(64, 1, 7, 7),
            "model.10.conv_block.1.weight": array(256, 256, 3, 3),
        },
        "it is a ResNet",
    ),
    "discriminator": (
        lambda state: {"model.0.weight": array(64, 3, 4, 4)},
        "not such a U-Net",
    ),
    "nothing": (lambda state: {}, "not such a U-Net"),
    "no dimensions": (lambda state: {**state, FIRST: array()}, "not such a U-Net"),
    "a checkpoint": (
        lambda state: {"epoch": 3, "net": state},
        "its entry epoch is not a tensor",
    ),
    "an optimizer": (
        lambda state: {"optimizer": {"state": {0: {"step": 1.0}}}, **state},
        "its entry optimizer is not a tensor",
    ),
    "nested": (lambda state: {"net": state}, "its entry net is not a tensor"),
    "missing": (
        lambda state: without(state, f"{INNERMOST}4.weight"),
        f"it lacks {INNERMOST}4.weight",
    ),
    "unknown": (
        lambda state: {**state, "model.model.5\n.weight": array(1)},
        r"has no model.model.5\n.weight",
    ),
    "parallel in part": (
        lambda state: {**state, f"module.{FIRST}": state[FIRST]},
        f"has no module.{FIRST}",
    ),
    "another shape": (
        lambda state: {**state, f"{INNERMOST}1.weight": array(8, 8, 3, 3)},
        "has shape (8, 8, 3, 3) instead of (8, 8, 4, 4)",
    ),
    "another width": (
        lambda state: {**state, FIRST: array(2, 1, 4, 4)},
        "instead of",
    ),
    "nan": (lambda state: filled(state, FIRST, np.nan), f"{FIRST} has values"),
    "infinite": (
        lambda state: filled(state, f"{NORM}.running_var", np.inf),
        "running_var has values",
    ),
    "negative": (
        lambda state: filled(state, f"{NORM}.running_var", -1e-6),
        "running_var has negative values",
    ),
    "too large": (
        lambda state: filled(
            filled(state, f"{NORM}.weight", 1e30), f"{BLOCK}1.weight", 1e30
        ),
        "encoder_2 are too large",
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_refused_in_a_sentence(state, tmp_path, kind):
    change, message = OTHERS[kind]
    path = save(tmp_path / "a.pth", change(state))
    with pytest.raises(ParamsError) as caught:
        load_pix2pix(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} cannot be used: ")
    assert message in sentence
    assert sentence.isprintable()
