"""The U-Net generator of the report.

Images are `[batch, height, width, channels]`, scaled as by `lab.to_network`: L in
[-1, 1] with one channel, ab in [-1, 1] with two. Filter counts, strides and the choices
that the report leaves open follow pix2pix (Isola et al. 2017, "Image-to-Image Translation
with Conditional Adversarial Networks", appendix 6.1).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from colorgan_jax.networks import efficientnet
from colorgan_jax.networks.architecture import (
    Architecture,
    block_widths,
    check_encoder,
    is_efficientnet_block,
    unet_depth,
)
from colorgan_jax.networks.layers import BatchNorm, DownConv, UpConv, leaky_relu

DROPOUT_BLOCKS = 3


class _Block(nn.Module):
    """What the blocks of the encoder and of the decoder share.

    Attributes:
      features: output channels.
      norm: whether BatchNorm follows the convolution, which then has no bias: BatchNorm
        would subtract it again.
      folded: whether BatchNorm is folded into the convolution. The convolution then has a
        bias, and its parameters are the block's own: {"kernel", "bias"}.
      dtype: as of `Generator`.
    """

    features: int
    norm: bool = True
    folded: bool = False
    dtype: DTypeLike = jnp.float32

    def convolve(self, Conv: type[nn.Module], x: jax.Array, train: bool) -> jax.Array:
        norm = self.norm and not self.folded
        conv = Conv(self.features, use_bias=not norm, dtype=self.dtype, name="conv")
        if self.folded:
            nn.share_scope(self, conv)
        x = conv(x)
        if norm:
            x = BatchNorm(use_running_average=not train, dtype=self.dtype, name="norm")(
                x
            )
        return x


class EncoderBlock(_Block):
    """Halves the image: convolution, BatchNorm (report, section 2.1)."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W _"], *, train: bool
    ) -> Float[Array, "B H//2 W//2 {self.features}"]:
        """Without an activation, which comes with what takes the result."""
        return self.convolve(DownConv, x, train)


class EfficientNetBlock(nn.Module):
    """One of EfficientNet-Lite0's parts in the encoder: halves the image.

    Attributes:
      block: which one, counted from 1.
      dtype: as of `Generator`.
    """

    block: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W _"]) -> Float[Array, "B H//2 W//2 _"]:
        """Layers as on ImageNet, but for the first: it takes L (`weights.efficientnet`)."""

        def new_layer(key, shape):
            kernel = nn.initializers.he_normal()(key, shape)
            return {"kernel": kernel, "bias": jnp.zeros(shape[-1])}

        layers = {
            name: self.param(name, new_layer, shape)
            for name, shape in efficientnet.kernel_shapes(self.block).items()
        }
        x, layers = jax.tree.map(lambda array: array.astype(self.dtype), (x, layers))
        return efficientnet.encode(self.block, layers, x)


class DecoderBlock(_Block):
    """Doubles the image: ReLU, transposed convolution, BatchNorm, dropout.

    What comes over the skip connection, if anything, joins after the ReLU.

    Attributes:
      dropout: rate while training.
    """

    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B H W _"],
        skip: Float[Array, "B H W _"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "B 2*H 2*W {self.features}"]:
        """The result is before its activation; `skip` is after."""
        x = nn.relu(x)
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        x = self.convolve(UpConv, x, train)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Generator(nn.Module):
    """U-Net from lightness to color (report, section 2.1 and figure 2).

    `depth = log2(image_size)` encoder blocks take the image down to one pixel; as many
    decoder blocks take it back up, each but the first fed with the output of the encoder
    block of its own resolution beside that of the decoder block before it.

    Beyond the report, the outer five encoder blocks may be EfficientNet-Lite0's, which can
    start from what they learned on ImageNet (`weights.efficientnet`).

    The one generator in code: training, inference and export build it. `from_params` makes
    the one that folded parameters are of (see `params`).

    Attributes:
      filters: output channels of the first encoder block; the report's size is 64.
      maximum_filters: those of the widest blocks; by default 8 times `filters`. Neither
        changes EfficientNet's blocks.
      image_size: height and width of the input, a power of two.
      dropout: rate in the three innermost decoder blocks while training; it is the
        "random noise" of the report, as in pix2pix.
      encoder: "unet", the report's, or "efficientnet", which takes 32x32 pixels or more.
      frozen_blocks: how many of EfficientNet's blocks, from the outermost, training
        leaves as they are.
      folded: whether BatchNorm is folded into the convolutions. "params" is then laid
        out as at the top of `params`, and training differs from inference by dropout
        alone.
      dtype: type to compute in. Parameters, statistics of BatchNorm and the result are
        float32 whatever it is.
    """

    filters: int = 64
    maximum_filters: int | None = None
    image_size: int = 256
    dropout: float = 0.5
    encoder: str = "unet"
    frozen_blocks: int = 0
    folded: bool = False
    dtype: DTypeLike = jnp.float32

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Generator":
        """The folded generator that has these parameters.

        Its architecture is read off their names and shapes. In inference:

            generator = Generator.from_params(params)
            ab = generator.apply({"params": params}, L, train=False)

        Args:
          params: folded parameters, as laid out at the top of `params`.

        Raises:
          ParamsError: if they are anything else; it names the first layer that is wrong.
        """
        architecture = Architecture.from_params(params)
        return cls(**dataclasses.asdict(architecture), folded=True)

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """Names in "params" of what training leaves as it is."""
        blocks = range(1, self.frozen_blocks + 1)
        if self.folded:  # EfficientNet's layers then stand by themselves.
            return tuple(
                layer for block in blocks for layer in efficientnet.kernel_shapes(block)
            )
        return tuple(f"encoder_{block}" for block in blocks)

    def setup(self) -> None:
        """Builds the blocks, as Flax asks it to."""
        depth = unet_depth(self.image_size)
        check_encoder(self.encoder, self.image_size, self.frozen_blocks)
        widths = block_widths(self.filters, depth, self.maximum_filters)
        shared = {"folded": self.folded, "dtype": self.dtype}
        self.encoder_blocks = [
            EfficientNetBlock(block, dtype=self.dtype, name=f"encoder_{block}")
            if is_efficientnet_block(self.encoder, block)
            else EncoderBlock(width, norm=block > 1, name=f"encoder_{block}", **shared)
            for block, width in enumerate(widths, start=1)
        ]
        if self.folded:
            for block in self.encoder_blocks:
                if isinstance(block, EfficientNetBlock):
                    nn.share_scope(self, block)
        dropout_blocks = min(DROPOUT_BLOCKS, depth - 1)
        self.decoder_blocks = [
            DecoderBlock(
                width,
                norm=block < depth,
                dropout=self.dropout if block <= dropout_blocks else 0.0,
                name=f"decoder_{block}",
                **shared,
            )
            for block, width in enumerate([*widths[-2::-1], 2], start=1)
        ]

    def __call__(
        self, L: Float[Array | np.ndarray, "B S S 1"], *, train: bool
    ) -> Float[Array, "B S S 2"]:
        """Predicts ab in [-1, 1] from L in [-1, 1].

        With `train=True` it uses the statistics of the batch, updates the running ones
        (collection "batch_stats"), and draws dropout from the random stream "dropout".
        """
        return self.decode(self.encode(L, train=train), train=train)

    def encode(
        self, L: Float[Array | np.ndarray, "B S S 1"], *, train: bool
    ) -> list[Float[Array, "B _ _ _"]]:
        """The features of L: the output of each encoder block, the outermost first.

        Block k, counted from 1, gives `[B, S / 2**k, S / 2**k, C]`, before its activation.
        """
        features = []
        x = jnp.asarray(L)
        for block in self.encoder_blocks:
            if isinstance(block, EfficientNetBlock):
                x = block(x)
            else:
                x = block(leaky_relu(x) if features else x, train=train)
            features.append(x)
        return features

    def decode(
        self, features: Sequence[Float[Array, "B _ _ _"]], *, train: bool
    ) -> Float[Array, "B S S 2"]:
        """Predicts ab in [-1, 1] from the features that `encode` gives."""
        *outer, x = features
        skips = [
            # EfficientNet's features are signed, and so are what its own layers take.
            feature if is_efficientnet_block(self.encoder, number) else nn.relu(feature)
            for number, feature in enumerate(outer, start=1)
        ]
        for block, skip in zip(self.decoder_blocks, [None, *skips[::-1]], strict=True):
            x = block(x, skip, train=train)
        return jnp.tanh(x.astype(jnp.float32))
