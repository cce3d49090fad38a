"""The formats that photos are read from, and how their files are named."""

import dataclasses
import importlib
import importlib.util
from typing import Any

from colorgan_jax.errors import PhotoError


@dataclasses.dataclass(frozen=True)
class Format:
    """A format of photo files.

    Attributes:
      name: for people.
      extensions: of its files, in lower case; the first is that of new ones.
      package: the module that reads it, if none of the core does.
      extra: what installs that package.
    """

    name: str
    extensions: tuple[str, ...]
    package: str | None = None
    extra: str | None = None

    def is_readable(self) -> bool:
        """Whether the package that reads it is installed."""
        if self.package is None:
            return True
        try:
            return importlib.util.find_spec(self.package) is not None
        except ImportError:  # raised by finders that keep a package from being imported
            return False

    def load_package(self, photo: str) -> Any:
        """Imports the package that reads it.

        Args:
          photo: what messages call the photo to read.

        Raises:
          PhotoError: the package is missing, and what to install; or it is broken.
        """
        if not self.is_readable():
            raise PhotoError(
                f"{photo} is a {self.name} photo, which needs a package more: pip install"
                f" 'colorgan_jax[{self.extra}]'"
            )
        try:
            return importlib.import_module(self.package or "")
        except ImportError as error:
            package = (self.package or "").replace("_", "-")
            raise PhotoError(
                f"{photo} cannot be read by {package}: {error}."
            ) from error


# By what Pillow calls them. (MPO: JPEG with further views, as stereo cameras write it.)
FORMATS = {
    "JPEG": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif")),
    "MPO": Format("MPO", (".mpo",)),
    "PNG": Format("PNG", (".png",)),
    "WEBP": Format("WebP", (".webp",)),
    "TIFF": Format("TIFF", (".tif", ".tiff")),
    "BMP": Format("BMP", (".bmp", ".dib")),
    "GIF": Format("GIF", (".gif",)),
    "AVIF": Format("AVIF", (".avif",)),
    "JPEG2000": Format("JPEG 2000", (".jp2", ".jpx", ".jpf", ".j2k", ".j2c", ".jpc")),
    "HEIF": Format(
        "HEIC", (".heic", ".heif", ".hif"), package="pillow_heif", extra="heif"
    ),
    "RAW": Format(
        "RAW",
        (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".rw2", ".orf")
        + (".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".dcr"),
        package="rawpy",
        extra="raw",
    ),
}

PHOTO_EXTENSIONS = tuple(
    extension for known in FORMATS.values() for extension in known.extensions
)


def readable_extensions() -> tuple[str, ...]:
    """Those of the formats that can be read with the packages that are installed."""
    return tuple(
        extension
        for known in FORMATS.values()
        if known.is_readable()
        for extension in known.extensions
    )


# How EXIF and XMP stand in a JPEG 2000 file: in boxes of these kinds (XMP specification
# part 3, and what ExifTool and Adobe's programs write).
JPEG2000_EXIF_BOX = b"JpgTiffExif->JP2"
JPEG2000_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")

# Under which keyword XMP stands among the text of a PNG file.
PNG_XMP_KEY = "XML:com.adobe.xmp"
