"""fastai's sample of COCO as a TensorFlow Datasets builder."""

from colorgan_jax.training.coco_sample.coco_sample_dataset_builder import Builder

__all__ = ["Builder"]
