"""Films of several parts: one picture after the other, and all else as it was."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from film_clips import packets, pictures, read_film, write_film
from PIL import Image

from colorgan_jax.errors import OutputError, VideoError
from colorgan_jax.video.encoding import CODECS, Encoding
from colorgan_jax.video.film import Film
from colorgan_jax.video.segments import Segment, SegmentWriter, join_segments


def encode(film, folder, encoding, lengths, **times):
    """Writes the frames of a film into parts of these lengths."""
    frames = film.frames(**times)
    segments = []
    for number, length in enumerate(lengths):
        pts = []
        with SegmentWriter(folder, encoding) as writer:
            for _, frame in zip(range(length), frames, strict=False):
                pixels = film.pixels(frame.picture)
                writer.write(encoding.prepare(pixels, frame.pts))
                pts.append(frame.pts)
            writer.finish(folder / f"{number}.mkv")
        segments.append(
            Segment(folder / f"{number}.mkv", np.array(pts), frame.duration)
        )
        assert segments[-1].is_whole()
    return segments


@pytest.fixture
def joined(tmp_path):
    """Encodes a film in parts and joins them."""

    def run(source, name, lengths=(10, 10), codec=None, **times):
        film = Film(source)
        output = tmp_path / "result" / name
        output.parent.mkdir()
        encoding = Encoding.choose(film, output, codec)
        segments = encode(film, tmp_path, encoding, lengths, **times)
        remarks = join_segments(film, segments, tmp_path, output, **times)
        assert [path.name for path in output.parent.iterdir()] == [name]
        return output, [*encoding.remarks, *remarks]

    return run


PTS = np.cumsum([0, *[300, 512, 812] * 10])[:28].tolist()


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("h264", "film.mp4"),
        ("h264", "film.mkv"),
        ("h265", "film.mov"),
        ("vp9", "film.webm"),
        ("av1", "film.mp4"),
        ("ffv1", "film.mkv"),
        ("prores", "film.mov"),
    ],
)
def test_frames_and_times_of_all_parts_follow_each_other(tmp_path, joined, codec, name):
    source = tmp_path / "film.mov"
    frames = pictures(28, height=64)
    write_film(source, frames, pts=PTS, codec="libx264", options=[("crf", "5")])
    output, remarks = joined(source, name, (9, 1, 18), codec)
    assert remarks == []
    times, shown = read_film(output)
    # Matroska and WebM count milliseconds.
    tolerance = Fraction(1, 1999) if name.endswith(("mkv", "webm")) else 0
    for time, pts in zip(times, PTS, strict=True):
        assert abs(time - Fraction(pts, 12800)) <= tolerance
    parts = [read_film(tmp_path / f"{number}.mkv")[1] for number in range(3)]
    np.testing.assert_array_equal(shown, np.concatenate(parts))
    assert np.abs(shown.astype(int) - frames).mean() < 6
    with av.open(str(output)) as container:
        decoded = [p.dts for p in container.demux(video=0) if p.size and p.dts]
    assert decoded == sorted(set(decoded))


def test_lossless_is_lossless(tmp_path):
    source = tmp_path / "film.mkv"
    write_film(source, pictures(3), codec="ffv1")
    film = Film(source)
    encoding = Encoding.choose(film, "film.mkv", "ffv1")
    (segment,) = encode(film, tmp_path, encoding, [3])
    with av.open(str(source)) as before, av.open(str(segment.path)) as after:
        for old, new in zip(before.decode(video=0), after.decode(video=0), strict=True):
            one, other = (frame.to_ndarray().astype(int) for frame in (old, new))
            assert np.abs(one - other).max() <= 1


def test_more_than_8_bits_stay(tmp_path, joined):
    source = tmp_path / "film.mkv"
    levels = np.linspace(2000, 60000, 64).astype(np.uint16)
    frames = np.broadcast_to(levels[:, None], (4, 48, 64, 3))
    write_film(source, frames, codec="ffv1", pixel_format="yuv420p10le")
    output, remarks = joined(source, "film.mp4", [4])
    assert remarks == []
    film = Film(output)
    assert film.bits == 10
    pixels = film.pixels(next(film.frames()).picture)
    assert np.abs(pixels.astype(int) - frames[0]).max() < 1200  # 18 of 1024 levels


def test_bits_that_a_codec_lacks_are_told(tmp_path, joined):
    source = tmp_path / "film.mkv"
    write_film(source, pictures(2), codec="ffv1", pixel_format="yuv420p10le")
    _, remarks = joined(source, "film.webm", [2], codec="vp9")
    assert remarks == ["its 10 bits became 8, as vp9 has no more"]


def test_odd_sizes_become_even(tmp_path, joined):
    source = tmp_path / "film.mkv"
    frames = pictures(3, height=47, width=63)
    write_film(source, frames, codec="ffv1", pixel_format="yuv444p")
    output, (remark,) = joined(source, "film.mp4", [3])
    assert "63x47" in remark and "64x48" in remark
    _, shown = read_film(output)
    assert shown.shape == (3, 48, 64, 3)
    assert np.abs(shown[:, :47, :63].astype(int) - frames).mean() < 6


def describe(container, stream):
    container.metadata.update(title="The film", comment="From a reel")
    stream.metadata["language"] = "ger"
    container.set_chapters(
        [
            {
                "id": number,
                "start": 400 * number,
                "end": 400 * (number + 1),
                "time_base": Fraction(1, 1000),
                "metadata": {"title": f"Part {number}"},
            }
            for number in range(2)
        ]
    )


@pytest.fixture
def full_film(tmp_path):
    """A film with sound, chapters, a font, a turn and pixels that are no squares."""
    path = tmp_path / "full.mkv"

    def everything(container, stream):
        describe(container, stream)
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        container.add_attachment("font.ttf", "font/ttf", b"glyphs")

    write_film(path, pictures(20), sound=True, describe=everything)
    return path


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_all_else_is_copied(full_film, joined, name):
    output, remarks = joined(full_film, name, (12, 8))
    assert [content for _, content in packets(output, "audio")] == [
        content for _, content in packets(full_film, "audio")
    ]
    with av.open(str(output)) as film:
        assert film.metadata.get("title") == "The film"
        names = [chapter["metadata"]["title"] for chapter in film.chapters()]
        assert names == ["Part 0", "Part 1"]
        starts = [c["start"] * c["time_base"] for c in film.chapters()]
        assert starts == [0, Fraction(2, 5)]
        stream = film.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(16, 15)
        assert stream.language == "ger"
        fonts = [s.data for s in film.streams if s.type == "attachment"]
    if name == "film.mkv":
        assert fonts == [b"glyphs"] and remarks == []
    else:
        (remark,) = remarks
        assert "attachment" in remark and ".mkv" in remark


def test_the_turn_is_kept(tmp_path, joined):
    source = tmp_path / "film.mp4"
    write_film(
        source,
        pictures(3),
        describe=lambda container, stream: stream.set_display_rotation(90),
    )
    output, _ = joined(source, "result.mp4", [3])
    film = Film(output)
    assert (film.height, film.width, film.quarter_turns) == (48, 64, 1)
    assert np.abs(read_film(output)[1].astype(int) - pictures(3)).mean() < 6


@pytest.mark.parametrize("name", ["film.mp4", "film.mov", "film.mkv"])
def test_a_mirror_is_kept(tmp_path, joined, name):
    source = tmp_path / "film.mp4"
    write_film(
        source,
        pictures(3),
        describe=lambda container, stream: stream.set_display_rotation(0, hflip=True),
    )
    output, _ = joined(source, name, [3])
    before, after = Film(source), Film(output)
    assert before.display_matrix is not None and before.quarter_turns == 0
    assert after.display_matrix == before.display_matrix


@pytest.mark.parametrize("name", ["film.mp4", "film.mov", "film.mkv"])
def test_the_time_code_is_kept(tmp_path, joined, name):
    source = tmp_path / "film.mov"
    write_film(
        source,
        pictures(10),
        describe=lambda container, stream: stream.metadata.update(
            timecode="01:02:03:04"
        ),
    )
    output, remarks = joined(source, name, [10])
    assert remarks == []
    with av.open(str(output)) as container:
        found = container.streams.video[0].metadata
        assert {key.lower(): found[key] for key in found}["timecode"] == "01:02:03:04"


def test_a_part_begins_at_zero_with_its_sound(full_film, joined):
    output, _ = joined(full_film, "film.mkv", [10], start=0.2, end=0.6)
    times, _ = read_film(output)
    assert [round(25 * time) for time in times] == list(range(10))
    # A packet of 1024 samples has 0.128 s.
    heard = packets(output, "audio")
    before = [content for time, content in packets(full_film, "audio")]
    place = before.index(heard[0][1])
    assert [content for _, content in heard] == before[place : place + len(heard)]
    assert 0 <= heard[0][0] < 0.13 and heard[-1][0] < 0.4
    with av.open(str(output)) as film:
        edges = [
            [float(c[edge] * c["time_base"]) for edge in ("start", "end")]
            for c in film.chapters()
        ]
    np.testing.assert_allclose(edges, [[0, 0.2], [0.2, 0.4]], atol=1e-3)


def test_subtitles_are_copied_where_they_are_held(tmp_path, joined):
    (tmp_path / "lines.srt").write_text("1\n00:00:00,100 --> 00:00:00,500\nHello\n")
    write_film(tmp_path / "silent.mkv", pictures(20))
    source = tmp_path / "film.mkv"
    with (
        av.open(str(tmp_path / "silent.mkv")) as silent,
        av.open(str(tmp_path / "lines.srt")) as lines,
        av.open(str(source), "w") as container,
    ):
        copies = [
            container.add_stream_from_template(part.streams[0], opaque=True)
            for part in (silent, lines)
        ]
        for part, copy in zip((silent, lines), copies, strict=True):
            for packet in part.demux():
                if packet.size:
                    packet.stream = copy
                    container.mux(packet)
    output, remarks = joined(source, "film.mkv")
    assert remarks == []
    ((time, text),) = packets(output, "subtitles")
    assert time == Fraction(1, 10) and b"Hello" in text
    output.unlink()
    output.parent.rmdir()
    _, (remark,) = joined(source, "film.mp4")
    assert "subtitle" in remark and ".mkv" in remark


def test_no_file_is_replaced(tmp_path):
    write_film(tmp_path / "film.mp4", pictures(3))
    film = Film(tmp_path / "film.mp4")
    output = tmp_path / "result.mp4"
    output.write_bytes(b"mine")
    segments = encode(film, tmp_path, Encoding.choose(film, output), [3])
    with pytest.raises(
        OutputError, match=r"result\.mp4 cannot be written: File exists"
    ):
        join_segments(film, segments, tmp_path, output)
    assert output.read_bytes() == b"mine"
    join_segments(film, segments, tmp_path, output, overwrite=True)
    assert len(read_film(output)[0]) == 3
    assert not list(tmp_path.glob(".*"))


def test_a_part_that_is_not_finished_leaves_no_file(tmp_path):
    write_film(tmp_path / "film.mp4", pictures(3))
    film = Film(tmp_path / "film.mp4")
    encoding = Encoding.choose(film, "film.mp4")
    before = list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), SegmentWriter(tmp_path, encoding) as writer:
        frame = next(film.frames())
        writer.write(encoding.prepare(film.pixels(frame.picture), frame.pts))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "codec", "crf", "words"),
    [
        ("film.avi", None, None, r"\.mp4, \.mkv, \.mov, \.webm"),
        ("film", None, None, r"\.mp4, \.mkv, \.mov, \.webm"),
        ("film.webm", "h264", None, "vp9, av1"),
        ("film.mp4", "divx", None, "h264, h265"),
        ("film.mkv", "ffv1", 20, "--crf"),
        ("film.mkv", "av1", 0, r"av1 takes 1 to 63 \(--crf\), not 0"),
        ("film.mp4", "h265", 52, "0 to 51"),
        ("film.mp4", "h265", None, "64x48 pixels"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, name, codec, crf, words):
    write_film(tmp_path / "film.mp4", pictures(1))
    with pytest.raises(VideoError, match=words):
        Encoding.choose(Film(tmp_path / "film.mp4"), name, codec, crf)


@pytest.mark.parametrize("codec", CODECS)
def test_a_frame_rate_beyond_all_reason_changes_nothing(tmp_path, joined, codec):
    source = tmp_path / "film.mkv"
    # Matroska counts milliseconds, and takes the rate from the stream.
    write_film(source, pictures(6, height=64), codec="ffv1", rate=12800)
    output, _ = joined(source, "film.mkv", [6], codec)
    assert [round(25 * time) for time in read_film(output)[0]] == list(range(6))


@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
def test_times_are_exact_in_the_units_of_the_film(tmp_path, joined, name):
    source = tmp_path / "film.mov"
    pts = [1001 * i for i in range(12)]
    write_film(source, pictures(12), pts=pts, time_base=Fraction(1, 30000))
    output, _ = joined(source, name, (5, 7))
    assert read_film(output)[0] == [Fraction(1001 * i, 30000) for i in range(12)]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov", "film.webm"])
def test_the_last_frame_lasts_as_long_as_before(tmp_path, joined, name):
    source = tmp_path / "film.mp4"
    write_film(source, pictures(10))
    output, _ = joined(source, name, (4, 6))
    with av.open(str(output)) as container:
        assert container.duration == 400_000


def test_players_of_apple_take_h265(tmp_path, joined):
    source = tmp_path / "film.mp4"
    write_film(source, pictures(3, height=64))
    output, _ = joined(source, "film.mp4", [3], "h265")
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize(
    ("codec", "name"),
    [("libopus", "film.mov"), ("pcm_f32le", "film.mp4"), ("ac3", "film.webm")],
)
def test_sound_that_a_container_does_not_hold_is_left_out(
    tmp_path, joined, codec, name
):
    source = tmp_path / "film.mkv"
    write_film(source, pictures(5), sound=codec)
    output, (remark,) = joined(source, name, [5])
    name_of_codec = codec.removeprefix("lib")
    assert f"sound (stream 1, {name_of_codec})" in remark and ".mkv" in remark
    with av.open(str(output)) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov"])
def test_a_cover_stays_a_cover(tmp_path, joined, name):
    source = tmp_path / "film.mkv"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "cover.png")
    cover = (tmp_path / "cover.png").read_bytes()
    write_film(
        source,
        pictures(5),
        describe=lambda container, stream: container.add_attachment(
            "cover.png", "image/png", cover
        ),
    )
    output, remarks = joined(source, name, [5])
    with av.open(str(output)) as container:
        covers = container.streams.video[1:]
        contents = [bytes(next(container.demux(stream))) for stream in covers]
        assert all(s.disposition & Disposition.attached_pic for s in covers)
    if name == "film.mov":
        assert contents == [] and "a cover" in remarks[0]
    else:
        assert contents == [cover] and remarks == []


@pytest.mark.parametrize("codec", CODECS)
def test_the_same_frames_give_the_same_file(tmp_path, codec):
    write_film(tmp_path / "film.mp4", pictures(24, height=144, width=176))
    film = Film(tmp_path / "film.mp4")
    encoding = Encoding.choose(film, "film.mkv", codec)
    contents = []
    for number in range(4):
        folder = tmp_path / str(number)
        folder.mkdir()
        # Encoders that look at what they have not written get something else to see.
        for size in np.random.default_rng(number).integers(1_000, 300_000, 60):
            np.full(size, number)
        (segment,) = encode(film, folder, encoding, [24])
        contents.append([bytes(packet) for _, packet in segment.packets()])
    assert contents[1:] == contents[:1] * 3
