"""Seconds per training step and per forward pass, beside PyTorch and ONNX Runtime.

    python benchmarks/networks.py --training 4 16 --inference 1 4 16

The networks of `benchmarks/torch_twin.py` have the same weights and see the same images; what
they make of them is compared first. Then all are timed in turns in one process.

Ours runs on JAX's default device, and PyTorch on the same GPU where that is one. In
float32 both use TF32 on a GPU. Inference is measured with BatchNorm folded into the
convolutions, and by ONNX Runtime too, where that is installed and the device is a CPU.
Our training step also does what the twin's does not: the moving average of the generator
and the norms of the gradients.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch._inductor.config
from timing import cores, describe_machine, time_in_turns
from torch.nn.utils.fusion import fuse_conv_bn_eval

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch_twin

from colorgan_jax.compilation import memory_saving_options
from colorgan_jax.inference import predict_ab
from colorgan_jax.networks.discriminator import Discriminator
from colorgan_jax.networks.generator import Generator
from colorgan_jax.params import fold_batch_norm
from colorgan_jax.training.gan import create_state, train_step

ONNX_PACKAGES = ("onnxruntime", "onnx", "onnxscript")
NAMES = ("ours", "PyTorch", "ONNX Runtime")

Result = dict[str, Any]


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--training",
        type=int,
        nargs="*",
        default=[4, 16],
        metavar="BATCH",
        help="photos per training step; none: skip training",
    )
    parser.add_argument(
        "--inference",
        type=int,
        nargs="*",
        default=[1, 4, 16],
        metavar="BATCH",
        help="photos per forward pass; none: skip inference",
    )
    parser.add_argument("--steps", type=int, default=5, help="timed training steps")
    parser.add_argument("--passes", type=int, default=15, help="timed forward passes")
    parser.add_argument("--filters", type=int, default=64, help="64 is the report's")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="PyTorch with torch.compile, which needs a C++ compiler (default: for"
        " inference, and for training on a GPU: where it is faster)",
    )
    parser.add_argument(
        "--contiguous", action="store_true", help="PyTorch not in channels-last memory"
    )
    parser.add_argument(
        "--profile", metavar="FOLDER", help="write a profile of our training step there"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def prepare() -> None:
    """Chooses the device of PyTorch, and what makes it fast there."""
    if jax.default_backend() == "gpu":
        if not torch.cuda.is_available():
            sys.exit("error: JAX runs on a GPU, but this PyTorch has no CUDA.")
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32, JAX's default.
    torch.set_num_threads(cores())


def torch_device() -> str:
    """Where PyTorch computes."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def memory_format(arguments: argparse.Namespace) -> torch.memory_format:
    """How PyTorch lays out images and kernels."""
    return torch.contiguous_format if arguments.contiguous else torch.channels_last


def synchronize() -> None:
    """Waits for PyTorch's device."""
    if torch_device() == "cuda":
        torch.cuda.synchronize()


def is_compiled(arguments: argparse.Namespace, *, by_default: bool) -> bool:
    """Whether PyTorch compiles."""
    return by_default if arguments.compile is None else arguments.compile


def can_compile() -> bool:
    """Whether there is what torch.compile needs: Triton's GPU, or a C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    return torch_device() == "cuda" or shutil.which(compiler) is not None


def random_images(batch: int, size: int, channels: int) -> np.ndarray:
    """Images as our networks take them: [B, S, S, channels] in [-1, 1]."""
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, (batch, size, size, channels))
    return images.astype(np.float32)


def compare(
    ours: jax.Array, theirs: np.ndarray, arguments: argparse.Namespace
) -> float:
    """The largest difference of two outputs, relative to the largest value."""
    difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    is_exact = torch_device() == "cpu" and arguments.dtype == "float32"
    if difference > (1e-4 if is_exact else 0.1):
        sys.exit(f"The outputs differ by {difference:.0e}: nothing to compare.")
    return difference


def measure(
    task: str,
    batch: int,
    functions: dict[str, Callable[[], Any]],
    calls: int,
    difference: float,
) -> Result:
    """Times the functions in turns."""
    timings = time_in_turns(functions, calls)
    median = {name: timing.median for name, timing in timings.items()}
    return {
        "task": task,
        "batch": batch,
        "seconds": median,
        "photos_per_second": {name: batch / median[name] for name in median},
        "ratio": {
            name: median["ours"] / median[name] for name in median if name != "ours"
        },
        "busy_cores": {name: timing.busy_cores for name, timing in timings.items()},
        "relative_difference_of_outputs": difference,
        "all_seconds": {name: timing.seconds for name, timing in timings.items()},
    }


def measure_training(batch: int, arguments: argparse.Namespace) -> Result:
    """Times whole training steps: both networks, both optimizers."""
    filters, size = arguments.filters, arguments.image_size
    dtype = jnp.dtype(arguments.dtype)
    state = create_state(
        jax.random.key(0, impl="rbg"),
        Generator(filters=filters, image_size=size, dtype=dtype),
        Discriminator(filters=filters, dtype=dtype),
    )
    twin = torch_twin.Trainer(
        torch_twin.Generator(filters, size),
        torch_twin.Discriminator(filters),
        channels_last=not arguments.contiguous,
        device=torch_device(),
        dtype=getattr(torch, arguments.dtype),
    )
    torch_twin.copy_from_flax(twin.generator, state.generator.variables)
    torch_twin.copy_from_flax(twin.discriminator, state.discriminator.variables)
    images = {
        "L": random_images(batch, size, 1),
        "ab": random_images(batch, size, 2),
    }
    our_images = jax.device_put(images)
    twin_images = [twin.to_torch(image) for image in images.values()]

    # In inference mode, since dropout would differ.
    ours = jax.jit(state.generator.apply_fn, static_argnames="train")(
        state.generator.variables, our_images["L"], train=False
    )
    twin.generator.eval()
    with torch.no_grad():
        theirs = twin.run(twin.generator, twin_images[0]).permute(0, 2, 3, 1)
    twin.generator.train()
    difference = compare(ours, theirs.cpu().numpy(), arguments)

    if is_compiled(arguments, by_default=torch_device() == "cuda"):
        twin.generator.compile()
        twin.discriminator.compile()
    step = jax.jit(
        train_step, donate_argnums=0, compiler_options=memory_saving_options()
    )

    def our_step() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, our_images))

    def twin_step() -> None:
        twin.train_step(*twin_images)
        synchronize()

    steps = {"ours": our_step, "PyTorch": twin_step}
    result = measure("training step", batch, steps, arguments.steps, difference)
    if arguments.profile:
        with jax.profiler.trace(arguments.profile):
            our_step()
    return result


def folded_twin(arguments: argparse.Namespace, variables: dict) -> torch_twin.Generator:
    """The twin in inference mode, with BatchNorm folded into its convolutions."""
    twin = torch_twin.Generator(arguments.filters, arguments.image_size)
    torch_twin.copy_from_flax(twin, variables)
    twin.eval()
    for blocks, transposed in ((twin.encoder, False), (twin.decoder, True)):
        for block in blocks:
            if isinstance(block.norm, torch.nn.BatchNorm2d):
                block.conv = fuse_conv_bn_eval(block.conv, block.norm, transposed)
                block.norm = torch.nn.Identity()
    return twin


def onnx_session(twin: torch_twin.Generator, arguments: argparse.Namespace):
    """The twin in ONNX Runtime, for any batch size; None where that does not apply."""
    is_installed = all(importlib.util.find_spec(name) for name in ONNX_PACKAGES)
    if not is_installed or torch_device() != "cpu" or arguments.dtype != "float32":
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        torch.onnx.export(
            twin,
            (torch.zeros(2, 1, arguments.image_size, arguments.image_size),),
            path,
            input_names=["L"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            dynamo=True,
            verbose=False,
        )
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )


def measure_inference(arguments: argparse.Namespace) -> list[Result]:
    """Times the generator's forward pass, for each batch size."""
    size = arguments.image_size
    generator = Generator(filters=arguments.filters, image_size=size)
    variables = jax.jit(generator.init, static_argnames="train")(
        jax.random.key(0), jnp.zeros((1, size, size, 1)), train=False
    )
    params = jax.jit(fold_batch_norm)(variables)
    params = jax.tree.map(lambda array: array.astype(arguments.dtype), params)
    predict = jax.jit(predict_ab, compiler_options=memory_saving_options())
    twin = folded_twin(arguments, variables)
    session = onnx_session(twin, arguments)
    twin_dtype = getattr(torch, arguments.dtype)
    twin = twin.to(torch_device(), twin_dtype, memory_format=memory_format(arguments))
    if is_compiled(arguments, by_default=can_compile()):
        # Lays the kernels out once, as ONNX Runtime does when it loads them.
        torch._inductor.config.freezing = True
        twin.compile(dynamic=False)

    results = []
    for batch in arguments.inference:
        L = random_images(batch, size, 1)
        our_L = jax.device_put(L.astype(arguments.dtype))
        onnx_L = np.ascontiguousarray(L.transpose(0, 3, 1, 2))
        twin_L = torch.from_numpy(onnx_L).to(
            torch_device(), twin_dtype, memory_format=memory_format(arguments)
        )

        def ours(our_L: jax.Array = our_L) -> jax.Array:
            return jax.block_until_ready(predict(params, our_L))

        def theirs(twin_L: torch.Tensor = twin_L) -> torch.Tensor:
            with torch.no_grad():
                ab = twin(twin_L)
            synchronize()
            return ab

        def onnx(onnx_L: np.ndarray = onnx_L) -> np.ndarray:
            return session.run(None, {"L": onnx_L})[0]

        passes: dict[str, Callable] = {"ours": ours, "PyTorch": theirs}
        others = [theirs().cpu().numpy()]
        if session is not None:
            passes["ONNX Runtime"] = onnx
            others.append(onnx())
        expected = ours()
        difference = max(
            compare(expected, other.transpose(0, 2, 3, 1), arguments)
            for other in others
        )
        results.append(
            measure("forward pass", batch, passes, arguments.passes, difference)
        )
    return results


def table(results: list[Result]) -> str:
    """The results in Markdown."""
    names = [name for name in NAMES if any(name in r["seconds"] for r in results)]
    others = names[1:]
    ratios = [f"ours / {name}" for name in others]
    rows = [["", "batch", *names, *ratios, "cores busy"]]
    rows.append(["---"] * len(rows[0]))
    for result in results:
        seconds, ratio = result["seconds"], result["ratio"]
        photos = result["photos_per_second"]
        rows.append(
            [
                result["task"],
                str(result["batch"]),
                *(
                    f"{seconds[name]:.4f} s, {photos[name]:.1f}/s"
                    if name in seconds
                    else ""
                    for name in names
                ),
                *(f"{ratio[name]:.2f}" if name in ratio else "" for name in others),
                ", ".join(f"{busy:.2f}" for busy in result["busy_cores"].values()),
            ]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Compares, measures and prints the results."""
    arguments = parse_arguments()
    # By default JAX takes three quarters of a GPU's memory for itself.
    os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.45")
    prepare()

    results = [measure_training(batch, arguments) for batch in arguments.training]
    if arguments.inference:
        results += measure_inference(arguments)

    packages = ["jax", "flax", "torch"]
    if importlib.util.find_spec("onnxruntime"):
        packages.append("onnxruntime")
    machine = describe_machine(*packages)
    if arguments.json:
        print(json.dumps({**vars(arguments), **machine, "results": results}))
        return
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    print(
        f"{machine['processor']}, {machine['cores']} cores; JAX on {machine['device']}"
    )
    print(f"{versions}; {arguments.dtype}", end="")
    print(", TF32" if torch_device() == "cuda" and arguments.dtype == "float32" else "")
    print(
        f"{arguments.filters} filters, {arguments.image_size}x{arguments.image_size};"
        f" medians of {arguments.steps} training steps or {arguments.passes} forward"
        " passes of each, in turns; /s: photos per second\n"
    )
    print(table(results) if results else "Nothing to measure.")
    if torch_device() == "cpu":
        print(
            "\nWhere far fewer cores were busy than there are, other programs disturbed"
            " the measurement: repeat it."
        )


if __name__ == "__main__":
    main()
