"""Seconds per training step, ours beside the PyTorch twin's.

    python benchmarks/train_step.py --batch 4

Both train the same networks, by default of full size, from the same weights on the same
images; what the generators make of them is compared first. The steps of the two alternate
in one process, so that whatever else the machine does falls on both alike, and the medians
are printed. Neither takes time from the other: the threads of both sleep between steps.
Ours also does what the twin does not: the moving average of the generator and the norms of
the gradients.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import flax
import jax
import numpy as np
import torch
from timing import processor

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch_twin

from colorgan_jax.gan import create_state, train_step
from colorgan_jax.models import Discriminator, Generator


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4, help="photos per step")
    parser.add_argument("--filters", type=int, default=64, help="64 is the report's")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each")
    parser.add_argument(
        "--channels-last", action="store_true", help="the twin in channels-last memory"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def main() -> None:
    """Compares the outputs, then times both and prints the result."""
    arguments = parse_arguments()
    size = arguments.image_size
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    random = np.random.default_rng(0)
    images = {
        name: random.uniform(-1, 1, (arguments.batch, size, size, channels))
        for name, channels in (("L", 1), ("ab", 2))
    }
    images = {name: image.astype(np.float32) for name, image in images.items()}

    state = create_state(
        jax.random.key(0),
        Generator(filters=arguments.filters, image_size=size),
        Discriminator(filters=arguments.filters),
    )
    twin = torch_twin.Trainer(
        torch_twin.Generator(arguments.filters, size),
        torch_twin.Discriminator(arguments.filters),
        channels_last=arguments.channels_last,
    )
    torch_twin.copy_from_flax(twin.generator, state.generator.variables)
    torch_twin.copy_from_flax(twin.discriminator, state.discriminator.variables)
    batch = jax.device_put(images)
    L, ab = (twin.to_torch(images[name]) for name in ("L", "ab"))

    # Inference mode, since dropout would differ.
    ours = jax.jit(state.generator.apply_fn, static_argnames="train")(
        state.generator.variables, batch["L"], train=False
    )
    twin.generator.eval()
    with torch.no_grad():
        theirs = twin.generator(L).permute(0, 2, 3, 1).numpy()
    twin.generator.train()
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    if difference > 1e-4:
        sys.exit(f"The generators disagree by {difference:.0e}: nothing to compare.")

    start = time.perf_counter()
    step = jax.jit(train_step, donate_argnums=0).lower(state, batch).compile()
    compile_seconds = time.perf_counter() - start

    def our_step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, batch))

    steps = {"ours": our_step, "twin": lambda: twin.train_step(L, ab)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in steps}
    # The first step of each warms up and is not counted.
    for timed in range(arguments.steps + 1):
        for name, take_step in steps.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            take_step()
            if timed:
                seconds[name].append(time.perf_counter() - start)
                cpu_seconds[name].append(time.process_time() - cpu_start)

    ours, theirs = (statistics.median(seconds[name]) for name in steps)
    busy_cores = {name: sum(cpu_seconds[name]) / sum(seconds[name]) for name in steps}
    result = {
        "batch": arguments.batch,
        "filters": arguments.filters,
        "image_size": size,
        "twin_channels_last": arguments.channels_last,
        "seconds_per_step": {"ours": ours, "twin": theirs},
        "ratio": ours / theirs,
        "compile_seconds": compile_seconds,
        "relative_difference_of_outputs": difference,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "backend": jax.default_backend(),
        "versions": {
            "python": platform.python_version(),
            "jax": jax.__version__,
            "flax": flax.__version__,
            "torch": torch.__version__,
        },
        "busy_cores": busy_cores,
        "all_seconds": seconds,
    }
    if arguments.json:
        print(json.dumps(result))
        return
    versions = ", ".join(f"{name} {text}" for name, text in result["versions"].items())
    print(f"{result['processor']}, {result['cores']} cores, JAX on {result['backend']}")
    print(versions)
    print(
        f"train step, batch {arguments.batch}, {arguments.filters} filters, {size}x{size}:"
        f" ours {ours:.3f} s, twin {theirs:.3f} s"
        f"{' (channels-last)' if arguments.channels_last else ''},"
        f" ratio {ours / theirs:.2f} (median of {arguments.steps} alternate steps each;"
        f" compiled in {compile_seconds:.0f} s; outputs differ by {difference:.0e})"
    )
    print(
        f"cores kept busy: ours {busy_cores['ours']:.2f}, twin {busy_cores['twin']:.2f};"
        " where that is far below the number of cores, other programs disturbed the"
        " measurement: repeat it"
    )


if __name__ == "__main__":
    main()
