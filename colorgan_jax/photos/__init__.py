"""Photo files: read, resize, write and find them, with all that they hold."""

from colorgan_jax.photos.finding import Found, find_files, find_photos
from colorgan_jax.photos.formats import FORMATS, PHOTO_EXTENSIONS, readable_extensions
from colorgan_jax.photos.header import MAXIMUM_PIXELS, Header
from colorgan_jax.photos.photo import Metadata, Photo, check_pixels
from colorgan_jax.photos.pixels import (
    NEARLY_GRAY,
    color_strength,
    is_nearly_gray,
    resize_photo,
)
from colorgan_jax.photos.reading import (
    count_pixels,
    read_header,
    read_photo,
    read_rgb,
    read_square,
    silence_decoders,
)
from colorgan_jax.photos.writing import (
    DEFAULT_QUALITY,
    SHORTEST_WIDE_JPEG2000_SIDE,
    WRITTEN_FORMATS,
    encode_photo,
    fit_metadata,
    fit_to_format,
    write_photo,
    write_tiff,
)

__all__ = [
    "DEFAULT_QUALITY",
    "FORMATS",
    "Found",
    "Header",
    "MAXIMUM_PIXELS",
    "Metadata",
    "NEARLY_GRAY",
    "PHOTO_EXTENSIONS",
    "Photo",
    "SHORTEST_WIDE_JPEG2000_SIDE",
    "WRITTEN_FORMATS",
    "check_pixels",
    "color_strength",
    "count_pixels",
    "encode_photo",
    "find_files",
    "find_photos",
    "fit_metadata",
    "fit_to_format",
    "silence_decoders",
    "is_nearly_gray",
    "read_header",
    "read_photo",
    "read_rgb",
    "read_square",
    "readable_extensions",
    "resize_photo",
    "write_photo",
    "write_tiff",
]
