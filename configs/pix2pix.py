"""The report's recipe (sections 2, 3), with pix2pix's values where it is silent.

    python launch.py --config=configs/pix2pix.py --config.data.source=PHOTOS

For a GPU or TPU. On 2 cores (AMD EPYC, AVX-512) it takes 2 photos a second, an hour and
a half an epoch; 3,000 photos do not yet beat gray (README.md, "What was measured"). The
result of all 100 epochs is not yet measured; the report's own is 20.39 dB at peak 1.0.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """Returns the configuration."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.image_size = 256  # The U-Net halves it down to one pixel: 8 blocks each way.
    config.batch_size = 16  # Global, over all devices.
    config.epochs = 100
    # Or "bfloat16", which is faster on GPUs and TPUs: parameters, statistics and losses
    # stay float32.
    config.compute_dtype = "float32"

    config.generator = ml_collections.ConfigDict()
    config.generator.filters = 64
    config.generator.maximum_filters = 0  # Of the widest blocks; 0: 8 times filters.
    config.generator.dropout = 0.5
    config.generator.encoder = "unet"  # Or "efficientnet": configs/pretrained.py.
    config.generator.frozen_blocks = 0  # Of EfficientNet's 5; these are not trained.
    config.discriminator = ml_collections.ConfigDict()
    config.discriminator.filters = 64

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-4  # Of both networks.
    config.optimizer.decay_epochs = 0.0  # Linear to 0 over so many epochs at the end.
    config.optimizer.beta1 = 0.5
    config.optimizer.beta2 = 0.999

    config.loss = ml_collections.ConfigDict()
    config.loss.l1_weight = 100.0
    config.loss.adversarial_weight = 1.0
    config.loss.adversarial_from_epoch = 0.0  # Before it: L1 loss only.
    config.ema_decay = 0.999  # Of the generator that is validated and released.

    config.data = ml_collections.ConfigDict()
    # coco_sample, tfds:NAME (such as tfds:coco/2017), skimage, or a folder of photos.
    config.data.source = "coco_sample"
    config.data.train_photos = 10_000
    config.data.validation_photos = 2_000
    config.data.smallest_crop = (
        1.0  # Side of random crops, of the photo's; 1: no crops.
    )
    config.data.minimum_color = 4.0  # Of 255; below it a photo counts as gray.
    config.data.memory_gigabytes = 4.0  # 12,000 photos take 2.4; above it, re-decode.

    config.log_every_steps = 25
    config.validate_every_steps = 625  # One epoch of the report's.
    config.checkpoint_every_minutes = 10.0
    config.keep_checkpoints = 2  # The newest ones; the best by PSNR is kept besides.
    config.time_limit_minutes = 0.0  # 0: none. At the limit the run saves and stops.
    return config
