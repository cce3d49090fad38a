"""From a photo in color to the content of its file."""

import dataclasses
import io
from collections.abc import Callable, Iterator

import numpy as np

from colorgan_jax import __version__
from colorgan_jax.errors import PhotoError
from colorgan_jax.hints import Hints
from colorgan_jax.inference import colorize_photo, paint_photo, photo_lightness
from colorgan_jax.params import Params, fingerprint
from colorgan_jax.photos import (
    DEFAULT_QUALITY,
    SHORTEST_WIDE_JPEG2000_SIDE,
    WRITTEN_FORMATS,
    Header,
    Metadata,
    Photo,
    encode_photo,
    fit_metadata,
    fit_to_format,
    write_tiff,
)
from colorgan_jax.photos.xmp import add_provenance
from colorgan_jax.references import Reference

# In what the results of photos are written whose own format is not: of 8 and of 16 bits.
_LOSSLESS = {8: "PNG", 16: "TIFF"}
_OTHER_FORMATS = {"MPO": "JPEG"}
# The longest side that formats have room for, in pixels.
_LONGEST_SIDES = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536}


def color_settings(
    params: Params, reference: Reference | None, saturation: float
) -> dict[str, object]:
    """All that the colors depend on, but for hints; it takes a while."""
    settings: dict[str, object] = {
        "params": fingerprint(params),
        "saturation": saturation,
    }
    if reference is not None:
        settings["reference"] = fingerprint({"": reference._asdict()})
    return settings


@dataclasses.dataclass(frozen=True)
class Rendering:
    """How results are made.

    Attributes:
      params: of the generator.
      reference: as for `colorize`.
      saturation: as for `colorize`.
      format: of all results, as Pillow calls it; None for that of each photo.
      quality: of lossy formats, from 1 to 100; None for the usual one.
      side_by_side: whether the photo in gray is to the left of the result.
      has_provenance: whether results say that their colors are generated.
    """

    params: Params
    reference: Reference | None
    saturation: float
    format: str | None
    quality: int | None
    side_by_side: bool
    has_provenance: bool

    def settings(self) -> dict[str, object]:
        """All that the look of every result depends on; it takes a while."""
        colors = color_settings(self.params, self.reference, self.saturation)
        is_lossless = self.format in _LOSSLESS.values()
        return colors | {
            "format": self.format,
            "quality": None if is_lossless else self.quality,
            "side_by_side": self.side_by_side,
        }

    def colorize(self, photo: Photo, hints: Hints | None = None) -> Photo:
        """Colorizes one photo."""
        return colorize_photo(
            self.params,
            photo,
            hints=hints,
            reference=self.reference,
            saturation=self.saturation,
        )

    def result_format(self, header: Header) -> str:
        """In which format the result of a photo is written.

        Args:
          header: of the photo.

        Returns:
          That of all results, or of the photo; or PNG, or TIFF for photos of 16 bits, where
          it is none that is written, or has no room for so long or short a side.
        """
        format = self.format or header.format
        format = _OTHER_FORMATS.get(format, format)
        longest = max(header.height, header.width * (2 if self.side_by_side else 1))
        shortest = 0
        if format == "JPEG2000" and header.bits == 16:
            shortest = SHORTEST_WIDE_JPEG2000_SIDE
        if (
            format in WRITTEN_FORMATS
            and longest <= _LONGEST_SIDES.get(format, longest)
            and shortest <= min(header.height, header.width)
        ):
            return format
        return _LOSSLESS[header.bits]

    def save(
        self,
        stream: io.BytesIO | io.BufferedRandom,
        photo: Photo,
        format: str,
        *,
        name: str,
        read_page: Callable[[int], Photo],
        source: str | None = None,
        settings: str | None = None,
        has_hints: bool = False,
    ) -> tuple[str, ...]:
        """Writes a result.

        Args:
          stream: an empty file, open for reading and writing.
          photo: in color; if its file has several pages, the first of them. The others are
            read and colorized here, one by one.
          format: of the result.
          name: what error messages call the photo.
          read_page: reads another page by its number, from 0.
          source: stands for the photo in the provenance.
          settings: stands for weights and options there.
          has_hints: whether the photo was colorized with hints.

        Returns:
          Remarks on what was lost or doubtful, in parts of sentences.

        Raises:
          PhotoError: a page cannot be read, or the photo is too large for the format.
          OSError: the file cannot be written.
        """
        remarks: dict[str, None] = {}  # Each once, in order.

        def finish(page: Photo) -> Photo:
            if self.side_by_side:
                page = _beside_gray(page)
            if self.has_provenance:
                page = _say_generated(page, format, source, settings)
            page = fit_to_format(page, format)
            remarks.update(dict.fromkeys(page.remarks))
            return page

        def pages() -> Iterator[Photo]:
            yield finish(photo)
            for number in range(1, photo.pages):
                page = read_page(number)
                yield finish(self.colorize(page))

        if has_hints and photo.pages > 1:
            remarks[f"of its {photo.pages} pages the hints are for the first"] = None
        if format == "TIFF":
            samples = photo.pages * photo.pixels.size * (2 if self.side_by_side else 1)
            try:
                write_tiff(stream, pages(), samples=samples)
            except PhotoError:  # Of another page, which it names.
                raise
            except ValueError as error:  # From tifffile, of pages beyond 4 GiB.
                raise PhotoError(f"{name} cannot be encoded: {error}.") from error
        else:
            page = finish(photo)
            if self.format == "WEBP" and self.quality is not None:
                page = dataclasses.replace(page, lossless=False)
            if photo.pages > 1:
                remarks[f"of its {photo.pages} pages this is the first"] = None
            quality = self.quality or DEFAULT_QUALITY
            try:
                stream.write(encode_photo(page, format, quality=quality))
            except PhotoError as error:
                raise PhotoError(f"{name} cannot be encoded: {error}") from error
        return tuple(remarks)


def _beside_gray(photo: Photo) -> Photo:
    """The photo in gray and, to its right, in color."""
    gray = paint_photo(
        photo_lightness(photo.pixels),
        np.zeros((1, 1, 2), np.float32),
        dtype=photo.pixels.dtype,
    )
    alpha = photo.alpha
    return dataclasses.replace(
        photo,
        pixels=np.hstack([gray, photo.pixels]),
        alpha=None if alpha is None else np.hstack([alpha, alpha]),
    )


def _say_generated(
    photo: Photo, format: str, source: str | None, settings: str | None
) -> Photo:
    """Adds to a photo's XMP that its colors are generated, and by what."""

    def metadata_with(packet: bytes) -> Metadata:
        packet = add_provenance(
            packet, source=source, settings=settings, version=__version__
        )
        return dataclasses.replace(photo.metadata, xmp=packet)

    metadata = metadata_with(photo.metadata.xmp)
    if fit_metadata(metadata, format)[0].xmp:
        return dataclasses.replace(photo, metadata=metadata)
    remark = "its XMP left no room for that of the result and was left out"
    return dataclasses.replace(
        photo, metadata=metadata_with(b""), remarks=(*photo.remarks, remark)
    )
