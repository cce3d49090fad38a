"""Goes on from the released weights, on photos of one kind: a town, a studio, a species.

Command: python launch.py --config=configs/finetune.py --config.data.source=MY_COLOR_PHOTOS
"""

import ml_collections
from ml_collections import config_dict

from configs import pretrained


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of the released weights, for few photos."""
    config = pretrained.get_config()
    config.initial_params = "released"
    config.epochs = 40
    config.generator.dropout = 0.0
    config.optimizer.learning_rate = 1e-4
    config.optimizer.decay_epochs = 20.0
    config.optimizer.beta1 = 0.9
    config.ema_decay = 0.99
    config.data.train_photos = config_dict.placeholder(int)  # All but those held out.
    config.data.validation_photos = 20
    config.validate_every_steps = 50
    return config
