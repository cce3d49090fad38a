"""docs/scaling.md: its tables, and the arithmetic that they come from."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from configs.pix2pix import get_config

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "scaling.md").read_text()


@pytest.fixture
def scaling(monkeypatch):
    """benchmarks/scaling.py, which is no part of a package."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scaling

    return scaling


def tables_in(text):
    return re.findall(r"(?m)^\|.*\|\n\|[-|]+\|\n(?:\|.*\|\n?)+", text)


def test_the_tables_are_those_that_the_script_prints():
    command = [sys.executable, ROOT / "benchmarks" / "scaling.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    computed = [table.strip() for table in tables_in(printed.stdout)]
    assert len(computed) == 4
    assert [table.strip() for table in tables_in(DOCUMENT)] == computed


def test_the_text_has_the_figures_of_the_script(scaling):
    networks = scaling.networks_of(get_config())
    flops = scaling.flops_per_photo(networks)
    optimizer = scaling.optimizer_bytes(networks)
    single, count = scaling.all_reduces(networks, 4)
    half, _ = scaling.all_reduces(networks, 2)
    for figure in (
        f"{flops:,}",
        f"{flops / 1e9:.1f} billion FLOPs",
        *(f"{scaling.parameters(layers):,}" for layers in networks),
        f"{single:,}",
        f"{single / 1e6:.1f} MB",
        f"{half / 1e6:.1f} MB",
        f"at most {count} all-reduces",
        f"{optimizer / 1e9:.2f} GB",
        f"The table has {scaling.DECODED}",
        *(f"{job.photos:,}" for job in scaling.JOBS),
        *(f"{job.photos * 256 * 256 * 3 / 1e9:.2f}" for job in scaling.JOBS),
    ):
        assert figure in DOCUMENT


def test_the_command_follows_the_rule():
    flags = dict(re.findall(r"--config\.([\w.]+)=(\S+)", DOCUMENT))
    config = get_config()
    times = int(flags["batch_size"]) / config.batch_size
    assert float(flags["optimizer.learning_rate"]) == pytest.approx(
        config.optimizer.learning_rate * times**0.5, rel=0.01
    )
    assert float(flags["optimizer.beta2"]) == pytest.approx(
        1 - (1 - config.optimizer.beta2) * times
    )
    assert float(flags["ema_decay"]) == pytest.approx(config.ema_decay**times, abs=5e-4)


def test_the_flags_are_values_of_the_config():
    flags = re.findall(r"--config\.([\w.]+)", DOCUMENT)
    assert "batch_size" in flags
    config = get_config()
    for flag in flags:
        value = config
        for name in flag.split("."):
            assert name in value, flag
            value = value[name]
        assert not isinstance(value, ConfigDict), flag


def test_parameters_are_those_of_the_networks(scaling):
    config = get_config()
    networks = scaling.networks_of(config)
    state = scaling.abstract_state(config)
    for layers, network in zip(
        networks, (state.generator, state.discriminator), strict=True
    ):
        leaves = jax.tree.leaves(network.params)
        assert scaling.parameters(layers) == sum(leaf.size for leaf in leaves)


def taps_that_meet_a_pixel(outputs, inputs, stride):
    """Counted one by one: four taps, padding 1."""
    return sum(
        0 <= stride * position + tap - 1 < inputs
        for position in range(outputs)
        for tap in range(4)
    )


def test_flops_of_layers_by_hand(scaling):
    generator, discriminator = scaling.networks_of(get_config())
    # Each pair of a tap and a pixel is a multiplication and an addition, by rows and by
    # columns, for each channel that comes in and each that goes out.
    second = 2 * taps_that_meet_a_pixel(64, 128, 2) ** 2 * 64 * 128
    assert generator[1].flops == second
    # The bottleneck sees 2x2 pixels with the 2x2 taps in the middle.
    assert generator[7].flops == 2 * 4 * 512 * 512
    # Transposed, from 128 pixels to 256, of 64 channels and as many from the skip.
    last = 2 * taps_that_meet_a_pixel(128, 256, 2) ** 2 * 128 * 2
    assert generator[15].flops == last
    # Stride 1, from 32 pixels to 31.
    fourth = 2 * taps_that_meet_a_pixel(31, 32, 1) ** 2 * 256 * 512
    assert discriminator[3].flops == fourth


def test_flops_of_a_step_are_xlas(scaling):
    # XLA counts the convolutions of both networks and all their gradients, and besides
    # all that is computed for each number: less than a hundredth.
    config = get_config()
    ours = scaling.flops_per_photo(scaling.networks_of(config))
    of_photo, besides = scaling.xla_flops(config)
    assert ours < of_photo < 1.01 * ours
    assert besides < 0.02 * ours


def test_a_sharded_step_moves_the_bytes_of_the_arithmetic(scaling):
    config = get_config()
    config.image_size = 32
    config.generator.filters = config.discriminator.filters = 8
    found = scaling.collectives(config, batch=4, devices=2)
    size, most = scaling.all_reduces(scaling.networks_of(config), 4)
    assert {name for name, _ in found} == {"all-reduce"}
    assert sum(moved for _, moved in found) == size
    assert len(found) <= most


def test_a_ring_takes_its_slowest_links(scaling):
    networks = scaling.networks_of(get_config())
    chip = scaling.CHIPS[0]._replace(per_host=2, link=100, network=10)
    size, most = scaling.all_reduces(networks, 2)
    reached = scaling.BANDWIDTH_SHARE * 1e9

    def times(chips):
        *_, all_reduce, latency = scaling.step_time(networks, chip, chips, 16)
        return all_reduce, latency

    assert times(1) == (0, 0)
    # In one host each of two sends half of it twice; in two hosts over the network.
    assert times(2)[0] == pytest.approx(size / (100 * reached))
    assert times(4)[0] == pytest.approx(1.5 * size / (10 * reached))
    assert times(4)[1] == pytest.approx(most * 4 * scaling.HOP_SECONDS)
