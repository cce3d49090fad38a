"""How a film in color is encoded, and what its container takes."""

import dataclasses
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8, UInt16

from colorgan_jax.errors import VideoError
from colorgan_jax.video.film import Film


@dataclasses.dataclass(frozen=True)
class Codec:
    """A way to encode frames.

    Attributes:
      encoder: what FFmpeg calls it.
      pixel_format: of films of 8 bits.
      deep_pixel_format: of films of more; None where it has no more than 8.
      crf: its constant rate factor, for results that look like their source; None where it
        has none.
      crfs: the least and the greatest that there is.
      options: others of the encoder.
      smallest: pixels of a side.
      highest_rate: frames a second that it may be told; None for any.
    """

    encoder: str
    pixel_format: str = "yuv420p"
    deep_pixel_format: str | None = "yuv420p10le"
    crf: int | None = None
    crfs: tuple[int, int] = (0, 51)
    options: tuple[tuple[str, str], ...] = ()
    smallest: int = 1
    highest_rate: int | None = None


CODECS = {
    # With its macroblock tree the same frames are not encoded into the same bytes: what it
    # takes depends on what was in the memory before.
    "h264": Codec("libx264", crf=18, options=(("x264-params", "mbtree=0"),)),
    # Of smaller frames it writes beyond its memory.
    "h265": Codec(
        "libx265", crf=20, options=(("x265-params", "log-level=error"),), smallest=64
    ),
    # At a rate of 0 the factor alone decides.
    "vp9": Codec(
        "libvpx-vp9",
        deep_pixel_format=None,
        crf=24,
        crfs=(0, 63),
        options=(("b", "0"), ("row-mt", "1"), ("cpu-used", "4")),
    ),
    # It takes 0 for its own default.
    "av1": Codec("libsvtav1", crf=25, crfs=(1, 63), highest_rate=240),
    "ffv1": Codec("ffv1"),
    "prores": Codec("prores_ks", "yuv422p10le", "yuv422p10le"),
}


@dataclasses.dataclass(frozen=True)
class Container:
    """A kind of file.

    Attributes:
      format: what FFmpeg calls it.
      codecs: what of `CODECS` it holds, and players expect there; the first by default.
    """

    format: str
    codecs: tuple[str, ...]


CONTAINERS = {
    ".mp4": Container("mp4", ("h264", "h265", "av1", "vp9")),
    ".mkv": Container("matroska", tuple(CODECS)),
    ".mov": Container("mov", ("h264", "h265", "prores")),
    ".webm": Container("webm", ("vp9", "av1")),
}


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How one film is encoded.

    Attributes:
      film: whose colors, times and shape it keeps.
      codec: one of `CODECS`.
      crf: constant rate factor; None for the codec's own.
    """

    film: Film
    codec: str
    crf: int | None = None

    @classmethod
    def choose(
        cls,
        film: Film,
        output: str | os.PathLike,
        codec: str | None = None,
        crf: int | None = None,
    ) -> "Encoding":
        """Takes what fits a film and the file that it will be in.

        Args:
          film: to encode.
          output: its name decides on the container.
          codec: one of `CODECS`; by default what the container is known for.
          crf: as above.

        Raises:
          VideoError: there is no such container, or it does not hold the codec, or the
            codec has no such factor or takes no such frames.
        """
        extension = Path(output).suffix.lower()
        if extension not in CONTAINERS:
            raise VideoError(
                f"{output} cannot be written: a film's name ends in one of"
                f" {', '.join(CONTAINERS)}."
            )
        held = CONTAINERS[extension].codecs
        if codec is None:
            codec = held[0]
            if film.bits > 8 and CODECS[codec].deep_pixel_format is None:
                codec = held[1]
        if codec not in held:
            raise VideoError(
                f"{output} cannot hold {codec}: {extension} takes {', '.join(held)}."
            )
        if crf is not None and CODECS[codec].crf is None:
            raise VideoError(f"{codec} has no constant rate factor (--crf).")
        least, greatest = CODECS[codec].crfs
        if crf is not None and not least <= crf <= greatest:
            raise VideoError(f"{codec} takes {least} to {greatest} (--crf), not {crf}.")
        smallest = CODECS[codec].smallest
        if min(film.height, film.width) < smallest:
            raise VideoError(
                f"{film.path} has {film.width}x{film.height} pixels, and {codec} takes no"
                f" less than {smallest}x{smallest}: try another --codec."
            )
        return cls(film, codec, crf)

    @property
    def pixel_format(self) -> str:
        """What FFmpeg calls it."""
        codec = CODECS[self.codec]
        deep = codec.deep_pixel_format if self.film.bits > 8 else None
        return deep or codec.pixel_format

    @property
    def remarks(self) -> tuple[str, ...]:
        """What of the film changes, in parts of sentences."""
        film, found = self.film, []
        if film.bits > 8 and CODECS[self.codec].deep_pixel_format is None:
            found.append(f"its {film.bits} bits became 8, as {self.codec} has no more")
        height, width = _even(film.height), _even(film.width)
        if (height, width) != (film.height, film.width):
            found.append(
                f"its {film.width}x{film.height} pixels became {width}x{height}, as codecs"
                " want even numbers: the border is repeated"
            )
        return tuple(found)

    def prepare(
        self, pixels: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"], pts: int
    ) -> VideoFrame:
        """Makes a frame ready to be encoded. Threads may call it.

        Args:
          pixels: R'G'B' as of `Film.pixels`.
          pts: its time stamp.
        """
        film = self.film
        pixels = np.rot90(pixels, -film.quarter_turns)
        borders = [(0, _even(length) - length) for length in (film.height, film.width)]
        pixels = np.pad(pixels, [*borders, (0, 0)], mode="edge")
        rgb = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(pixels), "rgb24" if pixels.itemsize == 1 else "rgb48le"
        )
        frame = rgb.reformat(
            format=self.pixel_format,
            dst_colorspace=film.swscale_matrix,
            src_color_range="JPEG",
            dst_color_range=film.swscale_range,
        )
        frame.pts = pts
        frame.time_base = film.time_base
        return frame

    def add_stream(self, container: OutputContainer) -> VideoStream:
        """Adds a stream of such frames to a file."""
        film, codec = self.film, CODECS[self.codec]
        options = dict(codec.options)
        if codec.crf is not None:
            options["crf"] = str(self.crf if self.crf is not None else codec.crf)
        # Some files say far more than their times allow, and libvpx takes no such rate.
        rate = min(film.assumed_frame_rate, 1 / film.time_base)
        if codec.highest_rate is not None:
            rate = min(rate, Fraction(codec.highest_rate))
        stream: Any = container.add_stream(codec.encoder, rate=rate, options=options)
        stream.height, stream.width = _even(film.height), _even(film.width)
        stream.pix_fmt = self.pixel_format
        context = stream.codec_context
        context.time_base = film.time_base
        context.color_primaries = film.primaries
        context.color_trc = film.transfer
        context.colorspace = film.matrix
        context.color_range = film.range
        if film.sample_aspect_ratio:
            context.sample_aspect_ratio = film.sample_aspect_ratio
        return stream


def _even(length: int) -> int:
    return length + length % 2
