"""Photos out of files."""

import io
import os
import struct
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from colorgan_jax.errors import PhotoError
from colorgan_jax.photos.pixels import resize_photo

# Pillow's own limit, stated here so that it holds whatever other code sets it to.
# A 24-megapixel photo takes an eighth of it.
MAXIMUM_PIXELS = 178_956_970

# Profiles of sRGB itself, which most cameras embed: converting them would change
# nothing and take longer than decoding.
_SRGB_DESCRIPTIONS = ("sRGB IEC61966-2.1", "sRGB built-in")


def ignore_pillow_warnings() -> None:
    """Silences Pillow where it warns of what `read_photo` deals with.

    Pillow reports oddities of metadata (a damaged EXIF block, an invalid animation
    chunk) and large photos as warnings. The pixels are none the worse for them, and
    damaged pixels are an error anyway. For entry points: Python's warning filters belong
    to the whole process, and until Python 3.14 no thread has its own.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_photo(
    file: str | os.PathLike | bytes,
    name: str | None = None,
    *,
    minimum_size: int | None = None,
) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a JPEG, PNG or WebP photo as upright sRGB.

    The EXIF orientation and an embedded color profile are applied, transparency is
    composited on white, 16 bits become 8, and of an animation the first frame is taken.
    Threads may call this side by side; decoding releases Python's global lock.

    Args:
      file: the path of the photo, or its encoded bytes.
      name: what error messages call the photo; by default its path.
      minimum_size: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, which is
        faster, as long as both sides keep at least this many pixels. For photos that
        are shrunk anyway.

    Returns:
      uint8 [H, W, 3], sRGB in [0, 255].

    Raises:
      PhotoError: the file cannot be opened, is empty, damaged, cut short, of another
        format, or has more than `MAXIMUM_PIXELS` pixels.
    """
    if isinstance(file, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(file), name or "the photo", minimum_size)
    name = name or os.fspath(file)
    try:
        with open(file, "rb") as stream:
            return _decode(stream, name, minimum_size)
    except OSError as error:
        raise PhotoError(f"{name} cannot be opened: {error.strerror}.") from error


def _decode(
    stream: io.BytesIO | io.BufferedReader, name: str, minimum_size: int | None
) -> np.ndarray:
    """Decodes an open photo file: `read_photo` without the opening."""
    start = stream.read(12)
    stream.seek(0)
    if not start:
        raise PhotoError(f"{name} is empty.")
    is_webp = start.startswith(b"RIFF") and start.endswith(b"WEBP")
    if not start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) and not is_webp:
        raise PhotoError(
            f"{name} is not a JPEG, PNG or WebP photo; convert it to one of these."
        )
    # A damaged file makes Pillow raise almost anything (OSError, SyntaxError,
    # ValueError, struct.error, zlib.error, ...), hence the broad clause.
    try:
        with Image.open(stream, formats=("JPEG", "PNG", "WEBP")) as image:
            if image.width * image.height > MAXIMUM_PIXELS:
                raise Image.DecompressionBombError
            if minimum_size is not None:  # drafts of other formats are the whole image
                image.draft(image.mode, (minimum_size, minimum_size))
            image.load()
            orientation = _exif_orientation(image)
            rgb = np.array(_to_srgb(image))
    except Image.DecompressionBombError as error:
        raise PhotoError(
            f"{name} has more than {MAXIMUM_PIXELS // 10**6} million pixels; shrink it first."
        ) from error
    except UnidentifiedImageError as error:
        raise PhotoError(
            f"{name} is damaged or cut short: its header is unreadable."
        ) from error
    except Exception as error:
        raise PhotoError(f"{name} is damaged or cut short: {error}.") from error
    return _upright(rgb, orientation)


def read_square(
    file: str | os.PathLike | bytes, size: int, name: str | None = None
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Reads a photo as networks see it in training and scoring: squashed to a square.

    Args:
      file: the path of the photo, or its encoded bytes.
      size: height and width of the square in pixels.
      name: as for `read_photo`.

    Returns:
      uint8 [size, size, 3], sRGB in [0, 255].

    Raises:
      PhotoError: as `read_photo`.
    """
    return resize_photo(read_photo(file, name, minimum_size=size), size, size)


def count_pixels(file: str | os.PathLike) -> int:
    """Height times width of a photo file, from its header alone.

    Raises:
      PhotoError: `read_photo` would refuse the file, too.
    """
    try:
        with Image.open(file, formats=("JPEG", "PNG", "WEBP")) as image:
            return image.width * image.height
    except Exception as error:  # As broad as in `_decode`, for the same reason.
        raise PhotoError(
            f"{os.fspath(file)} has no legible header: {error}."
        ) from error


def _exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image, 1 (upright) where none is legible."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (struct.error, LookupError, OSError, SyntaxError, TypeError, ValueError):
        return 1


def _upright(photo: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation from 1 to 8 (CIPA DC-008, tag 274); others are 1."""
    if orientation in (5, 6, 7, 8):  # on its side: rows are the columns of the scene
        photo = photo.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        photo = photo[::-1]
    if orientation in (2, 3, 6, 7):
        photo = photo[:, ::-1]
    return np.ascontiguousarray(photo)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Converts a loaded Pillow image of any mode to sRGB on a white ground."""
    profile = image.info.get("icc_profile")
    alpha = None
    if image.mode.startswith("I"):
        image = _to_8_bits(image)
    elif image.has_transparency_data:  # also a palette's, or one transparent color
        alpha = image.convert("RGBA").getchannel("A")
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):  # RGBA and palettes
        image = image.convert("RGB")
    image = _apply_profile(image, profile)
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Scales a 16-bit gray image to 8 bits, where Pillow's own conversion would clip.

    (Pillow reads 16-bit color as 8 bits of its own accord.)
    """
    values = np.asarray(image).astype(np.uint32)
    gray = ((values * 255 + 32767) // 65535).astype(np.uint8)
    if "transparency" in image.info:  # one gray value that white shows through
        gray[values == image.info["transparency"]] = 255
    return Image.fromarray(gray)


def _apply_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Converts a gray, RGB or CMYK image to sRGB, by its ICC profile if it can be."""
    if not profile:
        return _to_rgb(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith(_SRGB_DESCRIPTIONS):
            return _to_rgb(image)
        # Declared to return None, too, which only `inPlace` makes it do.
        return ImageCms.profileToProfile(  # pyright: ignore[reportReturnType]
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        # Damaged, or of another color space than the pixels: as if there were none.
        return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Without the copy that `convert` makes even of what is RGB already."""
    return image if image.mode == "RGB" else image.convert("RGB")
