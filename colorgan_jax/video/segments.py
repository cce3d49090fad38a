"""The parts of a film in color, each a file of its own, until they are joined."""

import contextlib
import heapq
import itertools
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
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame

from colorgan_jax.errors import OutputError
from colorgan_jax.paths import UnfinishedFile
from colorgan_jax.video.encoding import CONTAINERS, Encoding
from colorgan_jax.video.film import TOLERANCE, Film

# Matroska holds all codecs, but times in milliseconds only: in the file of a part, those of
# its frames are their numbers. The first comes so much later, since no packet may be
# decoded after its frame is shown, and frames are encoded in another order.
_FIRST = 16
_NUMBERS = Fraction(1, 1000)

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
        self._container = av.open(self._file.stream.name, "w", format="matroska")
        self._stream = self._encoding.add_stream(self._container)
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._container.close()
        finally:
            self._file.__exit__(*error)

    @property
    def frames(self) -> int:
        """How many there are so far."""
        return len(self._numbers)

    def write(self, frame: VideoFrame) -> None:
        """Encodes the next frame, from `Encoding.prepare`."""
        assert frame.pts is not None
        self._numbers[frame.pts] = len(self._numbers)
        self._mux(self._stream.encode(frame))

    def finish(self, path: str | os.PathLike) -> None:
        """Encodes what is left and names the file."""
        self._mux(self._stream.encode(None))
        self._container.close()
        self._file.replace(path)

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            packet.pts = _FIRST + self._numbers[packet.pts]
            packet.dts = next(self._packets)
            packet.time_base = _NUMBERS
            self._container.mux(packet)


class Segment:
    """A part of a film in color.

    Attributes:
      path: of its file.
      pts: the time stamps of its frames, int64 [N].
    """

    def __init__(self, path: Path, pts: np.ndarray):
        """`pts` are in the order in which the frames were written."""
        self.path = path
        self.pts = pts

    def is_whole(self) -> bool:
        """Whether its file is there and has a packet for each frame."""
        try:
            return sum(1 for _ in self.packets()) == len(self.pts)
        except (FFmpegError, OSError):
            return False

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """All packets, as they are decoded, and the number of the frame of each."""
        with av.open(os.fspath(self.path)) as container:
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
    end: float | None = None,
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
      end: up to where they are; None for the end of the film.
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
            file.stream.name,
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
        end: float | None,
    ):
        self._film, self._source, self._result = film, source, result
        self._start = film.start + start
        self._end = None if end is None else film.start + end
        self._remarks: list[str] = []

    def write(self, segments: Sequence[Segment], comment: str | None) -> list[str]:
        with av.open(os.fspath(segments[0].path)) as first:
            pictures = self._result.add_stream_from_template(
                first.streams.video[0], opaque=True
            )
        copies: dict[int, Stream] = {}
        for stream in self._source.streams:
            if stream.index == self._film.stream_index:
                self._describe(stream, pictures)
            elif copy := self._copy(stream):
                copies[stream.index] = copy
        if self._film.sample_aspect_ratio:
            pictures.sample_aspect_ratio = self._film.sample_aspect_ratio
        if self._film.quarter_turns:
            pictures.set_display_rotation(90 * self._film.quarter_turns)
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
        try:
            if stream.type == "attachment" and format == "matroska":
                attached: Any = stream
                self._result.add_attachment(
                    attached.name or "attachment", attached.mimetype, attached.data
                )
                return None
            if stream.type != "attachment":
                copy = self._result.add_stream_from_template(stream, opaque=True)
                self._describe(stream, copy)
                return copy
        except ValueError:
            pass
        place = "" if format == "matroska" else " (.mkv may)"
        self._remarks.append(
            f"{_name(stream)} is left out, as {format} does not hold it{place}"
        )
        return None

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
            if self._end is not None:
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
                yield packet
            done += len(segment.pts)

    def _others(self, copies: dict[int, Stream]) -> Iterator[Packet]:
        streams = [self._source.streams[index] for index in copies]
        if not streams:
            return
        for packet in self._source.demux(streams):
            if not packet.size:
                continue
            if packet.stream.disposition & Disposition.attached_pic:
                packet.pts = packet.dts = 0
            elif packet.dts is None or packet.pts is None:
                continue
            else:
                time = float(packet.pts * packet.time_base)
                if time < self._start - TOLERANCE and self._start > self._film.start:
                    continue
                if self._end is not None and time >= self._end - TOLERANCE:
                    continue
                shift = round(Fraction(self._start) / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
            packet.stream = copies[packet.stream.index]
            yield packet


def _name(stream: Stream) -> str:
    kinds = {"audio": "sound", "subtitle": "a subtitle", "video": "another picture"}
    kind = kinds.get(stream.type, f"a stream of type {stream.type}")
    codec = getattr(stream.codec_context, "name", None)
    return f"{kind} (stream {stream.index}{f', {codec}' if codec else ''})"


def _time_of_decoding(packet: Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * packet.time_base


@contextlib.contextmanager
def _as_output_error(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # FFmpeg's are of this kind, too.
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}."
        ) from error
