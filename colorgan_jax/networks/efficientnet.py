"""EfficientNet-Lite0 without its head: the outer five blocks of a generator's encoder.

A network that recognizes objects (Tan and Le 2019, "EfficientNet: Rethinking Model Scaling
for Convolutional Neural Networks"; the Lite versions have ReLU6 in place of swish, and no
squeeze-and-excitation). A first convolution, the stem, is followed by a chain of
bottlenecks (Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks"):
a convolution 1x1 to more channels, one within each channel, and one 1x1 to few channels.
BatchNorm is folded into the convolutions.

The layers of a block of the encoder are {name: {"kernel": [K, K, I, O], "bias": [O]}}; the
kernel of a convolution within each channel is [K, K, 1, O].
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from colorgan_jax.networks.convolutions import conv_depthwise, conv_same

STEM = "stem"
STEM_FEATURES = 32


class Bottleneck(NamedTuple):
    """Expands `inputs` channels, filters each of them, and projects them to `outputs`.

    Where neither the size nor the number of channels changes, the input is added.
    """

    name: str
    inputs: int
    expansion: int  # 1: no layer "expand".
    size: int  # Of the kernel within each channel.
    stride: int
    outputs: int

    @property
    def expand(self) -> str:
        """Name of the layer that widens; the first bottleneck has none."""
        return f"{self.name}_expand"

    @property
    def depthwise(self) -> str:
        """Name of the layer within each channel."""
        return f"{self.name}_depthwise"

    @property
    def project(self) -> str:
        """Name of the layer that narrows."""
        return f"{self.name}_project"

    @property
    def is_residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inputs == self.outputs


def _bottlenecks() -> tuple[tuple[Bottleneck, ...], ...]:
    """The 16 bottlenecks, by the block of the encoder that they are in."""
    blocks = [[]]
    inputs = STEM_FEATURES
    number = 0
    for expansion, size, stride, outputs, repeats in (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ):
        for _ in range(repeats):
            number += 1
            if stride == 2:
                blocks.append([])
            name = f"bottleneck_{number}"
            blocks[-1].append(
                Bottleneck(name, inputs, expansion, size, stride, outputs)
            )
            inputs, stride = outputs, 1
    return tuple(tuple(block) for block in blocks)


# Each block of the encoder halves the image. The first one begins with the stem.
BLOCKS = _bottlenecks()


def kernel_shapes(block: int) -> dict[str, tuple[int, int, int, int]]:
    """The layers of an encoder's block, counted from 1, with the shapes of their kernels."""
    shapes = {STEM: (3, 3, 1, STEM_FEATURES)} if block == 1 else {}
    for bottleneck in BLOCKS[block - 1]:
        inputs, size = bottleneck.inputs, bottleneck.size
        features = bottleneck.expansion * inputs
        if bottleneck.expansion > 1:
            shapes[bottleneck.expand] = (1, 1, inputs, features)
        shapes[bottleneck.depthwise] = (size, size, 1, features)
        shapes[bottleneck.project] = (1, 1, features, bottleneck.outputs)
    return shapes


def encode(
    block: int, layers: Mapping[str, Mapping[str, jax.Array]], x: jax.Array
) -> jax.Array:
    """What one block of the encoder makes of the output of the one before.

    Args:
      block: which one, counted from 1.
      layers: at least those of `kernel_shapes(block)`, of the same type as `x`.
      x: `[B, H, W, C]`, H and W even; for the first block lightness, C = 1.

    Returns:
      `[B, H/2, W/2, O]`, positive and negative: projections have no ReLU.
    """

    def apply(convolve, name: str, x: jax.Array, **options) -> jax.Array:
        layer = layers[name]
        return convolve(x, layer["kernel"], **options) + layer["bias"]

    if block == 1:
        x = jax.nn.relu6(apply(conv_same, STEM, x, stride=2))
    for bottleneck in BLOCKS[block - 1]:
        features = x
        if bottleneck.expansion > 1:
            features = jax.nn.relu6(apply(conv_same, bottleneck.expand, x))
        features = jax.nn.relu6(
            apply(
                conv_depthwise, bottleneck.depthwise, features, stride=bottleneck.stride
            )
        )
        features = apply(conv_same, bottleneck.project, features)
        x = x + features if bottleneck.is_residual else features
    return x
