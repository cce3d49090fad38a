"""Short films for tests, as PyAV writes them."""

from fractions import Fraction

import av
import numpy as np

RATE = Fraction(25)


def pictures(count, height=48, width=64, seed=0):
    """R'G'B' frames [count, height, width, 3], gray, of a pan over blurred noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(40, 216, (height // 4 + 2, (width + count) // 4 + 3))
    scene = coarse.astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    frames = [scene[:height, x : x + width] for x in range(count)]
    return np.stack([np.stack(frames)] * 3, axis=-1)


def write_film(
    path,
    frames,
    *,
    pts=None,
    time_base=Fraction(1, 12800),
    codec="libx264",
    pixel_format="yuv420p",
    rate=RATE,
    sound=False,
    describe=lambda container, stream: None,
    options=(),
):
    """Writes a film.

    Args:
      path: its extension decides on the container.
      frames: R'G'B' [N, H, W, 3], uint8 or uint16.
      pts: of the frames, in units of `time_base`; by default those of 25 a second.
      time_base: seconds.
      codec: an encoder of FFmpeg.
      pixel_format: FFmpeg's.
      rate: of frames, that the file tells.
      sound: whether there is some, too, or an encoder of it.
      describe: called with the container and the stream of pictures before all else.
      options: of the encoder.
    """
    step = int(1 / (RATE * time_base))
    pts = [step * i for i in range(len(frames))] if pts is None else pts
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        if sound:
            encoder, sound_rate, layout = (
                ("aac", 8000, "mono") if sound is True else (sound, 48000, "stereo")
            )
            heard = container.add_stream(encoder, rate=sound_rate, layout=layout)
        describe(container, stream)
        for time, pixels in zip(pts, frames, strict=True):
            name = "rgb24" if pixels.itemsize == 1 else "rgb48le"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), name)
            frame = frame.reformat(format=pixel_format)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            seconds = float((pts[-1] + step) * time_base)
            noise = np.random.default_rng(0).normal(
                0, 0.1, (heard.channels, int(sound_rate * seconds))
            )
            tone = av.AudioFrame.from_ndarray(
                noise.astype(np.float32), format="fltp", layout=layout
            )
            tone.sample_rate = sound_rate
            container.mux(heard.encode(tone))
            container.mux(heard.encode(None))


def read_film(path):
    """The times of all frames, in seconds as fractions, and their R'G'B'."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts * frame.time_base for frame in frames]
    return times, np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def packets(path, kind):
    """Time and content of all packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
