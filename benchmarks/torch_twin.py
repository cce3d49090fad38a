"""The same GAN in PyTorch: what tests compare with and benchmarks measure against.

Written from pix2pix (Isola et al. 2017, and its PyTorch code), not from the Flax modules:
the two agree only where both are right. Images are `[batch, channels, height, width]`
here, as PyTorch has them; the entry points take and return numpy arrays in the Flax
layout.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch import nn
from torch.nn import functional

LEAKY_SLOPE = 0.2


def _norm(features: int) -> nn.BatchNorm2d:
    # PyTorch's momentum is the share of the new value: 0.1 is Flax's 0.9.
    return nn.BatchNorm2d(features, eps=1e-5, momentum=0.1)


class Block(nn.Module):
    """One convolution, then BatchNorm and dropout where the block has them."""

    def __init__(
        self, conv: nn.Module, features: int, *, norm: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = _norm(features) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the convolution, then BatchNorm, then dropout."""
        return self.dropout(self.norm(self.conv(x)))


class Generator(nn.Module):
    """pix2pix's U-Net: L `[B, 1, S, S]` -> ab `[B, 2, S, S]`, both in [-1, 1]."""

    def __init__(self, filters: int, image_size: int, dropout: float = 0.5) -> None:
        super().__init__()
        depth = image_size.bit_length() - 1
        widths = [filters * min(2**k, 8) for k in range(depth)]
        self.encoder = nn.ModuleList()
        channels = 1
        for k, width in enumerate(widths):
            conv = nn.Conv2d(channels, width, 4, 2, 1, bias=k == 0)
            self.encoder.append(Block(conv, width, norm=k > 0))
            channels = width
        self.decoder = nn.ModuleList()
        for k, width in enumerate([*reversed(widths[:-1]), 2]):
            last = k == depth - 1
            conv = nn.ConvTranspose2d(channels, width, 4, 2, 1, bias=last)
            rate = dropout if k < min(3, depth - 1) else 0.0
            self.decoder.append(Block(conv, width, norm=not last, dropout=rate))
            channels = 2 * width

    def forward(self, L: torch.Tensor) -> torch.Tensor:
        """Predicts ab from L."""
        x = L
        skips = []
        for k, block in enumerate(self.encoder):
            x = block(functional.leaky_relu(x, LEAKY_SLOPE) if k else x)
            skips.append(x)
        x = skips.pop()
        for k, block in enumerate(self.decoder):
            if k:
                x = torch.cat([x, skips.pop()], dim=1)
            x = block(functional.relu(x))
        return torch.tanh(x.float())


class Discriminator(nn.Module):
    """pix2pix's 70x70 PatchGAN: [L, ab] `[B, 3, S, S]` -> logits `[B, 1, S/8-2, S/8-2]`."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList()
        channels = 3
        for k, stride in enumerate([2, 2, 2, 1]):
            width = filters * 2**k
            conv = nn.Conv2d(channels, width, 4, stride, 1, bias=k == 0)
            self.blocks.append(Block(conv, width, norm=k > 0))
            channels = width
        self.last = nn.Conv2d(channels, 1, 4, 1, 1)

    def forward(self, L: torch.Tensor, ab: torch.Tensor) -> torch.Tensor:
        """Judges each patch: its logit is above 0 where it looks real."""
        x = torch.cat([L, ab], dim=1)
        for block in self.blocks:
            x = functional.leaky_relu(block(x), LEAKY_SLOPE)
        return self.last(x).float()


class Trainer:
    """Both networks with their Adam optimizers, and pix2pix's training step.

    With another `dtype` than float32 the networks compute in it where PyTorch's autocast
    finds that safe; parameters, losses and results stay float32.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        *,
        channels_last: bool = False,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.generator, self.discriminator = (
            network.to(device, memory_format=self.memory_format).train()
            for network in (generator, discriminator)
        )
        self.generator_optimizer, self.discriminator_optimizer = (
            # Fused is a tenth off the time of the whole step on a CPU.
            torch.optim.Adam(network.parameters(), 2e-4, betas=(0.5, 0.999), fused=True)
            for network in (self.generator, self.discriminator)
        )

    def to_torch(self, images: np.ndarray) -> torch.Tensor:
        """`[B, H, W, C]` numpy -> `[B, C, H, W]` on this trainer's device, in its format."""
        images = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
        return images.to(self.device).contiguous(memory_format=self.memory_format)

    def run(self, network: nn.Module, *images: torch.Tensor) -> torch.Tensor:
        """A network's result, computed in this trainer's type."""
        enabled = self.dtype != torch.float32
        with torch.autocast(self.device, self.dtype, enabled=enabled):
            return network(*images)

    def train_step(self, L: torch.Tensor, ab: torch.Tensor) -> dict[str, torch.Tensor]:
        """Discriminator first, then the generator against the updated discriminator."""
        bce = functional.binary_cross_entropy_with_logits
        generated = self.run(self.generator, L)

        self.discriminator.requires_grad_(True)
        self.discriminator_optimizer.zero_grad()
        on_generated = self.run(self.discriminator, L, generated.detach())
        on_real = self.run(self.discriminator, L, ab)
        discriminator_loss = (
            bce(on_generated, torch.zeros_like(on_generated))
            + bce(on_real, torch.ones_like(on_real))
        ) / 2
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        # As pix2pix does: no gradient for the discriminator's own parameters here.
        self.discriminator.requires_grad_(False)
        self.generator_optimizer.zero_grad()
        logits = self.run(self.discriminator, L, generated)
        adversarial_loss = bce(logits, torch.ones_like(logits))
        l1_loss = functional.l1_loss(generated, ab)
        generator_loss = adversarial_loss + 100.0 * l1_loss
        generator_loss.backward()
        self.generator_optimizer.step()
        return {
            "discriminator_loss": discriminator_loss.detach(),
            "generator_loss": generator_loss.detach(),
            "adversarial_loss": adversarial_loss.detach(),
            "l1_loss": l1_loss.detach(),
        }


def _modules_by_flax_path(network: nn.Module) -> dict[tuple[str, ...], nn.Module]:
    """The PyTorch modules by the paths of the Flax modules that they stand for."""
    if isinstance(network, Discriminator):
        modules = {("conv_5",): network.last}
        for k, block in enumerate(network.blocks, start=1):
            modules[(f"conv_{k}",)] = block.conv
            modules[(f"norm_{k}",)] = block.norm
        return modules
    return {
        (f"{part}_{k}", name): getattr(block, name)
        for part in ("encoder", "decoder")
        for k, block in enumerate(getattr(network, part), start=1)
        for name in ("conv", "norm")
    }


def _tensors_by_flax_path(network: nn.Module) -> dict[tuple[str, ...], torch.Tensor]:
    """Parameters and running statistics by their paths in Flax variables."""
    tensors = {}
    for path, module in _modules_by_flax_path(network).items():
        if isinstance(module, nn.BatchNorm2d):
            tensors[("params", *path, "scale")] = module.weight
            tensors[("params", *path, "bias")] = module.bias
            tensors[("batch_stats", *path, "mean")] = module.running_mean
            tensors[("batch_stats", *path, "var")] = module.running_var
        elif not isinstance(module, nn.Identity):
            tensors[("params", *path, "kernel")] = module.weight
            if module.bias is not None:
                tensors[("params", *path, "bias")] = module.bias
    return tensors


def _flax_layout(tensor: torch.Tensor) -> torch.Tensor:
    """Kernels from `[O, I, 4, 4]`, transposed convolutions `[I, O, 4, 4]`, to Flax's."""
    return tensor.permute(2, 3, 1, 0) if tensor.ndim == 4 else tensor


def _torch_layout(array: torch.Tensor) -> torch.Tensor:
    return array.permute(3, 2, 0, 1) if array.ndim == 4 else array


def copy_from_flax(network: nn.Module, variables: Mapping[str, Any]) -> None:
    """Copies Flax variables (`params` and `batch_stats`) into a network of this module.

    Raises:
      ValueError: if the two do not have the same parameters with the same shapes.
    """
    arrays = flatten_dict(variables)
    tensors = _tensors_by_flax_path(network)
    if arrays.keys() != tensors.keys():
        raise ValueError(f"not in both: {sorted(arrays.keys() ^ tensors.keys())}")
    with torch.no_grad():
        for path, tensor in tensors.items():
            array = _torch_layout(torch.from_numpy(np.array(arrays[path])))
            if array.shape != tensor.shape:
                raise ValueError(f"{path}: {array.shape} is not {tensor.shape}")
            tensor.copy_(array)


def to_flax(network: nn.Module) -> dict[str, Any]:
    """The network's parameters and running statistics as Flax variables of numpy arrays."""
    return unflatten_dict(
        {
            path: _flax_layout(tensor.detach()).numpy().copy()
            for path, tensor in _tensors_by_flax_path(network).items()
        }
    )


def gradients_to_flax(network: nn.Module) -> dict[str, Any]:
    """The gradients that the last backward pass left behind, as Flax `params`."""
    return unflatten_dict(
        {
            path[1:]: _flax_layout(tensor.grad).numpy().copy()
            for path, tensor in _tensors_by_flax_path(network).items()
            if path[0] == "params"
        }
    )
