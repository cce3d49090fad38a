"""Motion between frames, and the colors and hints that go along with it."""

import cv2
import numpy as np
import pytest

from colorgan_jax.hint_files import KeyFrame
from colorgan_jax.hints import make_hints
from colorgan_jax.video.hint_tracks import FARTHEST, SeenFrame, follow_hints
from colorgan_jax.video.motion import estimate_motion, move
from colorgan_jax.video.stabilizer import Stabilizer, State

SIZE = 128


def picture(seed, size=2 * SIZE):
    """Blurred noise: lightness with something to follow everywhere."""
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 4)
    return np.clip(50 + 15 * blurred / blurred.std(), 0, 100)


def window(scene, x, y):
    return scene[y : y + SIZE, x : x + SIZE]


def test_the_flow_of_a_pan_is_its_shift():
    scene = picture(0)
    motion = estimate_motion(window(scene, 43, 38), window(scene, 40, 40))
    assert not motion.is_cut
    inner = motion.flow[10:-10, 10:-10]
    # What is at x now was 3 further to the right, and 2 further up.
    assert np.abs(np.median(inner, axis=(0, 1)) - (3, -2)).max() < 0.1
    assert motion.trust[10:-10, 10:-10].mean() > 0.9
    # What has just come in was nowhere.
    assert motion.trust[:, -2:].max() == 0


def test_what_was_hidden_is_not_trusted():
    back, front = picture(0), picture(1)
    frames = []
    for x in (30, 38):
        frame = window(back, 40, 40).copy()
        frame[40:90, x : x + 40] = front[:50, :40]
        frames.append(frame)
    motion = estimate_motion(frames[1], frames[0])
    assert not motion.is_cut
    uncovered = motion.trust[44:86, 31:36]
    assert uncovered.mean() < 0.3
    assert motion.trust[44:86, 42:74].mean() > 0.8
    assert motion.trust[:34, 4:-4].mean() > 0.9


@pytest.mark.parametrize("change", ["grain", "lamp", "fast", "dissolve"])
def test_a_shot_goes_on(change):
    random = np.random.default_rng(2)
    scene = picture(0)
    before, now = window(scene, 40, 40), window(scene, 42, 40)
    if change == "grain":
        before, now = (x + random.normal(0, 3, x.shape) for x in (before, now))
    elif change == "lamp":
        now = 1.15 * now
    elif change == "fast":
        now = window(scene, 48, 40)
    else:
        now = 0.85 * now + 0.15 * window(picture(3), 40, 40)
    frames = [np.clip(x, 0, 100).astype(np.float32) for x in (now, before)]
    assert not estimate_motion(*frames).is_cut


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_is_found(seed):
    motion = estimate_motion(
        window(picture(seed), 40, 40), window(picture(seed + 9), 40, 40)
    )
    assert motion.is_cut


def test_black_frames_part_shots():
    black = np.zeros((SIZE, SIZE), np.float32)
    assert estimate_motion(window(picture(0), 0, 0), black).is_cut


def test_flickering_colors_become_steady_along_the_motion():
    random = np.random.default_rng(0)
    scene = picture(0)
    colors = cv2.resize(random.uniform(-0.3, 0.3, (8, 8, 2)), scene.shape)
    stabilizer = Stabilizer()
    raw, steadied, real = [], [], []
    for frame in range(24):
        L, true = (window(image, 20 + 2 * frame, 40) for image in (scene, colors))
        flicker = cv2.resize(random.normal(0, 0.05, (8, 8, 2)), L.shape)
        raw.append(true + flicker)
        real.append(true)
        steadied.append(stabilizer.steady(L, (true + flicker).astype(np.float32)))

    def error(frames):
        return np.abs(np.array(frames[12:]) - real[12:])[:, 8:-8, 8:-30].mean()

    # The mean of 12 to 20 independent errors.
    assert error(steadied) < 0.45 * error(raw)


def test_nothing_is_carried_over_a_cut():
    red, blue = (
        np.full((SIZE, SIZE, 2), ab, np.float32) for ab in ((0.5, 0.4), (0, -0.5))
    )
    stabilizer = Stabilizer()
    for x in (40, 42, 44):
        stabilizer.steady(window(picture(0), x, 40), red)
    np.testing.assert_array_equal(
        stabilizer.steady(window(picture(9), 40, 40), blue), blue
    )


def test_a_stabilizer_goes_on_from_a_kept_state():
    random = np.random.default_rng(0)
    frames = [
        (window(picture(0), 40 + x, 40), random.normal(0, 0.1, (SIZE, SIZE, 2)))
        for x in range(6)
    ]
    whole = Stabilizer()
    expected = [whole.steady(*frame) for frame in frames]
    first = Stabilizer()
    for frame in frames[:3]:
        first.steady(*frame)
    second = Stabilizer(State(*(np.copy(x) for x in vars(first.state).values())))
    for frame, ab in zip(frames[3:], expected[3:], strict=True):
        np.testing.assert_array_equal(second.steady(*frame), ab)


def test_move_takes_from_where_the_flow_points():
    image = np.arange(16, dtype=np.float32).reshape(4, 4)
    flow = np.zeros((4, 4, 2), np.float32)
    flow[..., 0] = 1
    np.testing.assert_array_equal(
        move(image, flow),
        image[:, [1, 2, 3, 3]],  # The border is repeated.
    )


def pan(count, start=40, scene=None, first_pts=0):
    scene = picture(0) if scene is None else scene
    return [
        SeenFrame(first_pts + i, (first_pts + i) / 10, window(scene, start + 2 * i, 40))
        for i in range(count)
    ]


def hint_at(x, y):
    return make_hints([(y, x)], [(30, 40)], 0.03)


def test_hints_move_with_what_they_are_on_both_ways_within_their_shot():
    frames = [
        *pan(4, scene=picture(7)),
        *pan(12, first_pts=4),
        *pan(3, scene=picture(8), first_pts=16),
    ]
    tracks = follow_hints(frames, [KeyFrame(1.05, hint_at(0.5, 0.4))])
    assert sorted(tracks) == list(range(4, 16))
    for pts, hints in tracks.items():
        # The camera moves 2 of 128 pixels to the right each frame.
        x = 0.5 - (pts - 10) * 2 / SIZE
        np.testing.assert_allclose(hints.positions[0], (0.4, x), atol=0.5 / SIZE)
        np.testing.assert_array_equal(hints.mask, np.arange(16) < 1)
        np.testing.assert_array_equal(hints.ab[0], (30, 40))


def test_hints_end_where_they_leave_the_picture():
    tracks = follow_hints(pan(12), [KeyFrame(0, hint_at(8 / SIZE, 0.5))])
    assert sorted(tracks) in ([0, 1, 2], [0, 1, 2, 3])


def test_hints_of_two_frames_of_a_shot_meet():
    key_frames = [KeyFrame(0.2, hint_at(0.6, 0.3)), KeyFrame(0.5, hint_at(0.6, 0.7))]
    tracks = follow_hints(pan(8), key_frames)
    assert sorted(tracks) == list(range(8))
    assert {int(hints.mask.sum()) for hints in tracks.values()} == {2}


def test_hints_reach_no_farther_than_stated():
    still = window(picture(0), 40, 40)
    frames = [SeenFrame(i, i / 10, still) for i in range(2 * FARTHEST + 20)]
    tracks = follow_hints(frames, [KeyFrame((FARTHEST + 8) / 10, hint_at(0.5, 0.5))])
    assert sorted(tracks) == list(range(8, 2 * FARTHEST + 9))
