"""Makes the files in tests/golden: what the same networks written in PyTorch compute.

    pip install torch==2.13.0
    python tests/make_golden.py

gan.npz is of one training step of the GAN. test_golden.py compares our networks and our
training step with it, without PyTorch. The file holds, under the names and in the layouts of
Flax:

    images/         a batch of random L and ab
    before/         random parameters and running statistics of both networks
    train/, eval/   outputs with the statistics of the batch, and with the running ones
    step/           one training step: its losses, the gradients and their norms, the changes
                    of the parameters, and the running statistics after it

The first two are float16, exactly. To keep the file small, gradients and changes of kernels
are those of every fifth weight in the kernel's order.

weights/test_pix2pix.py reads the state dicts of a generator that is nested as in the PyTorch
code of pix2pix, with random parameters and running statistics. latest_net_G.pth is as that
code saves it, legacy_net_G.pth as versions of PyTorch before 1.6 did: of a
`torch.nn.DataParallel`, and in half precision, which holds the same values. net_G.npz has

    L               32x32 values, each of which is 8x8 pixels of the input
    ab              every seventh row and fifth column of the output in evaluation mode
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import torch_twin

FILTERS, SIZE, BATCH = 8, 32, 4
GOLDEN = ROOT / "tests" / "golden"


def new_twins() -> dict[str, nn.Module]:
    """The two networks, without dropout."""
    return {
        "generator": torch_twin.Generator(FILTERS, SIZE, dropout=0.0),
        "discriminator": torch_twin.Discriminator(FILTERS),
    }


def draw(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random values of few digits for a parameter or statistic, far from its initial ones."""
    values = {
        "kernel": lambda: random.normal(0.0, 0.1, shape),
        "bias": lambda: random.normal(0.0, 0.1, shape),
        "scale": lambda: random.normal(1.0, 0.1, shape),
        "mean": lambda: random.normal(0.0, 0.5, shape),
        "var": lambda: random.uniform(0.5, 2.0, shape),
    }[kind]()
    return values.round(2).astype(np.float16)


def average_biased_variance(
    norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor], _: torch.Tensor
) -> None:
    """A forward hook that makes the running variance that of Flax.

    PyTorch averages the unbiased variance of n values, Flax the biased one, which is smaller
    by an n-th of the other.
    """
    if norm.training:
        x = inputs[0].detach()
        n = x.numel() / x.shape[1]
        # A new tensor, since autograd has a hold of the other.
        norm.running_var = norm.running_var - norm.momentum * x.var((0, 2, 3)) / n


def new_trainer(before: dict[str, Any]) -> torch_twin.Trainer:
    """The twin with these variables."""
    twins = new_twins()
    for name, network in twins.items():
        torch_twin.copy_from_flax(network, before[name])
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(average_biased_variance)
    return torch_twin.Trainer(**twins)


def outputs(
    trainer: torch_twin.Trainer, L: torch.Tensor, ab: torch.Tensor, *, train: bool
) -> dict[str, np.ndarray]:
    """Generated ab, the logits on it and the logits on the given ab."""
    trainer.generator.train(train)
    trainer.discriminator.train(train)
    with torch.no_grad():
        generated = trainer.generator(L)
        results = {
            "generated": generated,
            "logits_of_generated": trainer.discriminator(L, generated),
            "logits_of_given": trainer.discriminator(L, ab),
        }
    return {name: x.permute(0, 2, 3, 1).numpy() for name, x in results.items()}


def sample(arrays: dict[tuple[str, ...], np.ndarray]) -> dict[str, Any]:
    """Every fifth weight of the kernels, and all of the other arrays."""
    return unflatten_dict(
        {
            path: array.ravel()[::5] if path[-1] == "kernel" else array
            for path, array in arrays.items()
        }
    )


def training_step(
    trainer: torch_twin.Trainer,
    before: dict[str, Any],
    L: torch.Tensor,
    ab: torch.Tensor,
) -> dict[str, Any]:
    """What one training step does."""
    statistics = {}

    def keep_statistics(*_: Any) -> None:
        variables = torch_twin.to_flax(trainer.discriminator)
        statistics["discriminator"] = variables["batch_stats"]

    # Before the generator's turn, in which pix2pix's code averages in the generated images
    # once more, and ours does not.
    trainer.discriminator_optimizer.register_step_post_hook(keep_statistics)
    losses = trainer.train_step(L, ab)
    statistics["generator"] = torch_twin.to_flax(trainer.generator)["batch_stats"]

    norms, gradients, changes = {}, {}, {}
    for name, variables in before.items():
        network = getattr(trainer, name)
        gradient = flatten_dict(torch_twin.gradients_to_flax(network))
        start = flatten_dict(variables["params"])
        after = flatten_dict(torch_twin.to_flax(network)["params"])
        gradients[name] = sample(gradient)
        changes[name] = sample({path: after[path] - start[path] for path in after})
        norms[name] = np.linalg.norm([np.linalg.norm(x) for x in gradient.values()])
    return {
        "losses": {name: loss.numpy() for name, loss in losses.items()},
        "gradient_norms": norms,
        "gradients": gradients,
        "changes": changes,
        "statistics": statistics,
    }


class Level(nn.Module):
    """One level of the U-Net as pix2pix's code nests it: all that is within, then the skip."""

    def __init__(self, *layers: nn.Module, has_skip: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.has_skip = has_skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.model(x)
        # The first layer may have changed x in place, as it does in pix2pix's code.
        return torch.cat([x, y], dim=1) if self.has_skip else y


def new_nested_generator(filters: int) -> nn.Module:
    """pix2pix's unet_256 from L to ab, under the names that its code gives.

    After section 6.1.1 of the paper (Isola et al. 2017). As in the code, the innermost level
    of the encoder has no BatchNorm, and the last convolution alone has a bias.
    """
    widths = [1, *(filters * min(2**k, 8) for k in range(8))]
    levels: list[nn.Module] = []  # The one that is within, if any.
    for k in range(8, 0, -1):
        inner, outer = widths[k], widths[k - 1]
        layers: list[nn.Module] = [nn.Conv2d(outer, inner, 4, 2, 1, bias=False)]
        if k > 1:
            layers.insert(0, nn.LeakyReLU(0.2, inplace=True))
        if 1 < k < 8:
            layers.append(nn.BatchNorm2d(inner))
        layers += [*levels, nn.ReLU(inplace=True)]
        inputs = 2 * inner if levels else inner
        if k == 1:
            layers += [nn.ConvTranspose2d(inputs, 2, 4, 2, 1), nn.Tanh()]
        else:
            layers.append(nn.ConvTranspose2d(inputs, outer, 4, 2, 1, bias=False))
            layers.append(nn.BatchNorm2d(outer))
        if 4 < k < 8:
            layers.append(nn.Dropout(0.5))
        levels = [Level(*layers, has_skip=k > 1)]
    generator = nn.Module()
    generator.model = levels[0]
    return generator


def save_nested_generator(folder: Path) -> None:
    """Writes two state dicts of a nested generator, and what it gives."""
    random = np.random.default_rng(2)
    generator = new_nested_generator(filters=1).eval()
    state = generator.state_dict()
    kinds = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    for name, tensor in state.items():
        *_, last = name.split(".")
        if last != "num_batches_tracked":
            kind = kinds.get(last, "kernel" if tensor.ndim == 4 else "scale")
            tensor.copy_(torch.from_numpy(draw(random, kind, tuple(tensor.shape))))
    torch.save(state, folder / "latest_net_G.pth")
    parallel = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in nn.DataParallel(generator).state_dict().items()
    }
    torch.save(
        parallel, folder / "legacy_net_G.pth", _use_new_zipfile_serialization=False
    )
    L = random.uniform(-1, 1, (32, 32)).round(2).astype(np.float16)
    pixels = torch.from_numpy(np.kron(L, np.ones((8, 8))).astype(np.float32))
    with torch.no_grad():
        ab = generator.model(pixels[None, None])[0].permute(1, 2, 0)
    np.savez_compressed(folder / "net_G.npz", L=L, ab=ab.numpy()[::7, ::5])


def save_gan(file: Path) -> None:
    """Writes what the GAN and one training step of it give."""
    random = np.random.default_rng(1)
    before = {
        name: unflatten_dict(
            {
                path: draw(random, path[-1], array.shape)
                for path, array in flatten_dict(torch_twin.to_flax(network)).items()
            }
        )
        for name, network in new_twins().items()
    }
    images = {
        name: random.uniform(-1, 1, (BATCH, SIZE, SIZE, channels)).round(2)
        for name, channels in {"L": 1, "ab": 2}.items()
    }
    images = {name: image.astype(np.float16) for name, image in images.items()}

    trainers = [new_trainer(before) for _ in range(3)]
    L, ab = (
        trainers[0].to_torch(images[name].astype(np.float32)) for name in ("L", "ab")
    )
    golden = {
        "images": images,
        "before": before,
        "train": outputs(trainers[0], L, ab, train=True),
        "eval": outputs(trainers[1], L, ab, train=False),
        "step": training_step(trainers[2], before, L, ab),
    }
    np.savez_compressed(file, **flatten_dict(golden, sep="/"))


def main() -> None:
    """Writes the files."""
    torch.set_num_threads(1)  # Another number adds in another order.
    GOLDEN.mkdir(exist_ok=True)
    save_gan(GOLDEN / "gan.npz")
    save_nested_generator(GOLDEN)
    for file in sorted(GOLDEN.iterdir()):
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
