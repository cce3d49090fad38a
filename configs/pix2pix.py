"""The report's recipe (sections 2 and 3), with pix2pix's values where it is silent.

Command: python launch.py --config=configs/pix2pix.py --config.data.source=PHOTOS
Hardware: a GPU or TPU. On 2 CPU cores (AMD EPYC, AVX-512) it trains on 2 photos a second.
Time: 1.5 hours an epoch on those 2 cores; 100 epochs in all.
Score: at 64x64, with 32 filters, 1.04 dB below gray after all 100 epochs; at 256x256 not yet
  measured. The report's own is 20.39 dB at peak 1.0 (docs/reproduction.md).
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.image_size = 256  # The U-Net halves it down to one pixel: 8 blocks each way.
    config.batch_size = 16  # Over all devices. A run keeps it when it resumes.
    config.epochs = 100
    # Or "bfloat16", which is faster on GPUs and TPUs: parameters, statistics and losses
    # stay float32.
    config.compute_dtype = "float32"
    # Parameters to start from: "released", a params.safetensors, the work directory of
    # another run, or "hf://OWNER/NAME" on the Hugging Face Hub. Their BatchNorm is folded,
    # and the run is without it. By default random.
    config.initial_params = config_dict.placeholder(str)

    config.generator = ml_collections.ConfigDict()
    config.generator.filters = 64
    # Of the widest blocks; by default 8 times filters.
    config.generator.maximum_filters = config_dict.placeholder(int)
    config.generator.dropout = 0.5
    config.generator.encoder = "unet"  # Or "efficientnet": configs/pretrained.py.
    config.generator.frozen_blocks = 0  # Of EfficientNet's 5; these are not trained.
    config.discriminator = ml_collections.ConfigDict()
    config.discriminator.filters = 64
    config.discriminator.halvings = 3  # 3: patches of 70x70 pixels, 2: 34x34, 1: 16x16.

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-4  # Of both networks.
    config.optimizer.decay_epochs = 0.0  # Linear to 0 over so many epochs at the end.
    config.optimizer.beta1 = 0.5
    config.optimizer.beta2 = 0.999

    config.loss = ml_collections.ConfigDict()
    config.loss.l1_weight = 100.0
    config.loss.adversarial_weight = 1.0  # 0: L1 alone, without the discriminator.
    config.loss.adversarial_from_epoch = 0.0  # So many epochs of L1 alone come first.
    config.ema_decay = 0.999  # Of the generator that is validated and released.

    config.data = ml_collections.ConfigDict()
    # coco_sample, tfds:NAME (such as tfds:coco/2017), skimage, or a folder of photos; or
    # a tuple of several, on the command line --config.data.source=A --config.data.source=B
    config.data.source = config_dict.FieldReference(
        "coco_sample", field_type=str | tuple
    )
    # The photos for validation are those that a run on this source alone would draw, or
    # those that a file NAME.txt lists, one a line, named as in the photos.json of a run.
    # They are not trained on. By default they are drawn from data.source.
    config.data.validation_source = config_dict.placeholder(str)
    # A run keeps its photos when it resumes: photos.json in its folder lists them.
    config.data.train_photos = 10_000  # 0: all but those for validation.
    config.data.validation_photos = 2_000
    # The smallest side of random crops as a share of the photo's; 1: no crops.
    config.data.smallest_crop = 1.0
    # From 0 to 255; below it a photo counts as gray. By default photos.NEARLY_GRAY.
    config.data.minimum_color = config_dict.placeholder(float)
    # On each host. 12,000 photos take 2.4, which hosts share; above it, re-decode.
    config.data.memory_gigabytes = 4.0

    config.log_every_steps = 25
    config.validate_every_steps = 625  # One epoch of the report's.
    config.checkpoint_every_minutes = 10.0
    config.keep_checkpoints = 2  # The newest ones; the best by PSNR is kept as well.
    # At the limit, if there is one, the run saves and stops.
    config.time_limit_minutes = config_dict.placeholder(float)
    return config
