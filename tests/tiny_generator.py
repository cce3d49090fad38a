"""A generator for tests of all around it: tiny, random, and strong in its colors."""

import numpy as np

# Of the encoder's blocks; those that are further in have as many as the last.
FEATURES = (4, 8)


def random_params(seed: int, blocks: int = 3) -> dict[str, dict[str, np.ndarray]]:
    """Folded parameters of a generator for 2**blocks pixels squared: 8x8 by default."""
    random = np.random.default_rng(seed)
    features = [FEATURES[min(block, len(FEATURES) - 1)] for block in range(blocks)]
    # Channels of each kernel, in the order in which it is stored, and of each bias.
    layers = {
        f"encoder_{block + 1}": ((inputs, outputs), outputs)
        for block, (inputs, outputs) in enumerate(
            zip([1, *features[:-1]], features, strict=True)
        )
    }
    for block, outputs in enumerate([*features[-2::-1], 2]):
        inputs = features[-1 - block] * (1 if block == 0 else 2)
        layers[f"decoder_{block + 1}"] = ((outputs, inputs), outputs)
    return {
        name: {
            "kernel": random.normal(0, 0.2, (4, 4, *channels)),
            "bias": random.normal(0, 0.2, features),
        }
        for name, (channels, features) in layers.items()
    }
