"""The two networks of the report: a U-Net generator and a PatchGAN discriminator.

Images are `[batch, height, width, channels]`, scaled as by `lab.to_network`: L in
[-1, 1] with one channel, ab in [-1, 1] with two. Filter counts, strides and the choices
that the report leaves open follow pix2pix (Isola et al. 2017, "Image-to-Image Translation
with Conditional Adversarial Networks", appendix 6.1).

A convolution that BatchNorm follows has no bias: BatchNorm would subtract it again.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from colorgan_jax.networks import efficientnet
from colorgan_jax.networks.convolutions import DownConv, StrideOneConv, UpConv

BATCH_NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.2
DROPOUT_BLOCKS = 3

ENCODERS = ("unet", "efficientnet")


def _scale_init(key, shape, dtype=jnp.float32):
    return 1.0 + 0.02 * jax.random.normal(key, shape, dtype)


# Over the global batch: under `jit` a mean over a sharded axis spans all devices.
_BatchNorm = partial(
    nn.BatchNorm, momentum=0.9, epsilon=BATCH_NORM_EPSILON, scale_init=_scale_init
)


def leaky_relu(x: jax.Array) -> jax.Array:
    """LeakyReLU with the report's slope of 0.2."""
    return nn.leaky_relu(x, LEAKY_SLOPE)


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


def block_widths(filters: int, depth: int, maximum: int = 0) -> list[int]:
    """Output channels of the encoder blocks: doubling from `filters` up to `maximum`.

    A maximum of 0 means 8 times `filters`, as in pix2pix.
    """
    return [min(filters * 2**block, maximum or 8 * filters) for block in range(depth)]


class EncoderBlock(nn.Module):
    """Halves the image: convolution, BatchNorm (report, section 2.1)."""

    features: int
    norm: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = DownConv(
            self.features, use_bias=not self.norm, dtype=self.dtype, name="conv"
        )(x)
        if self.norm:
            x = _BatchNorm(
                use_running_average=not train, dtype=self.dtype, name="norm"
            )(x)
        return x


class EfficientNetBlock(nn.Module):
    """One of EfficientNet-Lite0's parts in the encoder: halves the image.

    Attributes:
      block: which one, counted from 1.
      dtype: as of `Generator`.
    """

    block: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def new_layer(key, shape):
            kernel = nn.initializers.he_normal()(key, shape)
            return {"kernel": kernel, "bias": jnp.zeros(shape[-1])}

        layers = {
            name: self.param(name, new_layer, shape)
            for name, shape in efficientnet.kernel_shapes(self.block).items()
        }
        x, layers = jax.tree.map(lambda array: array.astype(self.dtype), (x, layers))
        return efficientnet.encode(self.block, layers, x)


class DecoderBlock(nn.Module):
    """Doubles the image: ReLU, transposed convolution, BatchNorm, dropout.

    What comes over the skip connection, if anything, joins after the ReLU.
    """

    features: int
    norm: bool = True
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, skip: jax.Array | None = None, *, train: bool
    ) -> jax.Array:
        x = nn.relu(x)
        if skip is not None:
            x = jnp.concatenate([x, skip], axis=-1)
        x = UpConv(
            self.features, use_bias=not self.norm, dtype=self.dtype, name="conv"
        )(x)
        if self.norm:
            x = _BatchNorm(
                use_running_average=not train, dtype=self.dtype, name="norm"
            )(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


class Generator(nn.Module):
    """U-Net from lightness to color (report, section 2.1 and figure 2).

    `depth = log2(image_size)` encoder blocks take the image down to one pixel; as many
    decoder blocks take it back up, each but the first fed with the output of the encoder
    block of its own resolution beside that of the decoder block before it.

    Beyond the report, the outer five encoder blocks may be EfficientNet-Lite0's, which can
    start from what they learned on ImageNet (`pretrained.efficientnet_encoder`).

    Attributes:
      filters: output channels of the first encoder block; the report's size is 64.
      maximum_filters: those of the widest blocks; 0 means 8 times `filters`. Neither
        changes EfficientNet's blocks.
      image_size: height and width of the input, a power of two.
      dropout: rate in the three innermost decoder blocks while training; it is the
        "random noise" of the report, as in pix2pix.
      encoder: "unet", the report's, or "efficientnet", which takes 32x32 pixels or more.
      frozen_blocks: how many of EfficientNet's blocks, from the outermost, training
        leaves as they are (see `gan.create_state`).
      dtype: type to compute in. Parameters, statistics of BatchNorm and the result are
        float32 whatever it is.
    """

    filters: int = 64
    maximum_filters: int = 0
    image_size: int = 256
    dropout: float = 0.5
    encoder: str = "unet"
    frozen_blocks: int = 0
    dtype: jnp.dtype = jnp.float32

    @property
    def frozen_layers(self) -> tuple[str, ...]:
        """Names of the blocks that training leaves as they are."""
        return tuple(f"encoder_{block}" for block in range(1, self.frozen_blocks + 1))

    @nn.compact
    def __call__(self, L: jax.Array, *, train: bool) -> jax.Array:
        """Predicts ab `[B, S, S, 2]` in [-1, 1] from L `[B, S, S, 1]` in [-1, 1].

        With `train=True` it uses the statistics of the batch, updates the running ones
        (collection "batch_stats"), and draws dropout from the random stream "dropout".
        """
        depth = unet_depth(self.image_size)
        check_encoder(self.encoder, self.image_size, self.frozen_blocks)
        widths = block_widths(self.filters, depth, self.maximum_filters)
        is_efficientnet = self.encoder == "efficientnet"
        skips = []
        x = L
        for block, width in enumerate(widths, start=1):
            name = f"encoder_{block}"
            if is_efficientnet and block <= len(efficientnet.BLOCKS):
                x = EfficientNetBlock(block, dtype=self.dtype, name=name)(x)
                skips.append(x)
            else:
                if block > 1:
                    x = leaky_relu(x)
                x = EncoderBlock(width, norm=block > 1, dtype=self.dtype, name=name)(
                    x, train=train
                )
                skips.append(nn.relu(x))

        skips[-1] = None  # The innermost output is no skip, but the decoder's input.
        for block, width in enumerate([*widths[-2::-1], 2], start=1):
            x = DecoderBlock(
                width,
                norm=block < depth,
                dropout=self.dropout
                if block <= min(DROPOUT_BLOCKS, depth - 1)
                else 0.0,
                dtype=self.dtype,
                name=f"decoder_{block}",
            )(x, skips.pop(), train=train)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """PatchGAN: one real-or-generated logit for each 70x70 patch (report, section 2.2).

    Four blocks of convolution, BatchNorm (not in the first) and LeakyReLU, strides 2, 2,
    2, 1, then one convolution of stride 1 down to one channel. All are 4x4 and pad by 1.

    Attributes:
      filters: output channels of the first block, doubled by each further one.
      dtype: as of `Generator`.
    """

    filters: int = 64
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, L: jax.Array, ab: jax.Array, *, train: bool) -> jax.Array:
        """Logits `[B, H/8-2, W/8-2, 1]` of ab `[B, H, W, 2]` given L `[B, H, W, 1]`."""
        x = jnp.concatenate([L, ab], axis=-1)
        for block, Conv in enumerate(
            [DownConv, DownConv, DownConv, StrideOneConv], start=1
        ):
            norm = block > 1
            features = self.filters * 2 ** (block - 1)
            x = Conv(
                features, use_bias=not norm, dtype=self.dtype, name=f"conv_{block}"
            )(x)
            if norm:
                x = _BatchNorm(
                    use_running_average=not train,
                    dtype=self.dtype,
                    name=f"norm_{block}",
                )(x)
            x = leaky_relu(x)
        logits = StrideOneConv(1, dtype=self.dtype, name="conv_5")(x)
        return logits.astype(jnp.float32)
