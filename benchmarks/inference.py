"""Seconds per forward pass of the generator: ours, the PyTorch twin's, ONNX Runtime's.

    python benchmarks/inference.py --batch 1 4 16

All three have the same weights and see the same images; what they make of them is
compared first. BatchNorm is folded into the convolutions in all of them. The twin is in
channels-last memory and in inference mode. ONNX Runtime runs the twin's export, where
the packages onnxruntime, onnx and onnxscript are installed.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from timing import cores, processor, time_in_turns
from torch.nn.utils.fusion import fuse_conv_bn_eval

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch_twin

from colorgan_jax.inference import fold_batch_norm, predict_ab
from colorgan_jax.models import Generator


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 4], help="photos per pass"
    )
    parser.add_argument("--filters", type=int, default=64, help="64 is the report's")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--passes", type=int, default=15, help="timed passes of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def folded_twin(filters: int, size: int, variables: dict) -> torch_twin.Generator:
    """The twin in inference mode, with BatchNorm folded into its convolutions."""
    twin = torch_twin.Generator(filters, size)
    torch_twin.copy_from_flax(twin, variables)
    twin.eval()
    for blocks, transposed in ((twin.encoder, False), (twin.decoder, True)):
        for block in blocks:
            if isinstance(block.norm, torch.nn.BatchNorm2d):
                block.conv = fuse_conv_bn_eval(block.conv, block.norm, transposed)
                block.norm = torch.nn.Identity()
    return twin


def onnx_session(twin: torch_twin.Generator, size: int):
    """The twin in ONNX Runtime, for any batch size; None where that is not installed."""
    packages = ("onnxruntime", "onnx", "onnxscript")
    if any(importlib.util.find_spec(package) is None for package in packages):
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generator.onnx"
        torch.onnx.export(
            twin,
            (torch.zeros(2, 1, size, size),),
            path,
            input_names=["L"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
            dynamo=True,
            verbose=False,
        )
        return onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )


def main() -> None:
    """Compares the outputs, then times all and prints the results."""
    arguments = parse_arguments()
    size = arguments.image_size
    torch.set_num_threads(cores())

    generator = Generator(filters=arguments.filters, image_size=size)
    variables = jax.jit(generator.init, static_argnames="train")(
        jax.random.key(0), jnp.zeros((1, size, size, 1)), train=False
    )
    params = jax.jit(fold_batch_norm)(variables)
    predict = jax.jit(predict_ab)
    twin = folded_twin(arguments.filters, size, variables)
    session = onnx_session(twin, size)
    twin = twin.to(memory_format=torch.channels_last)

    results = []
    for batch in arguments.batch:
        L = np.random.default_rng(0).uniform(-1, 1, (batch, 1, size, size))
        L = L.astype(np.float32)
        our_L = jax.device_put(L.transpose(0, 2, 3, 1))
        twin_L = torch.from_numpy(L).contiguous(memory_format=torch.channels_last)

        # Each returns ab as [B, 2, S, S].
        def ours(our_L: jax.Array = our_L) -> np.ndarray:
            ab = jax.block_until_ready(predict(params, our_L))
            return np.asarray(ab).transpose(0, 3, 1, 2)

        def theirs(twin_L: torch.Tensor = twin_L) -> np.ndarray:
            with torch.inference_mode():
                return twin(twin_L).numpy()

        def onnx(L: np.ndarray = L) -> np.ndarray:
            return session.run(None, {"L": L})[0]

        passes: dict[str, Callable[[], np.ndarray]] = {"ours": ours, "twin": theirs}
        if session is not None:
            passes["ONNX Runtime"] = onnx
        expected = ours()
        difference = max(
            float(np.abs(run() - expected).max() / np.abs(expected).max())
            for run in passes.values()
        )
        if difference > 1e-4:
            sys.exit(f"The outputs differ by {difference:.0e}: nothing to compare.")

        timings = time_in_turns(passes, arguments.passes)
        median = {name: timing.median for name, timing in timings.items()}
        results.append(
            {
                "batch": batch,
                "seconds": median,
                "ratio": {
                    name: median["ours"] / median[name]
                    for name in median
                    if name != "ours"
                },
                "relative_difference_of_outputs": difference,
                "busy_cores": {name: t.busy_cores for name, t in timings.items()},
                "all_seconds": {name: t.seconds for name, t in timings.items()},
            }
        )

    versions = {
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }
    if session is not None:
        versions["onnxruntime"] = importlib.metadata.version("onnxruntime")
    machine = {
        "processor": processor(),
        "cores": cores(),
        "backend": jax.default_backend(),
        "versions": versions,
    }
    sizes = {"filters": arguments.filters, "image_size": size}
    if arguments.json:
        print(json.dumps({**sizes, **machine, "results": results}))
        return
    print(f"{machine['processor']}, {cores()} cores, JAX on {machine['backend']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(
        f"generator, forward, {arguments.filters} filters, {size}x{size}: median of"
        f" {arguments.passes} passes in turns"
    )
    for result in results:
        print(f"batch {result['batch']}:")
        for name, seconds in result["seconds"].items():
            ratio = result["ratio"].get(name)
            print(
                f"  {name:12} {seconds:.3f} s, {result['busy_cores'][name]:.2f} cores busy"
                + (f", ours / {name} {ratio:.2f}" if ratio else "")
            )
    print(
        "Where fewer cores were busy than there are, other programs disturbed the"
        " measurement: repeat it."
    )


if __name__ == "__main__":
    main()
