"""Makes tests/golden/gan.npz: what the same GAN written in PyTorch computes.

    pip install torch==2.13.0
    python tests/make_golden.py

test_golden.py compares our networks and our training step with it, without PyTorch. The file
holds, under the names and in the layouts of Flax:

    images/         a batch of random L and ab
    before/         random parameters and running statistics of both networks
    train/, eval/   outputs with the statistics of the batch, and with the running ones
    step/           one training step: its losses, the gradients and their norms, the changes
                    of the parameters, and the running statistics after it

The first two are float16, exactly. To keep the file small, gradients and changes of kernels
are those of every fifth weight in the kernel's order.
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
FILE = ROOT / "tests" / "golden" / "gan.npz"


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


def main() -> None:
    """Writes the file."""
    torch.set_num_threads(1)  # Another number adds in another order.
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
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **flatten_dict(golden, sep="/"))
    print(f"{FILE}: {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
