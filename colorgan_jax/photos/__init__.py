"""Photo files: read, resize, write and find them, with all that they hold."""

from colorgan_jax.photos.finding import find_photos
from colorgan_jax.photos.formats import FORMATS, PHOTO_EXTENSIONS
from colorgan_jax.photos.photo import Metadata, Photo
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
    read_rgb,
    read_square,
)
from colorgan_jax.photos.writing import (
    DEFAULT_QUALITY,
    encode_photo,
    fit_to_format,
    write_photo,
    write_tiff,
)

__all__ = [
    "FORMATS",
    "DEFAULT_QUALITY",
    "MAXIMUM_PIXELS",
    "Metadata",
    "NEARLY_GRAY",
    "PHOTO_EXTENSIONS",
    "Photo",
    "color_strength",
    "count_pixels",
    "encode_photo",
    "find_photos",
    "fit_to_format",
    "ignore_pillow_warnings",
    "is_nearly_gray",
    "read_photo",
    "read_rgb",
    "read_square",
    "resize_photo",
    "write_photo",
    "write_tiff",
]
