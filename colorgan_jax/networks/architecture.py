"""What a generator is made of, read off its parameters.

Without Flax, whose import takes a tenth of the time that colorizing one photo takes.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from colorgan_jax.errors import ParamsError
from colorgan_jax.networks import efficientnet

BATCH_NORM_EPSILON = 1e-5

ENCODERS = ("unet", "efficientnet")


def unet_depth(image_size: int) -> int:
    """Number of encoder (and of decoder) blocks between an image and one pixel.

    Args:
      image_size: height and width that the network sees; a power of two, 8 or more.

    Raises:
      ValueError: if it is not.
    """
    depth = int(math.log2(image_size)) if image_size > 0 else 0
    if image_size < 8 or 2**depth != image_size:
        raise ValueError(
            f"image_size is {image_size}: it must be a power of two, 8 or more, since the"
            " U-Net halves it down to one pixel."
        )
    return depth


def check_encoder(encoder: str, image_size: int, frozen_blocks: int) -> None:
    """Refuses what a `Generator` cannot be.

    Raises:
      ValueError: one sentence that begins with the name of the attribute at fault.
    """
    if encoder not in ENCODERS:
        raise ValueError(f"encoder is {encoder}: it must be {' or '.join(ENCODERS)}.")
    most = len(efficientnet.BLOCKS) if encoder == "efficientnet" else 0
    if image_size < 2**most:
        raise ValueError(
            f"image_size is {image_size}: with the encoder {encoder} it must be"
            f" {2**most} or more."
        )
    if not 0 <= frozen_blocks <= most:
        raise ValueError(
            f"frozen_blocks is {frozen_blocks}: with the encoder {encoder} it must be"
            f" {f'from 0 to {most}' if most else 0}."
        )


def is_efficientnet_block(encoder: str, block: int) -> bool:
    """Whether a block of the encoder, counted from 1, is one of EfficientNet's."""
    return encoder == "efficientnet" and block <= len(efficientnet.BLOCKS)


def block_widths(filters: int, depth: int, maximum: int | None = None) -> list[int]:
    """Output channels of the encoder blocks: doubling from `filters` up to `maximum`.

    By default the maximum is 8 times `filters`, as in pix2pix.
    """
    return [min(filters * 2**block, maximum or 8 * filters) for block in range(depth)]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the layers of a generator follow from: attributes of `generator.Generator`."""

    filters: int
    maximum_filters: int | None
    image_size: int
    encoder: str

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Architecture":
        """The one that has these parameters, by their names and shapes.

        Args:
          params: folded parameters, as laid out at the top of `params`.

        Raises:
          ParamsError: if they are anything else; it names the first layer that is wrong.
        """
        if "batch_stats" in params or "params" in params:
            raise ParamsError(
                "These are the variables of a Generator; pass them through"
                " fold_batch_norm first."
            )
        is_efficientnet = any(name.startswith("bottleneck_") for name in params)
        encoders = sum(name.startswith("encoder_") for name in params)
        depth = encoders + (len(efficientnet.BLOCKS) if is_efficientnet else 0)
        if depth < 3:
            raise ParamsError(
                f"These are not the parameters of a generator: no encoder_{depth + 1}."
            )
        widths = {
            name: _bias_size(layer)
            for name, layer in params.items()
            if name.startswith(("encoder_", "decoder_"))
        }
        architecture = cls(
            filters=widths.get(f"decoder_{depth - 1}", 0),
            maximum_filters=max(widths.values()),
            image_size=2**depth,
            encoder="efficientnet" if is_efficientnet else "unet",
        )
        _check_layers(params, architecture)
        return architecture

    def layer_shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The parameters of the folded generator, as its `init` would make them.

        Returns:
          Layer -> "kernel" or "bias" -> shape, the encoder's layers first.
        """
        depth = unet_depth(self.image_size)
        widths = block_widths(self.filters, depth, self.maximum_filters)
        kernels: dict[str, tuple[int, ...]] = {}
        features = [1]  # channels of L, and of the output of each block of the encoder
        for block, width in enumerate(widths, start=1):
            if is_efficientnet_block(self.encoder, block):
                kernels |= efficientnet.kernel_shapes(block)
                width = efficientnet.BLOCKS[block - 1][-1].outputs
            else:
                kernels[f"encoder_{block}"] = (4, 4, features[-1], width)
            features.append(width)
        inputs = features.pop()
        for block, width in enumerate([*widths[-2::-1], 2], start=1):
            kernels[f"decoder_{block}"] = (4, 4, width, inputs)
            inputs = width + features.pop()
        return {
            name: {
                "kernel": shape,
                "bias": (shape[2] if name.startswith("decoder_") else shape[3],),
            }
            for name, shape in kernels.items()
        }


def _bias_size(layer: Mapping[str, Any]) -> int:
    """Output channels of a layer, 0 where its parameters do not tell."""
    shape = np.shape(layer["bias"]) if "bias" in layer else ()
    return shape[0] if shape else 0


def _check_layers(params: Mapping[str, Any], architecture: Architecture) -> None:
    """Refuses parameters that are not those of a folded generator."""
    expected = architecture.layer_shapes()
    if unknown := sorted(set(params) - set(expected)):
        depth = unet_depth(architecture.image_size)
        raise ParamsError(f"A generator of depth {depth} has no layer {unknown[0]}.")
    for name, arrays in expected.items():
        for array in arrays:
            if array not in params.get(name, {}):
                raise ParamsError(f"The parameters lack {name}.{array}.")
    for name, arrays in expected.items():
        for array, shape in arrays.items():
            actual = np.shape(params[name][array])
            if actual != shape:
                raise ParamsError(
                    f"{name}.{array} has shape {actual} instead of {shape}."
                )
