"""Films as PyAV reads them: FFmpeg's containers and codecs, which come with its package."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from av.filter import Graph
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from jaxtyping import UInt8, UInt16

from colorgan_jax.errors import VideoError

# What FFmpeg calls its readers of single pictures ends or begins like this.
_PICTURES = ("image2", "_pipe")
# And its reader of texts, which it shows as a terminal would.
_TEXT = "tty"
# AVCOL_SPC_* of films that say nothing: players take BT.709 from 720 rows on, else BT.601.
_UNSPECIFIED, _RGB, _BT709, _BT601 = 2, 0, 1, 6
_HD_ROWS = 720
# What swscale calls the matrices AVCOL_SPC_*.
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# AVCOL_RANGE_*: of 16 to 235, and of 0 to 255.
_LIMITED, _FULL = 1, 2
# Times closer to each other than this, in seconds, are the same.
TOLERANCE = 1e-6
# A film that ends so many seconds before its stated end was cut off.
_CUT_OFF = 2.0


@dataclasses.dataclass(frozen=True)
class Frame:
    """A frame of a film.

    Attributes:
      pts: its time stamp, in units of `Film.time_base`; no two frames have the same.
      duration: for how long it is shown, in the same units.
      time: seconds from the film's beginning.
      picture: as it was decoded; `Film.pixels` reads it.
    """

    pts: int
    duration: int
    time: float
    picture: VideoFrame


class Film:
    """A film whose frames can be read, as often as wanted.

    Attributes:
      path: of its file.
      height: of the frames as they are stored, before they are turned.
      width: the same.
      bits: of each sample: mostly 8, or more.
      time_base: seconds of a unit of time stamps.
      frame_rate: frames a second, on average; None if the file does not say.
      duration: seconds; None if the file does not say.
      start: what its time stamps say where it begins, in seconds.
      stream_index: which stream of the file it is.
      sample_aspect_ratio: width of a pixel by its height; None if the file does not say.
      primaries: of its colors, as FFmpeg counts them (AVCOL_PRI_*).
      transfer: the same of the transfer curve (AVCOL_TRC_*).
      matrix: the same of Y'CbCr (AVCOL_SPC_*); 2 if the file does not say.
      range: the same of the range (AVCOL_RANGE_*).
      display_matrix: how players turn and mirror the frames, as FFmpeg says it; None if
        they do not.
      quarter_turns: how often they turn them by 90 degrees, counterclockwise.
      remarks: what was found while frames were read, in parts of sentences.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens a film and looks at its first frame.

        Raises:
          VideoError: it cannot be read, or is no film.
        """
        self.path = Path(path)
        self.remarks: dict[str, None] = {}
        with self.open() as container:
            moving = (s for s in container.streams.video if not is_cover(s))
            if (stream := next(moving, None)) is None:
                raise VideoError(f"{path} has no moving pictures to colorize.")
            if container.format.name == _TEXT:
                raise VideoError(f"{path} is no film, or is damaged.")
            if any(kind in container.format.name for kind in _PICTURES):
                raise VideoError(f"{path} is a photo, not a film: colorgan colorize.")
            assert stream.time_base is not None
            self.stream_index = stream.index
            self.time_base = stream.time_base
            self.frame_rate = stream.average_rate or stream.guessed_rate
            self.duration = _duration(container, stream)
            self._stated_end = _stated_end(container, stream)
            self.start = (container.start_time or 0) / 1_000_000
            context = stream.codec_context
            self.sample_aspect_ratio = stream.sample_aspect_ratio
            self.primaries = context.color_primaries
            self.transfer = context.color_trc
            is_rgb = context.colorspace == _RGB
            self.matrix = _UNSPECIFIED if is_rgb else context.colorspace
            self.range = context.color_range
        self._is_interlaced = False
        first = next(self.frames(), None)
        if first is None:
            raise VideoError(f"{path} has no frame that can be decoded.")
        picture = first.picture
        self.height, self.width = picture.height, picture.width
        self.bits = max(component.bits for component in picture.format.components)
        self.display_matrix: tuple[int, ...] | None = None
        self.quarter_turns = 0
        if matrix := picture.side_data.get("DISPLAYMATRIX"):
            self.display_matrix = tuple(np.frombuffer(matrix, np.int32).tolist())
            # Of its second row, which mirroring left and right does not change.
            x, y = self.display_matrix[3:5]
            self.quarter_turns = round(math.atan2(x, y) / (math.pi / 2)) % 4
        self._is_rgb = picture.format.is_rgb
        self._is_interlaced = picture.interlaced_frame

    @property
    def assumed_frame_rate(self) -> Fraction:
        """Frames a second, on average; 25 if the file does not say."""
        return self.frame_rate or Fraction(25)

    @property
    def swscale_matrix(self) -> int:
        """The matrix that players take, as swscale calls it."""
        guess = _BT709 if self.height >= _HD_ROWS else _BT601
        return _SWSCALE_MATRIX.get(self.matrix, _SWSCALE_MATRIX[guess])

    @property
    def swscale_range(self) -> int:
        """The range that players take: 1 is 16 to 235, 2 is 0 to 255."""
        return _FULL if self.range == _FULL else _LIMITED

    def frames(
        self,
        *,
        start: float = 0.0,
        end: float = math.inf,
        since: int | None = None,
    ) -> Iterator[Frame]:
        """Decodes frames, in the order of their time stamps.

        Packets that cannot be decoded are left out, with a remark. Time stamps that are
        missing or do not grow are made up. Of interlaced films the lines in between are
        filled in (FFmpeg's bwdif): as many frames as before, none of them a comb.

        Args:
          start: in seconds: the first frame is the first that begins then or later.
          end: in seconds: frames that begin then or later are left out.
          since: in place of `start`, the time stamp of the first.

        Raises:
          VideoError: the file cannot be read any more.
        """
        if since is not None or start > 0:
            found = self._decode(start, end, since, seeks=True)
            # Where a file leads to another frame than it says, it is read from the start.
            if (first := next(found, None)) is not None:
                yield first
                yield from found
                return
        yield from self._decode(start, end, since, seeks=False)

    def _decode(
        self, start: float, end: float, since: int | None, *, seeks: bool
    ) -> Iterator[Frame]:
        """The same, of the file from its beginning, or from where it says they are.

        In the latter case there are none if the first is not among what is found there.
        """
        with self.open() as container:
            stream = container.streams[self.stream_index]
            assert isinstance(stream, VideoStream)
            stream.thread_type = "AUTO"
            if seeks:
                earliest = (
                    since
                    if since is not None
                    else math.floor((start + self.start) / self.time_base)
                )
                try:
                    container.seek(earliest, stream=stream)
                except FFmpegError:  # Streams without a container cannot.
                    return
            last: int | None = None
            time = end_of_last = 0.0
            is_found = not seeks
            pictures = self._pictures(container, stream)
            if self._is_interlaced:
                pictures = _deinterlace(pictures, self.time_base)
            for picture in pictures:
                pts = picture.pts
                if pts is None and last is None and seeks:
                    return  # It could be any.
                if pts is None or (last is not None and pts <= last):
                    pts = self._next_pts(last)
                last = pts
                time = float(pts * self.time_base) - self.start
                duration = picture.duration or self._frame_duration
                end_of_last = time + float(duration * self.time_base)
                if time >= end - TOLERANCE:
                    return
                if since is not None:
                    is_found = is_found or pts == since
                    is_wanted = pts >= since
                else:
                    is_found = is_found or time <= start + TOLERANCE
                    is_wanted = time >= start - TOLERANCE
                if is_wanted:
                    if not is_found:
                        return
                    yield Frame(pts, duration, time, picture)
        stated = self._stated_end
        if stated is not None and end_of_last < stated - _CUT_OFF:
            self.remarks[
                f"it ends at {clock(time)}, before the {clock(stated)} that it says"
            ] = None

    def _next_pts(self, last: int | None) -> int:
        if last is None:
            return round(self.start / self.time_base)
        return last + self._frame_duration

    @property
    def _frame_duration(self) -> int:
        """Of a frame where nothing else is known."""
        return max(1, round(1 / (self.assumed_frame_rate * self.time_base)))

    def _pictures(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[VideoFrame]:
        """All that can be decoded."""
        packets = container.demux(stream)
        damaged: list[float] = []
        time = 0.0
        while True:
            try:
                packet = next(packets, None)
            except FFmpegError as error:
                self.remarks[f"it cannot be read beyond {clock(time)} ({error})"] = None
                packet = None
            try:
                # At last what the decoder holds, which it may have given up already.
                pictures = packet.decode() if packet else stream.decode()
            except EOFError:
                break
            except FFmpegError:
                damaged.append(time)
                pictures = []
            for picture in pictures:
                if picture.pts is not None:
                    time = float(picture.pts * self.time_base) - self.start
                yield picture
            if packet is None:
                break
        if damaged:
            count = "1 packet" if len(damaged) == 1 else f"{len(damaged)} packets"
            place = clock(damaged[0])
            self.remarks[f"{count} from {place} on could not be decoded"] = None

    def pixels(
        self, picture: VideoFrame
    ) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """R'G'B' of a frame as players show it, but for its shape. Threads may call it.

        Args:
          picture: of one of its frames.

        Returns:
          Over the whole range of 8 bits, or of 16 where the film has more than 8.
        """
        rgb = picture.reformat(
            # The size may change in the middle of a film.
            width=self.width,
            height=self.height,
            format="rgb24" if self.bits <= 8 else "rgb48le",
            src_colorspace=self.swscale_matrix,
            dst_colorspace=self.swscale_matrix,
            src_color_range=_FULL if self._is_rgb else self.swscale_range,
            dst_color_range=_FULL,
        )
        return np.rot90(rgb.to_ndarray(), self.quarter_turns)

    @contextlib.contextmanager
    def open(self) -> Iterator[InputContainer]:
        """Opens its file once more.

        Raises:
          VideoError: it cannot be read.
        """
        with _as_video_error(self.path):
            container = av.open(file_url(self.path), metadata_errors="replace")
        with container:
            yield container


def file_url(path: str | os.PathLike) -> str:
    """A path as FFmpeg takes it: a colon in its name would else end that of a protocol."""
    return f"file:{os.fspath(path)}"


def is_cover(stream: Stream) -> bool:
    """Whether a stream is a picture that goes with the film."""
    return bool(stream.disposition & Disposition.attached_pic)


def clock(seconds: float) -> str:
    """A time of a film as players show it: 1:02:03."""
    minutes, seconds = divmod(math.floor(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _deinterlace(
    pictures: Iterable[VideoFrame], time_base: Fraction
) -> Iterator[VideoFrame]:
    graph = Graph()
    source = None
    for picture in pictures:
        if source is None:
            source = graph.add_buffer(
                width=picture.width,
                height=picture.height,
                format=picture.format,
                time_base=time_base,
            )
            bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        graph.vpush(picture)
        yield from _pull(graph, time_base)
    if source is not None:
        graph.vpush(None)
        yield from _pull(graph, time_base)


def _pull(graph: Graph, time_base: Fraction) -> Iterator[VideoFrame]:
    """What a graph of filters has ready."""
    while True:
        try:
            picture = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        if picture.pts is not None and picture.time_base is not None:
            # In units of its own.
            unit = picture.time_base / time_base
            picture.pts = round(picture.pts * unit)
            picture.duration = round(picture.duration * unit)
            picture.time_base = time_base
        yield picture


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return container.duration / 1_000_000
    return None


def _stated_end(container: InputContainer, stream: VideoStream) -> float | None:
    """The duration of the pictures alone; None if the file does not say."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if len(container.streams) == 1:
        return _duration(container, stream)
    # Matroska's, of most programs that write it.
    try:
        hours, minutes, seconds = map(float, stream.metadata["DURATION"].split(":"))
    except (KeyError, ValueError):
        return None
    return 3600 * hours + 60 * minutes + seconds


@contextlib.contextmanager
def _as_video_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (InvalidDataError, EOFError) as error:
        raise VideoError(f"{path} is no film, or is damaged.") from error
    except (FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path} cannot be read: {reason}.") from error
