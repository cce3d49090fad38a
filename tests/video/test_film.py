"""Films as they are read: their frames, times, colors and faults."""

from fractions import Fraction

import av
import numpy as np
import pytest
from film_clips import pictures, write_film
from PIL import Image

from colorgan_jax.errors import VideoError
from colorgan_jax.video.film import Film, clock


@pytest.fixture
def film_of(tmp_path):
    def make(frames, name="film.mkv", **options):
        write_film(tmp_path / name, frames, **options)
        return Film(tmp_path / name)

    return make


def all_pixels(film):
    return np.stack([film.pixels(frame.picture) for frame in film.frames()])


def test_grays_come_back_as_they_were(film_of):
    frames = pictures(5)
    film = film_of(frames, codec="ffv1")
    assert (film.height, film.width, film.bits) == (48, 64, 8)
    # 219 levels of the 256 are stored.
    assert np.abs(all_pixels(film).astype(int) - frames).max() <= 1


def test_more_than_8_bits_are_16(film_of):
    levels = np.linspace(0, 65535, 64).astype(np.uint16)
    frames = np.broadcast_to(levels[:, None], (2, 48, 64, 3))
    film = film_of(frames, codec="ffv1", pixel_format="yuv420p10le")
    assert film.bits == 10
    # 876 levels of the 65536 are stored.
    assert np.abs(all_pixels(film).astype(int) - frames).max() <= 65535 / 876


@pytest.mark.parametrize(
    ("height", "tag", "weights"),
    [
        (48, 2, (0.299, 0.114)),  # Nothing is said, and few rows: BT.601,
        (720, 2, (0.2126, 0.0722)),  # many: BT.709.
        (48, 1, (0.2126, 0.0722)),
    ],
)
def test_colors_are_those_of_the_matrix(tmp_path, height, tag, weights):
    red, blue = weights
    rgb = np.array([0.8, 0.4, 0.2])
    luma = np.dot(rgb, [red, 1 - red - blue, blue])
    chroma = (rgb[[2, 0]] - luma) / (2 * (1 - np.array([blue, red])))
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv444p"
        stream.codec_context.colorspace = tag
        frame = av.VideoFrame(64, height, "yuv444p")
        for plane, value in zip(
            frame.planes, [16 + 219 * luma, *(128 + 224 * chroma)], strict=True
        ):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    film = Film(path)
    pixels = all_pixels(film)[0]
    np.testing.assert_allclose(pixels[20, 30], 255 * rgb, atol=2)


def test_times_are_those_of_the_file(film_of):
    pts = [0, 40, 55, 120, 121, 300]
    film = film_of(pictures(6), codec="ffv1", pts=pts, time_base=Fraction(1, 1000))
    frames = list(film.frames())
    assert [frame.pts * film.time_base for frame in frames] == [
        Fraction(time, 1000) for time in pts
    ]
    np.testing.assert_allclose([frame.time for frame in frames], np.array(pts) / 1000)
    between = film.frames(start=0.055, end=0.3)
    assert [round(1000 * frame.time) for frame in between] == [55, 120, 121]


def test_frames_since_one_are_those_after_it(film_of):
    film = film_of(pictures(60), name="film.mp4", options=[("g", "20")])
    frames = list(film.frames())
    for first in (0, 19, 20, 33, 59):
        later = list(film.frames(since=frames[first].pts))
        assert [frame.pts for frame in later] == [frame.pts for frame in frames[first:]]
        np.testing.assert_array_equal(
            later[0].picture.to_ndarray(), frames[first].picture.to_ndarray()
        )


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_frames_are_as_players_turn_them(film_of, turns):
    frames = np.full((3, 48, 64, 3), 40, np.uint8)
    frames[:, :24, :32] = 220
    film = film_of(
        frames,
        name="film.mp4",
        describe=lambda container, stream: stream.set_display_rotation(90 * turns),
    )
    # Counterclockwise, as FFmpeg's display matrix counts.
    shown = np.rot90(frames[0], turns)
    assert all_pixels(film)[0].shape == shown.shape
    assert np.abs(all_pixels(film)[0].astype(int) - shown).mean() < 4


def test_interlaced_frames_are_no_combs(film_of):
    shown = pictures(25, height=64)
    # Of each frame the lines in between are of the next moment.
    frames = shown[:-1].copy()
    frames[:, 1::2] = np.roll(shown, -3, axis=2)[1:, 1::2]
    film = film_of(frames, options=[("crf", "5"), ("x264-params", "interlaced=1")])
    found = list(film.frames())
    assert [frame.pts for frame in found] == [40 * i for i in range(24)]
    pixels = all_pixels(film).astype(int)

    def comb(frames):
        return np.abs(np.diff(frames.astype(int), 2, axis=1)).mean()

    assert comb(pixels[2:-2]) < 0.6 * comb(frames[2:-2])
    # The lines of the moment that comes first in the file are as they were.
    assert min(np.abs(pixels - frames)[:, odd::2].mean() for odd in (0, 1)) < 3
    later = list(film.frames(since=found[10].pts))
    assert [frame.pts for frame in later] == [frame.pts for frame in found[10:]]


def test_damaged_packets_are_left_out_and_told(film_of):
    path = film_of(pictures(50), name="film.mkv", options=[("g", "5")]).path
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    film = Film(path)
    assert 20 < len(list(film.frames())) < 50
    assert len(film.remarks) >= 1


def test_a_film_that_was_cut_off_ends_there(film_of):
    path = film_of(pictures(250), codec="mpeg4").path
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    film = Film(path)
    frames = list(film.frames())
    assert 50 < len(frames) < 200
    (remark,) = film.remarks
    assert remark.startswith(f"it ends at {clock(frames[-1].time)}")


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.float32), format="fltp", layout="mono"
        )
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))


def test_a_part_has_all_its_frames_in_a_stream_without_an_index(film_of):
    film = film_of(pictures(50), name="film.ts", options=[("g", "12")])
    frames = list(film.frames())
    # Where MPEG-TS is entered, frames are missing up to the next key frame.
    for first in (13, 25, 30):
        later = list(film.frames(start=frames[first].time))
        assert [frame.pts for frame in later] == [frame.pts for frame in frames[first:]]


def test_a_stream_without_a_container_is_read_from_its_beginning(film_of):
    film = film_of(pictures(30), name="film.h264")
    pts = [frame.pts for frame in film.frames()]
    assert len(pts) == 30
    assert [frame.pts for frame in film.frames(since=pts[20])] == pts[20:]
    assert len(list(film.frames(start=0.4))) == 20


def test_frames_last_as_long_as_the_file_says(film_of):
    film = film_of(pictures(4), name="film.mp4", options=[("bf", "0")])
    assert {frame.duration * film.time_base for frame in film.frames()} == {
        Fraction(1, 25)
    }


def test_sound_that_goes_on_is_no_cut_off_film(tmp_path):
    path = tmp_path / "film.mkv"
    write_film(tmp_path / "short.mkv", pictures(10))
    write_film(tmp_path / "long.mkv", pictures(2), pts=[0, 5 * 12800], sound=True)
    with (
        av.open(str(tmp_path / "short.mkv")) as short,
        av.open(str(tmp_path / "long.mkv")) as long,
        av.open(str(path), "w") as container,
    ):
        parts = [(short, short.streams.video[0]), (long, long.streams.audio[0])]
        copies = [
            container.add_stream_from_template(stream, opaque=True)
            for _, stream in parts
        ]
        for (source, stream), copy in zip(parts, copies, strict=True):
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    container.mux(packet)
    film = Film(path)
    assert film.duration > 5
    assert len(list(film.frames())) == 10 and not film.remarks


def test_fewer_than_8_bits_are_8(film_of):
    film = film_of(pictures(2), name="film.mov", codec="qtrle", pixel_format="rgb555be")
    pixels = all_pixels(film)
    assert pixels.dtype == np.uint8
    # 32 levels, and swscale's dither.
    assert np.abs(pixels.astype(int) - pictures(2)).max() <= 16


def test_a_colon_in_a_name_is_of_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_film("film.mp4", pictures(4))
    (tmp_path / "film.mp4").rename("Film: the first.mp4")
    assert len(list(Film("Film: the first.mp4").frames())) == 4


def write_no_frames(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()


def write_start(path):
    """Of an MP4 whose index is at its end."""
    write_film(path, pictures(20))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 10])


@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("missing.mp4", lambda path: None, "No such file"),
        ("folder.mp4", lambda path: path.mkdir(), "directory"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "no film"),
        ("text.mp4", lambda path: path.write_text("text\n" * 999), "no film"),
        ("cut.mp4", write_start, "no film"),
        ("sound.m4a", write_sound, "no moving pictures"),
        ("notes.txt", lambda path: path.write_text("text\n" * 999), "no film"),
        ("nothing.mkv", write_no_frames, "no film"),
        ("photo.png", lambda path: Image.new("L", (9, 9)).save(path), "is a photo"),
    ],
)
def test_what_is_no_film_is_one_sentence(tmp_path, name, write, words):
    write(tmp_path / name)
    with pytest.raises(VideoError, match=words) as caught:
        Film(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_name_does_not_matter(tmp_path):
    write_film(tmp_path / "film.mp4", pictures(4))
    (tmp_path / "film.mp4").rename(tmp_path / "film.txt")
    assert len(list(Film(tmp_path / "film.txt").frames())) == 4


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (83.9, "0:01:23"), (3723, "1:02:03")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text
