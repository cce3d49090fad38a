"""Photo files: read, resize, write and find them.

A photo is a uint8 array [H, W, 3] of sRGB values in [0, 255], upright, top row first.
Only NumPy, Pillow and OpenCV are needed here.
"""

from colorgan_jax.photos.finding import find_photos
from colorgan_jax.photos.pixels import (
    NEARLY_GRAY,
    color_strength,
    is_nearly_gray,
    resize_photo,
)
from colorgan_jax.photos.reading import (
    MAXIMUM_PIXELS,
    count_pixels,
    ignore_pillow_warnings,
    read_photo,
    read_square,
)
from colorgan_jax.photos.writing import PHOTO_EXTENSIONS, write_photo

__all__ = [
    "MAXIMUM_PIXELS",
    "NEARLY_GRAY",
    "PHOTO_EXTENSIONS",
    "color_strength",
    "count_pixels",
    "find_photos",
    "ignore_pillow_warnings",
    "is_nearly_gray",
    "read_photo",
    "read_square",
    "resize_photo",
    "write_photo",
]
