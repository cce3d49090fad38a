"""Photos per second of the input pipeline alone, and how long training waits for it.

    python benchmarks/data.py PHOTOS

PHOTOS is a folder, or what else --config.data.source takes. Batches are streamed on the
host, and then onto the device and converted to Lab there, of photos that are kept in
memory and of photos that are read anew. The host must feed the accelerators; where the
device is a CPU, the conversion takes its time from the same cores.

Then a training run takes its steps on both. There the device is empty whenever the next
batch is asked for, so that all work on that batch which is left to do counts as waiting;
a real run asks ahead of time, and waits no longer than that.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Read when TensorFlow is imported: what it logs of its operations is of no use here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from timing import describe_machine

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.errors import DataError
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.training import data, gan
from configs.pix2pix import get_config

IMAGE_SIZE = 256


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="a folder, coco_sample, tfds:NAME or skimage")
    parser.add_argument("--count", type=int, default=1000, help="photos to use")
    parser.add_argument("--stream-batch", type=int, default=16, help="photos per batch")
    parser.add_argument("--passes", type=int, default=5, help="timed passes of each")
    parser.add_argument("--batch", type=int, default=4, help="photos per training step")
    parser.add_argument("--steps", type=int, default=10, help="timed training steps")
    parser.add_argument("--filters", type=int, default=64, help="64 is the report's")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def load_photos(arguments: argparse.Namespace) -> dict[str, data.Photos]:
    """The same photos twice, one way and the other."""
    config = get_config()
    config.image_size = IMAGE_SIZE
    config.batch_size = 1
    config.data.source = arguments.photos
    config.data.train_photos = arguments.count
    config.data.validation_photos = 1
    try:
        kept, _ = data.load_photos(config)
    except DataError as error:
        sys.exit(f"error: {error}")
    if kept.pixels is None:
        sys.exit(f"error: {arguments.count} photos do not fit into memory.")
    needed = max(arguments.stream_batch, arguments.batch)
    if len(kept) < needed:
        sys.exit(
            f"error: {arguments.photos} has {len(kept)} usable photos, but a batch"
            f" takes {needed}."
        )
    anew = data.Photos(kept.source, kept.indices, kept.image_size, pixels=None)
    return {"kept in memory": kept, "read anew": anew}


def streams(
    photos: dict[str, data.Photos], batch_size: int, sharding: NamedSharding
) -> dict[str, Callable[[int], Iterator[Any]]]:
    """{name: function of a seed that streams an epoch}."""

    def stream(kind: data.Photos, place: Callable, **options) -> Callable:
        return lambda seed: place(
            kind,
            image_size=IMAGE_SIZE,
            batch_size=batch_size,
            seed=seed,
            first_step=0,
            last_step=data.steps_per_epoch(kind, batch_size),
            **options,
        )

    on_host, on_device = data.training_batches_on_host, data.training_batches
    return {
        name: function
        for kind, some in photos.items()
        for name, function in (
            (f"{kind}, on the host", stream(some, on_host)),
            (f"{kind}, Lab on the device", stream(some, on_device, sharding=sharding)),
        )
    }


def time_stream(batches: Iterator[Any], photos: int) -> dict[str, float]:
    """Photos per second of a stream, and per second of a core."""
    start, cpu_start = time.perf_counter(), time.process_time()
    for batch in batches:
        jax.block_until_ready(batch)
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu_start
    return {
        "photos_per_second": photos / seconds,
        "photos_per_core_second": photos / cpu_seconds,
        "busy_cores": cpu_seconds / seconds,
    }


def time_training(
    photos: dict[str, data.Photos],
    arguments: argparse.Namespace,
    sharding: NamedSharding,
) -> dict[str, dict[str, float]]:
    """Which share of the time of some training steps was waiting for batches."""
    state = jax.device_put(
        gan.create_state(
            jax.random.key(0, impl="rbg"),
            Generator(filters=arguments.filters, image_size=IMAGE_SIZE),
            Discriminator(filters=arguments.filters),
        ),
        NamedSharding(sharding.mesh, PartitionSpec()),
    )
    step = jax.jit(
        gan.train_step,
        donate_argnames="state",
        compiler_options=memory_saving_options(),
    )
    results = {}
    for name, some in photos.items():
        batches = data.training_batches(
            some,
            image_size=IMAGE_SIZE,
            batch_size=arguments.batch,
            seed=0,
            first_step=0,
            last_step=arguments.steps + 1,
            sharding=sharding,
        )
        # The first step may be compiled, and is not counted.
        state, _ = jax.block_until_ready(step(state, next(batches)))
        waiting, training = [], []
        while True:
            start = time.perf_counter()
            batch = jax.block_until_ready(next(batches, None))
            waiting.append(time.perf_counter() - start)
            if batch is None:  # The end of the stream may be waited for, too.
                break
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, batch))
            training.append(time.perf_counter() - start)
        results[name] = {
            "share_of_waiting": sum(waiting) / (sum(waiting) + sum(training)),
            "longest_wait_seconds": max(waiting),
            "seconds_per_step": statistics.median(training),
        }
    return results


def main() -> None:
    """Reads the photos, measures and prints the result."""
    arguments = parse_arguments()
    photos = load_photos(arguments)
    mesh = jax.make_mesh(
        (1,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1]
    )
    sharding = NamedSharding(mesh, PartitionSpec("batch"))

    epoch = data.steps_per_epoch(photos["read anew"], arguments.stream_batch)
    timed = streams(photos, arguments.stream_batch, sharding)
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in timed}
    # The first pass of each warms up and is not counted.
    for number in range(arguments.passes + 1):
        for name, stream in timed.items():
            rates = time_stream(stream(number), epoch * arguments.stream_batch)
            if number:
                passes[name].append(rates)

    machine = describe_machine("jax")
    machine["versions"]["tensorflow"] = data.tf.__version__
    result = {
        "photos": epoch * arguments.stream_batch,
        "image_size": IMAGE_SIZE,
        "stream_batch": arguments.stream_batch,
        "alone": {
            name: {
                key: statistics.median(rates[key] for rates in passes[name])
                for key in passes[name][0]
            }
            for name in passes
        },
        "batch": arguments.batch,
        "filters": arguments.filters,
        "training": time_training(photos, arguments, sharding),
        **machine,
        "all_passes": passes,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    versions = ", ".join(f"{name} {text}" for name, text in result["versions"].items())
    print(f"{result['processor']}, {result['cores']} cores, JAX on {result['device']}")
    print(versions)
    print(
        f"the pipeline alone, batches of {arguments.stream_batch}: median of"
        f" {arguments.passes} passes over {result['photos']} photos"
    )
    for name, rates in result["alone"].items():
        print(
            f"  {name:35} {rates['photos_per_second']:6.0f} photos/s,"
            f" {rates['photos_per_core_second']:6.0f} for each busy core"
            f" ({rates['busy_cores']:.2f} busy)"
        )
    print(
        f"{arguments.steps} training steps of {arguments.batch} photos,"
        f" {arguments.filters} filters:"
    )
    for name, run in result["training"].items():
        print(
            f"  {name:35} {100 * run['share_of_waiting']:.2f} % of the time waiting,"
            f" at most {1000 * run['longest_wait_seconds']:.0f} ms;"
            f" {run['seconds_per_step']:.2f} s a step"
        )


if __name__ == "__main__":
    main()
