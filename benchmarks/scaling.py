"""What training costs on 1 to 256 chips, on paper.

    python benchmarks/scaling.py

prints the tables of docs/scaling.md, from the shapes of the layers of configs/pix2pix.py and
from published peaks of hardware. `--check` prints what a training step does beside what XLA
counts: its FLOPs, and the bytes that the all-reduces move in the step that it compiles for 2
and 4 devices. `--measure PHOTOS` measures what a core of this machine does: FLOP/s of
a training step and of a matrix product, and photos of that folder that it decodes a second.
"""

import argparse
import itertools
import math
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from timing import describe_machine, time_in_turns

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.photos import find_photos, read_rgb, resize_photo
from colorgan_jax.training import gan
from configs.pix2pix import get_config


class Chip(NamedTuple):
    """Published peaks of a chip, and of a host that is let with several of them."""

    name: str
    tflops: float  # TFLOP/s, bfloat16, dense.
    memory: float  # TB/s of its own memory.
    host: str
    per_host: int  # Chips of a host.
    cores: int  # Of a host.
    ram: float  # GB of a host.
    link: float  # GB/s that a chip sends to its neighbors.
    network: float | None  # GB/s between hosts; None where the links join them.
    launch: float  # Microseconds that any operation takes, however small.


CHIPS = (
    Chip("H100 SXM", 989, 3.35, "Azure ND H100 v5", 8, 96, 1900, 450, 400, 5),
    Chip("A100 80 GB SXM", 312, 2.04, "Azure NDm A100 v4", 8, 96, 1900, 300, 200, 5),
    Chip("L4", 121, 0.3, "Google g2-standard-96", 8, 96, 384, 32, 12.5, 5),
    Chip("TPU v5e", 197, 0.82, "Google ct5lp-hightpu-4t", 4, 112, 192, 200, None, 1),
    Chip("TPU v6e", 918, 1.64, "Google ct6e-standard-4t", 4, 180, 720, 400, None, 1),
)

# What is assumed to be reached: of FLOP/s, and of the bandwidth of memory, links and network.
COMPUTE_SHARE = 0.4
BANDWIDTH_SHARE = 0.7
# An all-reduce over n chips takes 2 log2(n) hops.
HOP_SECONDS = 3e-6


class Job(NamedTuple):
    """Photos, how often training sees each, and the global batch on CHIP_COUNTS."""

    name: str
    photos: int
    epochs: int
    batches: tuple[int, ...]


CHIP_COUNTS = (1, 8, 32, 256)
JOBS = (
    Job("the report's recipe", 10_000, 100, (16, 16, 32, 256)),
    Job("full COCO", 118_287, 100, (16, 128, 256, 1024)),
    Job("ImageNet", 1_281_167, 6, (16, 128, 256, 1024)),
)

# Photos of 640x480 that a core decodes and resizes a second (`--measure`).
DECODED = 380
# Bytes of a decoded photo: uint8 RGB.
PHOTO_BYTES = 256 * 256 * 3
# Of bfloat16.
WIDTH = 2


class Layer(NamedTuple):
    """A convolution 4x4 and the BatchNorm behind it."""

    kernel: int  # Parameters of the convolution's kernel.
    parameters: int  # All of them.
    normalized: int  # Channels of its BatchNorm, 0 where it has none.
    inputs: int  # Numbers that come in for each photo.
    outputs: int  # Numbers that go out for each photo.
    flops: int  # Of one pass over one photo.


# Of the generator and of the discriminator.
Networks = tuple[list[Layer], list[Layer]]


def initial_state(config: ml_collections.ConfigDict) -> gan.GANState:
    """The state of a run with the report's networks, in float32."""
    generator = Generator(image_size=config.image_size, **config.generator)
    discriminator = Discriminator(**config.discriminator)
    return gan.create_state(jax.random.key(0, impl="rbg"), generator, discriminator)


def abstract_state(config: ml_collections.ConfigDict) -> gan.GANState:
    """Its shapes."""
    return jax.eval_shape(lambda: initial_state(config))


def networks_of(config: ml_collections.ConfigDict) -> Networks:
    """The layers, from the shapes of their parameters."""
    state = abstract_state(config)
    params = state.generator.params
    sides = [config.image_size >> n for n in range(len(params) // 2 + 1)]  # In pixels.
    generator = [
        _layer(params[f"{part}_{n}"], before, after)
        for part, images in (("encoder", sides), ("decoder", sides[::-1]))
        for n, (before, after) in enumerate(itertools.pairwise(images), 1)
    ]
    params = state.discriminator.params
    sides = sides[: config.discriminator.halvings + 1]
    sides += [sides[-1] - 1, sides[-1] - 2]
    discriminator = []
    for n, (before, after) in enumerate(itertools.pairwise(sides), 1):
        layer = {"conv": params[f"conv_{n}"], "norm": params.get(f"norm_{n}")}
        discriminator.append(_layer(layer, before, after))
    return generator, discriminator


def _layer(params: dict, before: int, after: int) -> Layer:
    kernel, norm = params["conv"]["kernel"], params.get("norm")
    *_, ins, outs = kernel.shape
    if after > before:  # Transposed, and so is its kernel.
        ins, outs = outs, ins
    # In each direction four taps meet each pixel of the smaller image, but for the two at
    # the borders that meet the padding. A multiplication and an addition are two FLOPs.
    pairs = 4 * min(before, after) - 2
    return Layer(
        kernel=kernel.size,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        normalized=norm["bias"].size if norm else 0,
        inputs=before**2 * ins,
        outputs=after**2 * outs,
        flops=2 * pairs**2 * ins * outs,
    )


def parameters(layers: list[Layer]) -> int:
    """All that is trained."""
    return sum(layer.parameters for layer in layers)


def operations(networks: Networks) -> list[tuple[int, int, int]]:
    """What a training step does: FLOPs a photo, numbers moved a photo, numbers of kernels.

    The generator runs once. The discriminator sees what was generated, the real photos,
    and after its step what was generated again. The gradients are those of the images and
    of the kernels; that of L is never needed, nor that of the discriminator's input in its
    own step. Each multiplies the same pairs of numbers as the values do.

    A convolution moves both images and the kernel. BatchNorm and activation read their
    image for the statistics, then read and write it; their gradients read two images for
    the sums, then read two and write one. Without BatchNorm there are no sums.
    """
    (first, *inner), (judging_first, *judging) = networks
    # Each layer, how often for its values, and how often for gradients.
    passes = [(first, 1, 1), *((layer, 1, 2) for layer in inner)]
    passes += [(judging_first, 3, 3), *((layer, 3, 5) for layer in judging)]
    found = []
    for layer, values, gradients in passes:
        convolution = (layer.flops, layer.inputs + layer.outputs, layer.kernel)
        found += [convolution] * (values + gradients)
        forward, backward = (3, 5) if layer.normalized else (2, 3)
        found += [(0, forward * layer.outputs, 0)] * values
        found += [(0, backward * layer.outputs, 0)] * values
    return found


def flops_per_photo(networks: Networks) -> int:
    """FLOPs of the convolutions of a training step, for each photo."""
    return sum(flops for flops, *_ in operations(networks))


def optimizer_bytes(networks: Networks) -> int:
    """That Adam and the average of the generator read and write in a step.

    In float32, of each parameter: its gradient read; it and Adam's two means read and
    written; the generator's average read and written.
    """
    generator, discriminator = map(parameters, networks)
    return 4 * (9 * generator + 7 * discriminator)


def all_reduces(networks: Networks, width: int) -> tuple[int, int]:
    """Bytes that a training step sums up over all devices, and in how many all-reduces.

    Gradients, those of the discriminator for real and for generated photos apart; four
    losses; and two sums for each channel of a BatchNorm in each pass, forward and backward.
    Backward, one of the two is the gradient of its scale, and that of its bias is a third:
    not where the discriminator only judges for the generator. The count is the most there
    can be: one for each BatchNorm of each pass, and one for the gradients of each network.

    Args:
      networks: the layers.
      width: bytes of a number that the networks compute with. BatchNorm's sums and the
        losses are float32 in any case.
    """
    generator, discriminator = networks
    # The discriminator learns in two passes, and judges in a third.
    learning, judging = [*generator, *discriminator, *discriminator], discriminator
    trained = sum(layer.normalized for layer in learning)
    channels = trained + sum(layer.normalized for layer in judging)
    norms = sum(layer.normalized > 0 for layer in [*learning, *judging])
    gradients, sums = parameters(learning) - 2 * trained, 4 * channels + trained
    return width * gradients + 4 * (sums + 4), 2 * norms + 2


def step_time(
    networks: Networks, chip: Chip, chips: int, batch: int
) -> tuple[float, float, float, float]:
    """Seconds of a training step in bfloat16: photos, optimizer, all-reduce, latency.

    An operation takes as long as the slowest of its FLOPs, its bytes and its launch. Nothing
    is assumed to overlap. A ring moves 2 (n - 1) / n of the bytes over each link, and over
    the network of each host where there are several. `batch` is a multiple of `chips`.
    """
    photos = batch // chips
    compute = COMPUTE_SHARE * 1e12 * chip.tflops
    memory = BANDWIDTH_SHARE * 1e12 * chip.memory
    computing = sum(
        max(
            photos * flops / compute,
            WIDTH * (photos * numbers + kernels) / memory,
            1e-6 * chip.launch,
        )
        for flops, numbers, kernels in operations(networks)
    )
    size, count = all_reduces(networks, WIDTH)
    link = chip.link
    if chips > chip.per_host and chip.network is not None:
        link = min(link, chip.network)
    return (
        computing,
        optimizer_bytes(networks) / memory,
        2 * (chips - 1) / chips * size / (BANDWIDTH_SHARE * 1e9 * link),
        count * 2 * math.log2(chips) * HOP_SECONDS,
    )


def markdown(*rows: Iterable[object]) -> str:
    """A table, the first row being its head."""
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    columns = lines[0].count("|") - 1
    return "\n".join([lines[0], "|" + "---|" * columns, *lines[1:]])


def duration(hours: float) -> str:
    """In the unit that reads best."""
    if hours >= 1:
        return f"{hours:.1f} h"
    minutes = 60 * hours
    return f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s"


def rounded(value: float) -> str:
    """To two digits."""
    return f"{float(f'{value:.2g}'):,.0f}"


def chips_table() -> str:
    """The published figures."""
    columns = "chip|TFLOP/s|memory, TB/s|links, GB/s|host|chips|network, GB/s"
    rows = (
        (*chip[:3], chip.link, chip.host, chip.per_host, chip.network or "its links")
        for chip in CHIPS
    )
    return markdown(columns.split("|"), *rows)


def jobs_table(networks: Networks) -> str:
    """Time and chip-hours of each job: steps alone, without start and validations."""
    rows = []
    for job in JOBS:
        for chips, batch in zip(CHIP_COUNTS, job.batches, strict=True):
            steps = job.epochs * (job.photos // batch)
            cells = []
            for chip in CHIPS:
                hours = steps * sum(step_time(networks, chip, chips, batch)) / 3600
                cells.append(f"{duration(hours)}, {chips * hours:.2g}")
            rows.append((job.name, chips, batch, f"{steps:,}", *cells))
    names = (chip.name for chip in CHIPS)
    return markdown(("job", "chips", "batch", "steps", *names), *rows)


def limits_table(networks: Networks) -> str:
    """Where the time of a step goes, in milliseconds."""
    rows = []
    for chip in (chip for chip in CHIPS if chip.name in ("H100 SXM", "L4", "TPU v5e")):
        alone = 16 / sum(step_time(networks, chip, 1, 16))
        for chips, batch in ((1, 16), (8, 128), (256, 1024)):
            times = step_time(networks, chip, chips, batch)
            speed = batch / sum(times)
            row = (chip.name, chips, batch, *(f"{1e3 * t:.1f}" for t in times))
            rows.append((*row, rounded(speed), f"{speed / (chips * alone):.0%}"))
    columns = "chip|chips|batch|photos|optimizer|all-reduce|latency|photos/s|efficiency"
    return markdown(columns.split("|"), *rows)


def input_table(networks: Networks) -> str:
    """What each host must read, decode and hand over at 16 photos a chip."""
    rows = []
    for chip in CHIPS:
        chips = max(8, chip.per_host)
        photos = 16 * chip.per_host / sum(step_time(networks, chip, chips, 16 * chips))
        megabytes, decoding = photos * PHOTO_BYTES / 1e6, math.ceil(photos / DECODED)
        row = (chip.name, rounded(photos), rounded(megabytes), decoding)
        rows.append((*row, chip.cores, chip.ram))
    columns = "a host of|photos/s|MB/s to the chips|cores to decode|its cores|RAM, GB"
    return markdown(columns.split("|"), *rows)


def lowered_step(
    config: ml_collections.ConfigDict, batch: int, devices: int, platform: str = "cuda"
) -> jax.stages.Lowered:
    """The training step for a batch that is sharded over some devices.

    On a CPU the networks have other forms of the convolutions than on accelerators; those
    of `platform` are taken.
    """
    mesh = Mesh(jax.devices()[:devices], ("batch",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_photo = NamedSharding(mesh, PartitionSpec("batch"))
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        abstract_state(config),
    )
    shape = (batch, config.image_size, config.image_size)
    images = {
        name: jax.ShapeDtypeStruct((*shape, n), jnp.float32, sharding=by_photo)
        for name, n in (("L", 1), ("ab", 2))
    }
    traced = jax.jit(gan.train_step).trace(state, images)
    return traced.lower(lowering_platforms=(platform,))


def xla_flops(config: ml_collections.ConfigDict) -> tuple[float, float]:
    """What XLA counts in the training step of an accelerator: for each photo, and besides."""
    one, two = (
        lowered_step(config, batch, 1).cost_analysis()["flops"] for batch in (1, 2)
    )
    return two - one, 2 * one - two


def collectives(
    config: ml_collections.ConfigDict, batch: int, devices: int
) -> list[tuple[str, int]]:
    """Name and bytes of each collective operation in the step compiled for CPU devices.

    The convolutions have the accelerators' form. All numbers in it are float32.
    """
    program = lowered_step(config, batch, devices).compile().as_text()
    names = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
    found = []
    for shapes, name in re.findall(rf"= (.*?) ({names})(?:-start)?\(", program):
        sizes = re.findall(r"f32\[([\d,]*)\]", shapes)
        numbers = (math.prod(int(n) for n in size.split(",") if n) for size in sizes)
        found.append((name, 4 * sum(numbers)))
    return found


def check() -> None:
    """Prints what a training step does, whatever it runs on, beside what XLA counts."""
    config = get_config()
    networks = networks_of(config)
    ours, (size, count) = flops_per_photo(networks), all_reduces(networks, 4)
    flops, besides = xla_flops(config)
    on_cpu = lowered_step(config, 4, 1, "cpu").cost_analysis()["flops"]
    print("parameters:", *(f"{parameters(layers):,}" for layers in networks))
    print(f"bytes of the optimizer: {optimizer_bytes(networks):,}")
    print(f"FLOPs for each photo: {ours:,}")
    print(f"XLA: {flops:,.0f} ({flops / ours - 1:+.2%}), and {besides:,.0f} besides")
    print(f"XLA, step for a CPU, batch 4: {on_cpu / (4 * flops + besides) - 1:+.1%}")
    print(f"all-reduces: at most {count}, {size:,} bytes")
    print(f"all-reduces in bfloat16: {all_reduces(networks, WIDTH)[0]:,} bytes")
    for devices in (2, 4):
        found = collectives(config, devices, devices)
        names = " and ".join({name for name, _ in found})
        moved = sum(size for _, size in found)
        print(f"XLA, {devices} devices: {len(found)} {names}, {moved:,} bytes")


def measure(folder: str) -> None:
    """Prints what a core of this machine does."""
    print(describe_machine("jax"))
    config, batch = get_config(), 4
    state = initial_state(config)
    shape = (batch, config.image_size, config.image_size)
    images = {"L": np.zeros((*shape, 1), "f4"), "ab": np.zeros((*shape, 2), "f4")}
    options = memory_saving_options()
    step = jax.jit(gan.train_step, donate_argnames="state", compiler_options=options)
    matrix = jnp.ones((4096, 4096))
    multiply = jax.jit(jnp.matmul)

    def run_step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, images))

    def run_product() -> None:
        jax.block_until_ready(multiply(matrix, matrix))

    timings = time_in_turns({"step": run_step, "matrix product": run_product}, 5)
    flops = (batch * flops_per_photo(networks_of(config)), 2 * 4096**3)
    for count, (name, timing) in zip(flops, timings.items(), strict=True):
        speed = count / timing.median / timing.busy_cores / 1e9
        print(f"{name}: {timing.median:.3f} s, {speed:.0f} GFLOP/s for each busy core")

    files = [path.read_bytes() for path in find_photos(folder)[:600]]
    start = time.process_time()
    for file in files:
        resize_photo(read_rgb(file, "a photo", minimum_size=256), 256, 256)
    speed = len(files) / (time.process_time() - start)
    size = sum(map(len, files)) / len(files) / 1e3
    print(
        f"{len(files)} photos of {size:.0f} KB: {speed:.0f} decoded a second by a core"
    )


def main() -> None:
    """Prints what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with XLA")
    parser.add_argument("--measure", metavar="PHOTOS", help="measure this CPU")
    arguments = parser.parse_args()
    if arguments.check:
        jax.config.update("jax_num_cpu_devices", 4)
        check()
    elif arguments.measure:
        measure(arguments.measure)
    else:
        networks = networks_of(get_config())
        tables = (jobs_table, limits_table, input_table)
        print("\n\n".join((chips_table(), *(table(networks) for table in tables))))


if __name__ == "__main__":
    main()
