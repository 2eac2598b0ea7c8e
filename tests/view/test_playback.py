"""Frames come in time or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.view.estimate import Steady
from depth_anything_3.view.frames import DepthFrame
from depth_anything_3.view.playback import Playback, read_ahead

RATE, LENGTH = 50, 1.0


def read(start: float) -> Iterator[Any]:
    for number in range(round(start * RATE), round(LENGTH * RATE)):
        yield SimpleNamespace(timestamp=number / RATE)


def depth_of(frame: Any) -> DepthFrame:
    return DepthFrame(
        image=np.zeros((2, 2, 3), np.uint8),
        depth=np.ones((2, 2), np.float32),
        intrinsics=np.eye(3, dtype=np.float32),
        timestamp=frame.timestamp,
    )


class Show:
    """A playback whose frames are collected as they come."""

    def __init__(self, estimate: Callable[[Any], DepthFrame] = depth_of, reader: Any = read) -> None:
        self.frames: list[tuple[float, DepthFrame]] = []
        self.ready = threading.Event()
        self.playback = Playback(reader, estimate, on_ready=self._collect)
        self.begin = time.monotonic()
        self.playback.start()

    def _collect(self) -> None:
        frame = self.playback.take()
        if frame is not None:
            self.frames.append((time.monotonic() - self.begin, frame))
        self.ready.set()

    def wait(self, done: Callable[[], bool]) -> None:
        limit = time.monotonic() + 10
        while not done():
            assert time.monotonic() < limit
            time.sleep(0.005)


@pytest.fixture
def shows() -> Iterator[list[Show]]:
    opened: list[Show] = []
    yield opened
    for show in opened:
        show.playback.close()


def test_frames_come_in_order_and_not_before_their_time(shows: list[Show]) -> None:
    show = Show()
    shows.append(show)
    show.wait(lambda: show.playback.ended)
    stamps = [frame.timestamp for _, frame in show.frames]
    assert stamps == sorted(set(stamps)) and stamps[0] == 0
    begin = show.frames[0][0]
    assert all(at - begin >= stamp - 0.02 for (at, _), stamp in zip(show.frames, stamps, strict=True))
    assert len(stamps) + show.playback.counts.late + show.playback.counts.replaced == RATE * LENGTH


def test_a_slow_network_shows_fewer_frames_and_keeps_up(shows: list[Show]) -> None:
    def slow(frame: Any) -> DepthFrame:
        time.sleep(0.1)
        return depth_of(frame)

    show = Show(slow)
    shows.append(show)
    show.wait(lambda: show.playback.ended)
    assert show.playback.counts.late > 20
    begin = show.frames[0][0]
    assert all(at - begin - frame.timestamp < 0.5 for at, frame in show.frames[1:])


def test_after_a_jump_no_frame_from_before_it_comes(shows: list[Show]) -> None:
    show = Show()
    shows.append(show)
    show.wait(lambda: len(show.frames) > 2)
    generation = show.playback.seek(0.8)
    show.wait(lambda: show.playback.ended)
    after = [frame for _, frame in show.frames if frame.generation == generation]
    assert after and after[0].timestamp == pytest.approx(0.8)
    numbers = [frame.sequence for _, frame in show.frames]
    assert numbers == sorted(set(numbers))
    assert [frame.generation for _, frame in show.frames] == sorted(frame.generation for _, frame in show.frames)


def test_a_paused_video_shows_one_frame_after_a_jump(shows: list[Show]) -> None:
    show = Show()
    shows.append(show)
    show.playback.set_playing(False)
    generation = show.playback.seek(0.5)
    show.wait(lambda: any(frame.generation == generation for _, frame in show.frames))
    time.sleep(0.1)
    assert [frame.timestamp for _, frame in show.frames if frame.generation == generation] == [pytest.approx(0.5)]
    show.playback.set_playing(True)
    show.wait(lambda: show.playback.ended)
    assert len(show.frames) > 3


def test_a_damaged_video_ends_with_a_message(shows: list[Show]) -> None:
    def damaged(start: float) -> Iterator[Any]:
        yield SimpleNamespace(timestamp=0.0)
        raise InputError("video", "clip.mp4 (damaged)", "a video")

    show = Show(reader=damaged)
    shows.append(show)
    show.wait(lambda: show.playback.ended)
    assert "damaged" in (show.playback.error or "")


def test_relative_scale_does_not_flicker_and_metres_are_not_touched() -> None:
    rng = np.random.default_rng(0)
    wall = rng.uniform(1, 3, (14, 28)).astype(np.float32)
    lens = np.array([[20, 0, 14], [0, 20, 7], [0, 0, 1]], np.float32)

    def model(metric: bool) -> Any:
        def inference(images: Any, *, process_res: int) -> Any:
            factor = np.float32(rng.uniform(0.5, 2))
            zoom = np.diag([factor, factor, 1]).astype(np.float32)
            picture = np.zeros((1, 14, 28, 3), np.uint8)
            facts = {"depth": factor * wall[None], "is_metric": metric, "intrinsics": (zoom @ lens)[None]}
            return SimpleNamespace(processed_images=picture, **facts)

        return SimpleNamespace(inference=inference, model_name="toy")

    def spread(metric: bool) -> tuple[float, float]:
        steady = Steady(model(metric), 28)
        frames = [steady(SimpleNamespace(image=None, timestamp=0.0)) for _ in range(40)]  # type: ignore[arg-type]
        medians = np.log([np.median(frame.depth) for frame in frames])
        return float(np.abs(np.diff(medians)).max()), float(np.std(np.log([f.intrinsics[0, 0] for f in frames[10:]])))

    depth, focal = spread(metric=False)
    assert depth < 0.15 and focal < 0.15
    assert spread(metric=True)[0] > 0.5


def test_what_is_read_ahead_is_the_same_and_ends_with_its_error() -> None:
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number
        raise InputError("video", "damage", "none")

    ahead = read_ahead(numbers(), 2)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="damage"):
        next(ahead)
    made.clear()
    part = read_ahead(numbers(), 2)
    assert next(part) == 0
    part.close()
    assert len(made) <= 3, "two in advance and no more"
