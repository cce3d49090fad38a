"""The PatchGAN discriminator of the report.

Images are `[batch, height, width, channels]`, scaled as by `lab.to_network`. Filter counts
and strides follow pix2pix (Isola et al. 2017, "Image-to-Image Translation with Conditional
Adversarial Networks", appendix 6.1).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from colorgan_jax.networks.layers import (
    BatchNorm,
    DownConv,
    StrideOneConv,
    leaky_relu,
)


class Discriminator(nn.Module):
    """PatchGAN: one real-or-generated logit for each 70x70 patch (report, section 2.2).

    Four blocks of convolution, BatchNorm (not in the first) and LeakyReLU, strides 2, 2,
    2, 1, then one convolution of stride 1 down to one channel. All are 4x4 and pad by 1.
    A convolution that BatchNorm follows has no bias: BatchNorm would subtract it again.

    Attributes:
      filters: output channels of the first block, doubled by each further one.
      halvings: how many blocks of stride 2 come before the one of stride 1. The report has
        3; with 2 the patches have 34x34 pixels, with 1 they have 16x16.
      dtype: type to compute in. Parameters, statistics of BatchNorm and the result are
        float32 whatever it is.
    """

    filters: int = 64
    halvings: int = 3
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        L: Float[Array | np.ndarray, "B H W 1"],
        ab: Float[Array | np.ndarray, "B H W 2"],
        *,
        train: bool,
    ) -> Float[Array, "B H//2**{self.halvings}-2 W//2**{self.halvings}-2 1"]:
        """Logits of ab, given L."""
        x = jnp.concatenate([L, ab], axis=-1)
        blocks = [DownConv] * self.halvings + [StrideOneConv]
        for block, Conv in enumerate(blocks, start=1):
            norm = block > 1
            features = self.filters * 2 ** (block - 1)
            x = Conv(
                features, use_bias=not norm, dtype=self.dtype, name=f"conv_{block}"
            )(x)
            if norm:
                x = BatchNorm(
                    use_running_average=not train,
                    dtype=self.dtype,
                    name=f"norm_{block}",
                )(x)
            x = leaky_relu(x)
        logits = StrideOneConv(1, dtype=self.dtype, name=f"conv_{len(blocks) + 1}")(x)
        return logits.astype(jnp.float32)
