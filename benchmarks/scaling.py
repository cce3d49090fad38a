"""What training costs on 1 to 256 chips, on paper: the tables of docs/scaling.md.

    python benchmarks/scaling.py

prints them, from the shapes of the layers of configs/pix2pix.py and from the figures that
the vendors publish. None of these chips was at hand: SHARES says which part of the published
peaks is assumed to be reached, and `--compute-share 0.2` prints the tables for another.

    python benchmarks/scaling.py --check

compares the arithmetic with XLA: with its count of the FLOPs of a training step, and with
the bytes that the all-reduces move in the step that it compiles for 2 and 4 devices.

    python benchmarks/scaling.py --measure PHOTOS

compares it with this machine's CPU: seconds of a training step, FLOP/s of a matrix product,
and photos of that folder that a core decodes a second. On a GPU or TPU `networks.py` times the
step.
"""

import argparse
import dataclasses
import io
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
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from PIL import Image

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
    """Published peaks of a chip, and of a machine that is let with several of them.

    Attributes:
      name: of the chip.
      flops: dense bfloat16 FLOP/s.
      float32_flops: with float32 numbers at JAX's default precision: TF32 on a GPU, and
        one pass of bfloat16 on a TPU.
      memory: bytes/s of its own memory.
      capacity: bytes of that memory.
      machine: the one that the following are of.
      per_host: chips of it.
      cores: that its system has.
      ram: bytes of it.
      link: bytes/s that a chip sends to its neighbors.
      network: bytes/s that all chips of a host send to other hosts; None where the links
        join the chips of all hosts.
      kernel_seconds: the least time of an operation, however small.
    """

    name: str
    flops: float
    float32_flops: float
    memory: float
    capacity: float
    machine: str
    per_host: int
    cores: int
    ram: float
    link: float
    network: float | None
    kernel_seconds: float


# Of data sheets and of the clouds' documentation, as of 2026-11. By columns: FLOP/s in
# bfloat16 and float32, memory and its size; the machine, its chips, cores and RAM, links,
# network; least time of an operation.
CHIPS = (
    Chip(
        "H100 SXM", 989e12, 495e12, 3.35e12, 80e9,
        "Azure ND H100 v5", 8, 96, 1900e9, 450e9, 400e9, 5e-6,
    ),
    Chip(
        "A100 80 GB SXM", 312e12, 156e12, 2.04e12, 80e9,
        "Azure NDm A100 v4", 8, 96, 1900e9, 300e9, 200e9, 5e-6,
    ),
    Chip(
        "L4", 121e12, 60e12, 0.3e12, 24e9,
        "Google g2-standard-96", 8, 96, 384e9, 32e9, 12.5e9, 5e-6,
    ),
    Chip(
        "TPU v5e", 197e12, 197e12, 0.82e12, 16e9,
        "Google ct5lp-hightpu-4t", 4, 112, 192e9, 200e9, None, 1e-6,
    ),
    Chip(
        "TPU v6e", 918e12, 918e12, 1.64e12, 32e9,
        "Google ct6e-standard-4t", 4, 180, 720e9, 400e9, None, 1e-6,
    ),
    Chip(
        "TPU v5p", 459e12, 459e12, 2.77e12, 95e9,
        "Google ct5p-hightpu-4t", 4, 208, 448e9, 600e9, None, 1e-6,
    ),
)  # fmt: skip


class Shares(NamedTuple):
    """Which part of the published peaks is assumed to be reached.

    Attributes:
      compute: of FLOP/s.
      memory: of the bandwidth of the chip's memory.
      network: of that of links and network.
      hop_seconds: latency of one hop of a collective, which takes 2 log2(chips) of them.
    """

    compute: float = 0.4
    memory: float = 0.7
    network: float = 0.7
    hop_seconds: float = 3e-6


SHARES = Shares()
CHIP_COUNTS = (1, 8, 32, 256)


class Job(NamedTuple):
    """Photos, and how often training sees each."""

    name: str
    photos: int
    epochs: int
    batches: tuple[int, ...]  # For each of CHIP_COUNTS.


JOBS = (
    Job("the report's recipe", 10_000, 100, (16, 16, 32, 256)),
    Job("full COCO", 118_287, 100, (16, 128, 256, 1024)),
    Job("ImageNet", 1_281_167, 6, (16, 128, 256, 1024)),
)

# Photos that a core decodes and resizes a second (`--measure`, see docs/scaling.md): those
# of 256x256, and those of COCO's usual 640x480.
DECODED_SMALL = 3_900
DECODED_LARGE = 380
# Photos that a core hands over a second of those kept in memory (benchmarks/README.md).
KEPT = 14_230

# Of a decoded photo: uint8 RGB of 256x256.
PHOTO_BYTES = 256 * 256 * 3


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution 4x4 and the BatchNorm behind it.

    Attributes:
      kernel: its shape.
      side: of the smaller of the images before and behind it, in pixels.
      inputs: numbers that come in for each photo.
      outputs: numbers that go out for each photo.
      biases: how many it has.
      normalized: channels of its BatchNorm, 0 where it has none.
    """

    kernel: tuple[int, int, int, int]
    side: int
    inputs: int
    outputs: int
    biases: int
    normalized: int

    @property
    def weights(self) -> int:
        """Parameters of the convolution."""
        return math.prod(self.kernel) + self.biases

    @property
    def flops(self) -> int:
        """Of one pass over one photo; a multiplication and an addition are two.

        The image's gradient and the kernel's take as many as the value: all three
        multiply the same pairs of pixels. In each direction four taps meet `side` pixels,
        but for the two of them at the borders that meet the padding.
        """
        pairs = 4 * self.side - 2
        return 2 * pairs**2 * self.kernel[2] * self.kernel[3]


class Networks(NamedTuple):
    """The layers of both."""

    generator: list[Layer]
    discriminator: list[Layer]


class Work(NamedTuple):
    """What an operation of a training step does.

    Attributes:
      flops: for each photo.
      numbers: that it reads or writes for each photo.
      fixed_numbers: that it reads or writes besides: kernels.
    """

    flops: int
    numbers: int
    fixed_numbers: int


def new_networks(config: ml_collections.ConfigDict) -> tuple[Generator, Discriminator]:
    """Those that a run with this config trains."""
    dtype = jnp.dtype(config.compute_dtype)
    return (
        Generator(image_size=config.image_size, dtype=dtype, **config.generator),
        Discriminator(dtype=dtype, **config.discriminator),
    )


def abstract_state(config: ml_collections.ConfigDict) -> gan.GANState:
    """The shapes of a run's state."""
    return jax.eval_shape(
        lambda: gan.create_state(jax.random.key(0, impl="rbg"), *new_networks(config))
    )


def networks_of(config: ml_collections.ConfigDict) -> Networks:
    """The layers, from the shapes of their parameters.

    Args:
      config: of a run with the report's U-Net.
    """
    state = abstract_state(config)
    size = config.image_size
    params = state.generator.params
    depth = len(params) // 2
    generator = []
    for block in range(1, depth + 1):
        kernel = params[f"encoder_{block}"]["conv"]["kernel"].shape
        side = size >> block
        ins, outs = 4 * side**2 * kernel[2], side**2 * kernel[3]
        generator.append(_layer(params[f"encoder_{block}"], side, ins, outs))
    for block in range(1, depth + 1):
        kernel = params[f"decoder_{block}"]["conv"]["kernel"].shape
        side = 1 << (block - 1)
        ins, outs = side**2 * kernel[3], 4 * side**2 * kernel[2]
        generator.append(_layer(params[f"decoder_{block}"], side, ins, outs))

    params = state.discriminator.params
    halvings = config.discriminator.halvings
    discriminator = []
    before = size
    for block in range(1, halvings + 3):
        layer = {"conv": params[f"conv_{block}"], "norm": params.get(f"norm_{block}")}
        kernel = layer["conv"]["kernel"].shape
        side = before // 2 if block <= halvings else before - 1
        ins, outs = before**2 * kernel[2], side**2 * kernel[3]
        discriminator.append(_layer(layer, side, ins, outs))
        before = side
    return Networks(generator, discriminator)


def _layer(params: dict, side: int, inputs: int, outputs: int) -> Layer:
    conv, norm = params["conv"], params.get("norm")
    return Layer(
        kernel=conv["kernel"].shape,
        side=side,
        inputs=inputs,
        outputs=outputs,
        biases=conv["bias"].size if "bias" in conv else 0,
        normalized=norm["bias"].size if norm else 0,
    )


def parameters(layers: Iterable[Layer]) -> int:
    """All that is trained: kernels, biases, and two for each channel of BatchNorm."""
    return sum(layer.weights + 2 * layer.normalized for layer in layers)


def passes(networks: Networks) -> list[tuple[Layer, int, int, int]]:
    """How often a training step takes each layer: values, image and kernel gradients.

    The generator runs once. The discriminator sees what was generated, the real photos,
    and after its step what was generated again. The gradient of L is never needed, nor
    that of the discriminator's input in its own step.
    """
    return [
        *(
            (layer, 1, 0 if number == 0 else 1, 1)
            for number, layer in enumerate(networks.generator)
        ),
        *(
            (layer, 3, 1 if number == 0 else 3, 2)
            for number, layer in enumerate(networks.discriminator)
        ),
    ]


def flops_per_photo(networks: Networks) -> int:
    """FLOPs of the convolutions of a training step, for each photo."""
    return sum(sum(times) * layer.flops for layer, *times in passes(networks))


def operations(networks: Networks) -> list[Work]:
    """What a training step does: convolutions, and what stands between them.

    A convolution moves both images and the kernel. BatchNorm and activation read their
    image for the statistics, then read and write it; their gradients read two images for
    the sums, then read two and write one. Without BatchNorm there are no sums.
    """
    works = []
    for layer, values, image_gradients, kernel_gradients in passes(networks):
        convolution = Work(
            layer.flops, layer.inputs + layer.outputs, math.prod(layer.kernel)
        )
        works += [convolution] * (values + image_gradients + kernel_gradients)
        forward, backward = (3, 5) if layer.normalized else (2, 3)
        works += [Work(0, forward * layer.outputs, 0)] * values
        works += [Work(0, backward * layer.outputs, 0)] * values
    return works


def optimizer_bytes(networks: Networks) -> int:
    """That Adam and the average of the generator read and write in a step.

    In float32, of each parameter: its gradient read; it and Adam's two means read and
    written; the generator's average read and written.
    """
    generator, discriminator = map(parameters, networks)
    return 4 * (9 * generator + 7 * discriminator)


class AllReduces(NamedTuple):
    """What a step sums up over all devices.

    Attributes:
      gradients: numbers, in the type that the networks compute in. The discriminator's are
        summed up twice, for real and for generated photos: XLA's compiler for CPUs does
        that before it adds them up.
      statistics: numbers, float32: sums of BatchNorm, and four losses.
      most: all-reduces, where none but those of one place in one network are joined: one
        for each BatchNorm of each pass, forward and backward, and one for the gradients of
        each network.
    """

    gradients: int
    statistics: int
    most: int

    def bytes(self, width: int) -> int:
        """All of them, where the networks compute with numbers of `width` bytes."""
        return width * self.gradients + 4 * self.statistics


def all_reduces(networks: Networks) -> AllReduces:
    """Counts what a training step sums up over all devices.

    Forward, BatchNorm needs two sums for each channel, of the pixels and of their squares.
    Backward it needs two, one of which is the gradient of its scale, and that of its bias
    where it is trained: not where the discriminator only judges for the generator.
    """
    weights = [sum(layer.weights for layer in network) for network in networks]
    channels = [sum(layer.normalized for layer in network) for network in networks]
    norms = [sum(layer.normalized > 0 for layer in network) for network in networks]
    forward = 2 * (channels[0] + 3 * channels[1])
    backward = 3 * (channels[0] + 2 * channels[1]) + 2 * channels[1]
    return AllReduces(
        gradients=weights[0] + 2 * weights[1],
        statistics=forward + backward + 4,
        most=2 * (norms[0] + 3 * norms[1]) + 2,
    )


class StepTime(NamedTuple):
    """Seconds of a training step, one thing after the other."""

    photos: float
    optimizer: float
    all_reduce: float
    latency: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


def step_time(
    networks: Networks, chip: Chip, chips: int, batch: int, shares: Shares, width: int
) -> StepTime:
    """Seconds of a training step on paper.

    An operation takes as long as the slowest of its FLOPs, its bytes and the least time of
    any. Nothing is assumed to overlap. A ring moves 2 (n - 1) / n of the bytes over
    each link, and over the network of each host where there are several.

    Args:
      networks: the layers.
      chip: which one.
      chips: how many of it.
      batch: the global one, a multiple of `chips`.
      shares: what is reached of the peaks.
      width: bytes of a number: 2 for bfloat16, 4 for float32.
    """
    photos = batch // chips
    flops = shares.compute * (chip.flops if width == 2 else chip.float32_flops)
    memory = shares.memory * chip.memory
    computing = sum(
        max(
            photos * work.flops / flops,
            width * (photos * work.numbers + work.fixed_numbers) / memory,
            chip.kernel_seconds,
        )
        for work in operations(networks)
    )
    sums = all_reduces(networks)
    bandwidth = chip.link
    if chips > chip.per_host and chip.network is not None:
        bandwidth = min(bandwidth, chip.network)
    ring = 2 * (chips - 1) / chips * sums.bytes(width)
    return StepTime(
        photos=computing,
        optimizer=optimizer_bytes(networks) / memory,
        all_reduce=ring / (shares.network * bandwidth),
        latency=sums.most * 2 * math.log2(chips) * shares.hop_seconds,
    )


def hours(job: Job, seconds_a_step: float, batch: int) -> float:
    """Of the training steps alone: no start, no validation, no checkpoints."""
    return job.epochs * (job.photos // batch) * seconds_a_step / 3600


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


def plural(count: int, name: str) -> str:
    """1 chip, 2 chips."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def rounded(value: float) -> str:
    """To two digits."""
    return f"{float(f'{value:.2g}'):,.0f}"


def step_table(networks: Networks) -> str:
    """What a training step costs, whatever it runs on."""
    generator, discriminator = map(parameters, networks)
    flops = flops_per_photo(networks)
    sums = all_reduces(networks)
    return markdown(
        ("of one training step", ""),
        ("parameters, generator", f"{generator:,}"),
        ("parameters, discriminator", f"{discriminator:,}"),
        ("FLOPs for each photo", f"{flops / 1e9:.1f} billion"),
        (
            "bytes that the optimizer reads and writes",
            f"{optimizer_bytes(networks) / 1e9:.2f} GB",
        ),
        ("bytes of the all-reduces, float32", f"{sums.bytes(4) / 1e6:.1f} MB"),
        ("bytes of the all-reduces, bfloat16", f"{sums.bytes(2) / 1e6:.1f} MB"),
        ("of these, BatchNorm's sums", f"{4 * sums.statistics / 1e6:.2f} MB"),
        ("all-reduces, at most", sums.most),
    )


def chips_table() -> str:
    """The published figures."""
    return markdown(
        (
            "chip",
            "TFLOP/s, bfloat16",
            "float32",
            "memory",
            "links, GB/s",
            "machine",
            "chips",
            "cores",
            "RAM, GB",
            "network, GB/s",
        ),
        *(
            (
                chip.name,
                f"{chip.flops / 1e12:.0f}",
                f"{chip.float32_flops / 1e12:.0f}",
                f"{chip.capacity / 1e9:.0f} GB, {chip.memory / 1e12:.2f} TB/s",
                f"{chip.link / 1e9:.0f}",
                chip.machine,
                chip.per_host,
                chip.cores,
                f"{chip.ram / 1e9:.0f}",
                "its links" if chip.network is None else f"{chip.network / 1e9:g}",
            )
            for chip in CHIPS
        ),
    )


def job_table(networks: Networks, job: Job, shares: Shares) -> str:
    """Time and chip-hours of a job."""
    rows = []
    for chip in CHIPS:
        cells = []
        for chips, batch in zip(CHIP_COUNTS, job.batches, strict=True):
            seconds = step_time(networks, chip, chips, batch, shares, 2).total
            time = hours(job, seconds, batch)
            cells.append(f"{duration(time)}, {chips * time:.2g}")
        rows.append((chip.name, *cells))
    steps = [job.epochs * (job.photos // batch) for batch in job.batches]
    return markdown(
        (job.name, *(plural(chips, "chip") for chips in CHIP_COUNTS)),
        ("global batch", *job.batches),
        ("steps", *(f"{count:,}" for count in steps)),
        *rows,
    )


def limits_table(networks: Networks, shares: Shares) -> str:
    """Where the time of a step goes."""
    rows = []
    for chip in CHIPS:
        if chip.name not in ("H100 SXM", "L4", "TPU v5e"):
            continue
        alone = 16 / step_time(networks, chip, 1, 16, shares, 2).total
        for chips, batch, width in (
            (1, 16, 4),
            (1, 16, 2),
            (8, 16, 2),
            (8, 128, 2),
            (256, 1024, 2),
        ):
            times = step_time(networks, chip, chips, batch, shares, width)
            speed = batch / times.total
            milliseconds = (1e3 * seconds for seconds in (*times, times.total))
            rows.append(
                (
                    chip.name,
                    chips,
                    batch,
                    {2: "bfloat16", 4: "float32"}[width],
                    *(f"{value:.1f}" for value in milliseconds),
                    rounded(speed),
                    f"{100 * speed / (chips * alone):.0f}%",
                )
            )
    return markdown(
        (
            "chip",
            "chips",
            "batch",
            "type",
            "photos, ms",
            "optimizer, ms",
            "all-reduce, ms",
            "latency, ms",
            "step, ms",
            "photos/s",
            "efficiency",
        ),
        *rows,
    )


def input_table(networks: Networks, shares: Shares) -> str:
    """What each host must read, decode and hand over at 16 photos a chip."""
    rows = []
    for chip in CHIPS:
        chips = max(8, chip.per_host)
        step = step_time(networks, chip, chips, 16 * chips, shares, 2).total
        photos = 16 * chip.per_host / step
        rows.append(
            (
                chip.name,
                rounded(photos),
                rounded(photos * PHOTO_BYTES / 1e6),
                math.ceil(photos / DECODED_LARGE),
                math.ceil(photos / DECODED_SMALL),
                math.ceil(photos / KEPT),
                chip.cores,
            )
        )
    return markdown(
        (
            "a host of",
            "photos/s",
            "MB/s to the chips",
            "cores, 640x480 anew",
            "cores, 256x256 anew",
            "cores, kept",
            "cores it has",
        ),
        *rows,
    )


def memory_table() -> str:
    """Decoded photos that each host keeps."""
    counts = (1, 2, 4, 8, 32, 64)

    def gigabytes(job: Job, hosts: int) -> float:
        return math.ceil(job.photos / hosts) * PHOTO_BYTES / 1e9

    return markdown(
        ("GB a host", *(plural(count, "host") for count in counts)),
        *(
            (job.name, *(f"{gigabytes(job, hosts):.2f}" for hosts in counts))
            for job in JOBS
        ),
    )


def config_table(config: ml_collections.ConfigDict) -> str:
    """The values that a larger batch asks for, by the square-root rule."""
    optimizer = config.optimizer
    rows = []
    for batch in (16, 32, 128, 256, 1024):
        times = batch / config.batch_size
        rows.append(
            (
                batch,
                f"{optimizer.learning_rate * math.sqrt(times):.1e}".replace(
                    "e-0", "e-"
                ),
                f"{1 - times * (1 - optimizer.beta2):.3f}",
                f"{config.ema_decay**times:.3f}",
                *(f"{job.photos // batch:,}" for job in JOBS),
            )
        )
    return markdown(
        (
            "`batch_size`",
            "`optimizer.learning_rate`",
            "`optimizer.beta2`",
            "`ema_decay`",
            *(f"steps an epoch, {job.name}" for job in JOBS),
        ),
        *rows,
    )


def tables(shares: Shares = SHARES) -> list[str]:
    """All tables of docs/scaling.md that are computed."""
    config = get_config()
    networks = networks_of(config)
    return [
        step_table(networks),
        chips_table(),
        *(job_table(networks, job, shares) for job in JOBS),
        limits_table(networks, shares),
        input_table(networks, shares),
        memory_table(),
        config_table(config),
    ]


def traced_step(
    config: ml_collections.ConfigDict, batch: int, devices: int
) -> jax.stages.Traced:
    """The training step, traced for a batch that is sharded over some devices.

    On a CPU the networks have other forms of the convolutions than on accelerators:
    `.lower(lowering_platforms=("cuda",))` takes the latter.
    """
    mesh = jax.make_mesh(
        (devices,),
        ("batch",),
        axis_types=(AxisType.Auto,),
        devices=jax.devices()[:devices],
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_photo = NamedSharding(mesh, PartitionSpec("batch"))
    state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere),
        abstract_state(config),
    )
    size = config.image_size
    images = {
        name: jax.ShapeDtypeStruct(
            (batch, size, size, channels), jnp.float32, sharding=by_photo
        )
        for name, channels in (("L", 1), ("ab", 2))
    }
    return jax.jit(gan.train_step).trace(state, images)


def xla_flops(config: ml_collections.ConfigDict) -> tuple[float, float]:
    """What XLA counts in the training step of an accelerator: for each photo, and besides."""
    one, two = (
        traced_step(config, batch, 1)
        .lower(lowering_platforms=("cuda",))
        .cost_analysis()["flops"]
        for batch in (1, 2)
    )
    return two - one, 2 * one - two


_COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute)"
    r"(?:-start)?\("
)


def collectives(program: str) -> list[tuple[str, int]]:
    """Name and bytes of each collective operation in the text of a compiled program.

    Only of float32, which is all that there is in a program compiled for a CPU.
    """
    found = []
    for shapes, name in _COLLECTIVE.findall(program):
        sizes = re.findall(r"f32\[([\d,]*)\]", shapes)
        numbers = (math.prod(int(n) for n in size.split(",") if n) for size in sizes)
        found.append((name, 4 * sum(numbers)))
    return found


def compiled_step(
    config: ml_collections.ConfigDict, batch: int, devices: int
) -> jax.stages.Compiled:
    """The accelerators' training step, compiled for several CPU devices."""
    traced = traced_step(config, batch, devices)
    return traced.lower(lowering_platforms=("cuda",)).compile()


def check() -> None:
    """Prints the arithmetic beside XLA's."""
    config = get_config()
    networks = networks_of(config)
    sums = all_reduces(networks)
    flops, besides = xla_flops(config)
    ours = flops_per_photo(networks)
    print(f"FLOPs for each photo: {ours:,} in convolutions; XLA {flops:,.0f}")
    print(f"XLA: {flops / ours - 1:+.2%}, and {besides:,.0f} whatever the batch")
    fast = traced_step(config, 4, 1).lower().cost_analysis()["flops"]
    plain = 4 * flops + besides
    print(f"in a CPU's forms of the convolutions, batch 4: {fast / plain - 1:+.1%}")
    for devices in (2, 4):
        compiled = compiled_step(config, devices, devices)
        found = collectives(compiled.as_text())
        moved = sum(size for _, size in found)
        names = ", ".join(sorted({name for name, _ in found}))
        print(
            f"compiled for {devices} devices, a photo each:"
            f" {compiled.cost_analysis()['flops']:,.0f} FLOPs on each;"
            f" {len(found)} of {names}, {moved:,} bytes (by arithmetic at most"
            f" {sums.most}, {sums.bytes(4):,} bytes)"
        )


def seconds_of_steps(
    config: ml_collections.ConfigDict, batch: int, steps: int
) -> tuple[float, float]:
    """Median seconds of training steps on this machine, and how many cores were busy."""
    state = gan.create_state(jax.random.key(0, impl="rbg"), *new_networks(config))
    step = jax.jit(
        gan.train_step, donate_argnums=0, compiler_options=memory_saving_options()
    )
    size = config.image_size
    random = np.random.default_rng(0)
    images = {
        name: random.uniform(-1, 1, (batch, size, size, channels)).astype(np.float32)
        for name, channels in (("L", 1), ("ab", 2))
    }

    def run() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, images))

    timing = time_in_turns({"step": run}, steps)["step"]
    return timing.median, timing.busy_cores


def decoded_per_core(files: list[bytes]) -> float:
    """Photos that a core decodes and squashes to the size of the networks a second."""
    size = get_config().image_size
    start = time.process_time()
    for file in files:
        resize_photo(read_rgb(file, "a photo", minimum_size=size), size, size)
    return len(files) / (time.process_time() - start)


def mosaics(photos: list[np.ndarray], count: int) -> list[bytes]:
    """JPEG files as COCO's, 640x480 and 140 KB, of six photos of 256x256 each."""
    files = []
    for first in range(count):
        six = [photos[(6 * first + number) % len(photos)] for number in range(6)]
        mosaic = np.vstack([np.hstack(six[:3]), np.hstack(six[3:])])
        file = io.BytesIO()
        Image.fromarray(mosaic[:480, :640]).save(file, "JPEG", quality=97)
        files.append(file.getvalue())
    return files


def measure(folder: str, steps: int) -> None:
    """Prints the arithmetic beside what this machine's CPU does."""
    print(describe_machine("jax"))
    matrix = jnp.ones((4096, 4096))
    multiply = jax.jit(lambda a: a @ a)
    timing = time_in_turns({"": lambda: jax.block_until_ready(multiply(matrix))}, 5)[""]
    machine = 2 * 4096**3 / timing.median / timing.busy_cores
    print(
        f"matrix product: {machine / 1e9:.0f} GFLOP/s for each of"
        f" {timing.busy_cores:.2f} busy cores"
    )

    full, small = get_config(), get_config()
    small.image_size = 64
    small.generator.filters = small.discriminator.filters = 32
    for config, batch in ((full, 4), (small, 16)):
        seconds, busy = seconds_of_steps(config, batch, steps)
        flops = batch * flops_per_photo(networks_of(config)) / seconds / busy
        print(
            f"{config.image_size}x{config.image_size}, {config.generator.filters} filters,"
            f" batch {batch}: {seconds:.3f} s a step, {batch / seconds:.1f} photos/s,"
            f" {flops / 1e9:.0f} GFLOP/s of the arithmetic's for each of {busy:.2f} busy"
            f" cores ({flops / machine:.2f} of the matrix product)"
        )

    paths = find_photos(folder)[:600]
    encoded = [path.read_bytes() for path in paths]
    photos = [resize_photo(read_rgb(file, "a photo"), 256, 256) for file in encoded]
    large = mosaics(photos, 200)
    for name, files in (("as they are", encoded), ("mosaics of 640x480", large)):
        size = sum(map(len, files)) / len(files)
        print(
            f"{len(files)} photos, {name}, {size / 1e3:.0f} KB each:"
            f" {decoded_per_core(files):.0f} decoded a second by each core"
        )


def main() -> None:
    """Prints what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with what XLA counts and compiles"
    )
    parser.add_argument(
        "--measure", metavar="PHOTOS", help="compare with this CPU, on this folder"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed training steps")
    parser.add_argument(
        "--compute-share", type=float, default=SHARES.compute, help="of the peak FLOP/s"
    )
    parser.add_argument(
        "--memory-share",
        type=float,
        default=SHARES.memory,
        help="of the peak bandwidth",
    )
    arguments = parser.parse_args()
    if arguments.check:
        jax.config.update("jax_num_cpu_devices", 4)
        check()
    elif arguments.measure:
        measure(arguments.measure, arguments.steps)
    else:
        shares = SHARES._replace(
            compute=arguments.compute_share, memory=arguments.memory_share
        )
        print("\n\n".join(tables(shares)))


if __name__ == "__main__":
    main()
