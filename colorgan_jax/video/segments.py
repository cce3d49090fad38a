"""The parts of a film in color, each a file of its own, until they are joined."""

import contextlib
import dataclasses
import heapq
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from jaxtyping import Int

from colorgan_jax.errors import OutputError, VideoError
from colorgan_jax.paths import UnfinishedFile
from colorgan_jax.video.encoding import CONTAINERS, Encoding
from colorgan_jax.video.film import TOLERANCE, Film, clock, file_url, is_cover

# Matroska holds all codecs, but times in milliseconds only: in the file of a part, those of
# its frames are their numbers. The first comes so much later, since no packet may be
# decoded after its frame is shown, and frames are encoded in another order.
_FIRST = 16
_NUMBERS = Fraction(1, 1000)

# What Matroska calls covers, and their kind, by their codecs.
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
# In a file, packets of the same moment are not further apart than this, in seconds.
_INTERLEAVED = 10

# What a container says of itself, and not of the film.
_OF_CONTAINER = {"encoder", "major_brand", "minor_version", "compatible_brands"}


class SegmentWriter:
    """Encodes some frames into a file, which appears when all are there.

    Used in a `with` statement: what has no name at its end is deleted.
    """

    def __init__(self, folder: str | os.PathLike, encoding: Encoding):
        """`folder` is where the file will be."""
        self._file = UnfinishedFile(folder)
        self._encoding = encoding
        self._numbers: dict[int, int] = {}
        self._packets = itertools.count()

    def __enter__(self) -> "SegmentWriter":
        self._file.__enter__()
        url = file_url(self._file.stream.name)
        self._container = av.open(url, "w", format="matroska")
        self._stream = self._encoding.add_stream(self._container)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._container.close()
        finally:
            self._file.__exit__(*error)

    def write(self, frame: VideoFrame) -> None:
        """Encodes the next frame, from `Encoding.prepare`.

        Raises:
          OSError: the file cannot be written.
          VideoError: the codec does not take such frames.
        """
        assert frame.pts is not None
        self._numbers[frame.pts] = len(self._numbers)
        self._encode(frame)

    def finish(self, path: str | os.PathLike) -> None:
        """Encodes what is left and names the file; raises the same."""
        self._encode(None)
        self._container.close()
        self._file.replace(path)

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            packets = self._stream.encode(frame)
        except FFmpegError as error:
            film, codec = self._encoding.film, self._encoding.codec
            raise VideoError(
                f"{film.path} cannot be encoded as {codec}, with {film.width}x{film.height}"
                f" pixels ({error.strerror}): try another --codec."
            ) from error
        for packet in packets:
            assert packet.pts is not None
            packet.pts = _FIRST + self._numbers[packet.pts]
            packet.dts = next(self._packets)
            packet.time_base = _NUMBERS
            self._container.mux(packet)


@dataclasses.dataclass(frozen=True)
class Segment:
    """A part of a film in color.

    Attributes:
      path: of its file.
      pts: the time stamps of its frames, in the order in which they were written.
      duration: for how long the last of them is shown, in the same units.
    """

    path: Path
    pts: Int[np.ndarray, " N"]
    duration: int

    def is_whole(self) -> bool:
        """Whether its file is there and has a packet for each frame."""
        try:
            return sum(1 for _ in self.packets()) == len(self.pts)
        except (FFmpegError, OSError):
            return False

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """All packets, as they are decoded, and the number of the frame of each."""
        with av.open(file_url(self.path)) as container:
            for packet in container.demux(video=0):
                if packet.size:
                    assert packet.pts is not None
                    yield packet.pts - _FIRST, packet


def join_segments(
    film: Film,
    segments: Sequence[Segment],
    folder: str | os.PathLike,
    output: str | os.PathLike,
    *,
    start: float = 0.0,
    end: float = math.inf,
    comment: str | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Makes one film of its parts, and of all else that the film in gray has.

    Sound, subtitles, chapters, attachments and what describes them are copied as they are.

    Args:
      film: in gray.
      segments: its frames in color, in order.
      folder: for the unfinished file; on the same disk as `output`.
      output: the file to write.
      start: from where the frames are, in seconds. That is where the result begins.
      end: up to where they are.
      comment: is added to what the film says of itself.
      overwrite: whether a file that is there is replaced.

    Returns:
      What of the film is not in the result, in parts of sentences.

    Raises:
      OutputError: the file cannot be written.
      VideoError: the film cannot be read any more.
    """
    extension = Path(output).suffix.lower()
    options = {"movflags": "+faststart"} if extension in (".mp4", ".mov") else {}
    with (
        _as_output_error(output),
        UnfinishedFile(folder) as file,
        film.open() as source,
    ):
        with av.open(
            file_url(file.stream.name),
            "w",
            format=CONTAINERS[extension].format,
            container_options=options,
        ) as result:
            joint = _Joint(film, source, result, start, end)
            remarks = joint.write(segments, comment)
        (file.replace if overwrite else file.create)(output)
    return remarks


class _Joint:
    """One film on its way from the parts and from the film in gray to its file."""

    def __init__(
        self,
        film: Film,
        source: InputContainer,
        result: OutputContainer,
        start: float,
        end: float,
    ):
        self._film, self._source, self._result = film, source, result
        self._start = film.start + start
        self._end = film.start + end
        self._remarks: list[str] = []

    def write(self, segments: Sequence[Segment], comment: str | None) -> list[str]:
        with av.open(file_url(segments[0].path)) as first:
            pictures = self._result.add_stream_from_template(
                first.streams.video[0], opaque=True
            )
        # From this, MP4 and MOV take the units of their time stamps.
        pictures.time_base = self._film.time_base
        # Time codes need to know the rate.
        pictures.codec_context.framerate = self._film.frame_rate or Fraction(0)
        if pictures.codec_context.name == "hevc" and self._result.format.name in (
            "mp4",
            "mov",
        ):
            # The other name that it may have there is one that Apple's players refuse.
            pictures.codec_context.codec_tag = "hvc1"
        copies: dict[int, Stream] = {}
        for stream in self._source.streams:
            if stream.index == self._film.stream_index:
                self._describe(stream, pictures)
            elif copy := self._copy(stream):
                copies[stream.index] = copy
        if self._film.sample_aspect_ratio:
            pictures.sample_aspect_ratio = self._film.sample_aspect_ratio
        if self._film.display_matrix:
            pictures.set_display_matrix(self._film.display_matrix)
        self._describe_all(comment)
        packets = heapq.merge(
            self._pictures(segments, pictures),
            self._others(copies),
            key=_time_of_decoding,
        )
        for packet in packets:
            self._result.mux(packet)
        return self._remarks

    def _copy(self, stream: Stream) -> Stream | None:
        """A stream of the result that is like one of the film; None if it takes none."""
        format = self._result.format.name
        if stream.type == "data" and "timecode" in stream.metadata:
            return None  # It is among what describes the pictures, too.
        if format == "matroska" and (attachment := self._attachment(stream)):
            self._result.add_attachment(*attachment)
            return None
        if self._takes(stream):
            copy = self._result.add_stream_from_template(stream, opaque=True)
            self._describe(stream, copy)
            return copy
        place = "" if format == "matroska" else " (.mkv may)"
        self._remarks.append(
            f"{_name(stream)} is left out, as {format} does not hold it{place}"
        )
        return None

    def _attachment(self, stream: Stream) -> tuple[str, str, bytes] | None:
        """Name, kind and content of what Matroska attaches: fonts and covers."""
        if stream.type == "attachment":
            attached: Any = stream
            return attached.name or "attachment", attached.mimetype, attached.data
        if not is_cover(stream) or stream.codec_context.name not in _COVERS:
            return None
        name, kind = _COVERS[stream.codec_context.name]
        with self._first_packet(stream) as packet:
            return stream.metadata.get("filename", name), kind, bytes(packet)

    def _takes(self, stream: Stream) -> bool:
        """Whether the result may have such a stream, which only a try tells."""
        format = self._result.format.name
        # MOV has no place for covers, and leaves them out without a word.
        if stream.type == "attachment" or (format == "mov" and is_cover(stream)):
            return False
        try:
            with av.open(io.BytesIO(), "w", format=format) as trial:
                copy = trial.add_stream_from_template(stream, opaque=True)
                trial.start_encoding()
                if stream.type in ("audio", "data"):
                    with self._first_packet(stream) as packet:
                        packet.stream = copy
                        packet.pts = packet.dts = 0
                        trial.mux(packet)
        except (ValueError, FFmpegError):
            return False
        return True

    @contextlib.contextmanager
    def _first_packet(self, stream: Stream) -> Iterator[Packet]:
        with self._film.open() as again:
            yield next(again.demux(again.streams[stream.index]))

    def _describe(self, stream: Stream, copy: Stream) -> None:
        copy.metadata.update(
            (key, value)
            for key, value in stream.metadata.items()
            if key.lower() not in _OF_CONTAINER
        )
        copy.disposition = stream.disposition

    def _describe_all(self, comment: str | None) -> None:
        metadata = {
            key: value
            for key, value in self._source.metadata.items()
            if key.lower() not in _OF_CONTAINER
        }
        if comment:
            old = metadata.get("comment")
            metadata["comment"] = f"{old}\n{comment}" if old else comment
        self._result.metadata.update(metadata)
        chapters = []
        for chapter in self._source.chapters():
            unit = chapter["time_base"]
            assert unit is not None
            first, last = (
                chapter[edge] - round(Fraction(self._start) / unit)
                for edge in ("start", "end")
            )
            if math.isfinite(self._end):
                last = min(last, round(Fraction(self._end - self._start) / unit))
            if last > max(first, 0):
                chapters.append(chapter | {"start": max(first, 0), "end": last})
        if chapters:
            self._result.set_chapters(chapters)

    def _pictures(
        self, segments: Sequence[Segment], stream: Stream
    ) -> Iterator[Packet]:
        """Packets of all parts, as if they had been encoded in one go."""
        unit = self._film.time_base
        shift = round(Fraction(self._start) / unit)
        shown = np.concatenate([segment.pts for segment in segments]) - shift
        # A frame is decoded when one is shown that comes so many earlier.
        delay = max(
            place - number
            for segment in segments
            for place, (number, _) in enumerate(segment.packets())
        )
        step = int(shown[1] - shown[0]) if len(shown) > 1 else 1
        durations = [*np.diff(shown).tolist(), segments[-1].duration]
        decoded = np.concatenate(
            [shown[0] - step * np.arange(delay, 0, -1), shown]
        ).tolist()
        done = 0
        for segment in segments:
            for place, (number, packet) in enumerate(segment.packets()):
                packet.stream = stream
                packet.time_base = unit
                packet.pts = int(shown[done + number])
                packet.dts = decoded[done + place]
                packet.duration = durations[done + number]
                yield packet
            done += len(segment.pts)

    def _others(self, copies: dict[int, Stream]) -> Iterator[Packet]:
        """Packets of all other streams, from the start to the end."""
        streams = [self._source.streams[index] for index in copies]
        if not streams:
            return
        is_cut = self._start > self._film.start
        if is_cut:
            # Streams without a container cannot: they are read from their beginning.
            with contextlib.suppress(FFmpegError):
                self._source.seek(round(1e6 * max(0, self._start - _INTERLEAVED)))
        packets = self._source.demux(streams)
        last: dict[int, int] = {}
        time = self._start
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                self._remarks.append(
                    f"its sound cannot be read beyond {clock(time - self._film.start)}"
                    f" ({error.strerror})"
                )
                return
            if packet is None:
                return
            if not packet.size:
                continue
            place = packet.stream.index
            copy = copies[place]
            if is_cover(packet.stream):
                packet.pts = packet.dts = 0
            else:
                if packet.pts is None:
                    packet.pts = packet.dts
                if packet.dts is None:
                    packet.dts = packet.pts
                if packet.pts is None or packet.dts is None:
                    continue
                time = float(packet.pts * packet.time_base)
                if time >= self._end - TOLERANCE:
                    if time > self._end + _INTERLEAVED:
                        return
                    continue
                if is_cut and time < self._start - TOLERANCE:
                    continue
                shift = round(Fraction(self._start) / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                # Damaged streams go back in time, which no container takes.
                assert copy.time_base is not None
                unit = copy.time_base / packet.time_base
                least = last.get(place, -math.inf) + (not self._may_repeat(copy))
                if round(packet.dts / unit) < least:
                    packet.dts = math.ceil(least * unit)
                    packet.pts = max(packet.pts, packet.dts)
                last[place] = round(packet.dts / unit)
            packet.stream = copy
            yield packet

    def _may_repeat(self, copy: Stream) -> bool:
        """Whether two packets of a stream may have the same time stamp."""
        return copy.type not in ("audio", "video") or self._result.format.name in (
            "matroska",
            "webm",
        )


def _name(stream: Stream) -> str:
    kinds = {"audio": "sound", "subtitle": "a subtitle", "video": "another picture"}
    if is_cover(stream):
        kinds["video"] = "a cover"
    kind = kinds.get(stream.type, f"a stream of type {stream.type}")
    codec = getattr(stream.codec_context, "codec", None)
    name = f", {codec.canonical_name}" if codec else ""
    return f"{kind} (stream {stream.index}{name})"


def _time_of_decoding(packet: Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


@contextlib.contextmanager
def _as_output_error(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}."
        ) from error
