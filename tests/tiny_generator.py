"""A generator for tests of all around it: tiny, random, and strong in its colors."""

import numpy as np

# Channels of each kernel, in the order in which it is stored, and of each bias.
LAYERS = {
    "encoder_1": ((1, 4), 4),
    "encoder_2": ((4, 8), 8),
    "encoder_3": ((8, 8), 8),
    "decoder_1": ((8, 8), 8),
    "decoder_2": ((4, 16), 4),
    "decoder_3": ((2, 8), 2),
}


def random_params(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """Folded parameters of a generator for 8x8 pixels."""
    random = np.random.default_rng(seed)
    return {
        name: {
            "kernel": random.normal(0, 0.2, (4, 4, *channels)),
            "bias": random.normal(0, 0.2, features),
        }
        for name, (channels, features) in LAYERS.items()
    }
