"""Makes the released weights better at one kind of photo: an archive of your own.

With your color photos alone it forgets some of what the weights know of others; with as many
others beside them, in the colors that the released weights give them, it does not
(docs/finetune.md).

Command: colorgan colorize OTHERS --output others
  python launch.py --config=configs/finetune.py --config.data.source=PHOTOS
  --config.data.source=others --config.data.validation_source=PHOTOS
Hardware: one CPU core (AMD EPYC, AVX-512): 11 photos a second.
Time: 4 minutes, with 130 photos and 200 others.
Score: 0.74 dB more on 50 photos of their kind, and nothing lost on 200 general ones.
"""

import ml_collections
from ml_collections import config_dict

from configs import pretrained


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of the released weights, for few photos."""
    config = pretrained.get_config()
    config.initial_params = "released"
    config.epochs = 6
    config.optimizer.learning_rate = 2e-4
    config.optimizer.decay_epochs = 3.0
    config.optimizer.beta1 = 0.9
    config.ema_decay = 0.99  # A run on 300 photos has 100 steps.
    config.data.source = ()  # Yours: there is no other to fall back on.
    config.data.train_photos = config_dict.placeholder(int)  # All but those held out.
    config.data.validation_photos = 20
    config.log_every_steps = 5
    config.validate_every_steps = 25
    return config
