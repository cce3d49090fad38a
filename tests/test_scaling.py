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
    assert len(computed) == 9
    assert [table.strip() for table in tables_in(DOCUMENT)] == computed


def test_the_text_has_the_figures_of_the_script(scaling):
    networks = scaling.networks_of(get_config())
    for figure in (
        scaling.flops_per_photo(networks),
        scaling.all_reduces(networks).bytes(4),
        scaling.DECODED_SMALL,
        scaling.DECODED_LARGE,
        *(job.photos for job in scaling.JOBS),
    ):
        assert f"{figure:,}" in DOCUMENT


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
    compiled = scaling.compiled_step(config, batch=4, devices=2)
    found = scaling.collectives(compiled.as_text())
    sums = scaling.all_reduces(scaling.networks_of(config))
    assert {name for name, _ in found} == {"all-reduce"}
    assert sum(size for _, size in found) == sums.bytes(4)
    assert len(found) <= sums.most


def test_a_ring_takes_its_slowest_links(scaling):
    networks = scaling.networks_of(get_config())
    chip = scaling.CHIPS[0]._replace(per_host=2, link=100e9, network=10e9)
    shares = scaling.SHARES._replace(network=0.5, hop_seconds=1e-6)
    size = scaling.all_reduces(networks).bytes(2)

    def times(chips):
        return scaling.step_time(networks, chip, chips, 16, shares, 2)

    assert times(1).all_reduce == times(1).latency == 0
    # In one host each of two sends half of it twice; in two hosts over the network.
    assert times(2).all_reduce == pytest.approx(size / 50e9)
    assert times(4).all_reduce == pytest.approx(1.5 * size / 5e9)
    most = scaling.all_reduces(networks).most
    assert times(4).latency == pytest.approx(most * 4e-6)
