"""Frames read ahead, and frames that do not wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from support.stream_runs import OPTIONS, WORLD, open_stream

from depth_anything_3.errors import InputError
from depth_anything_3.stream.events import FrameTracked
from depth_anything_3.stream.feed import LiveReconstruction, feed
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture
from depth_anything_3.types.prediction import Prediction

COUNT = 50


def test_read_ahead_gives_what_pushing_gives() -> None:
    with open_stream(None) as pushed, open_stream(None) as fed:
        for frame in range(COUNT):
            pushed.push(frame_picture(frame))
        events = list(feed(fed, (frame_picture(frame) for frame in range(COUNT))))
        assert any(isinstance(event, FrameTracked) for event in events)
        for stream in (pushed, fed):
            stream.finalize()
        np.testing.assert_array_equal(fed.trajectory(), pushed.trajectory())


def test_what_goes_wrong_while_reading_is_raised_and_the_thread_ends() -> None:
    def frames() -> Iterator[object]:
        yield frame_picture(0)
        yield np.zeros((2, 2, 7), np.uint8)

    before = threading.active_count()
    with open_stream(None) as stream, pytest.raises(InputError):
        list(feed(stream, frames()))
    assert threading.active_count() == before


class _Gated(OracleModel):
    """Looks at nothing before it may."""

    def __init__(self) -> None:
        super().__init__(Oracle(world=WORLD))
        self.gate, self.fails = threading.Event(), False

    def inference(self, *arguments: object, **options: object) -> Prediction:  # type: ignore[override]
        assert self.gate.wait(20)
        if self.fails:
            raise InputError("x", "a", "b")
        return super().inference(*arguments, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("when_full", ["drop", "block"])
def test_a_full_queue(when_full: str) -> None:
    model = _Gated()
    options = replace(OPTIONS, queue=3, when_full=when_full)  # type: ignore[arg-type]
    with StreamingReconstructor(model, options) as stream:
        live = LiveReconstruction(stream)
        if when_full == "block":
            threading.Timer(0.3, model.gate.set).start()
        for frame in range(COUNT):
            live.push(StreamFrame(image=frame_picture(frame), timestamp=float(frame)))
        model.gate.set()
        live.finish()
        assert len(stream) + live.dropped == COUNT
        assert (live.dropped > 0) == (when_full == "drop")
        assert stream.timestamps() == sorted(stream.timestamps())  # type: ignore[type-var]
        with pytest.raises(InputError, match="finish"):
            live.push(frame_picture(0))


def test_new_frames_are_told_once_and_errors_of_the_network_arrive() -> None:
    model = _Gated()
    model.gate.set()
    with StreamingReconstructor(model, OPTIONS) as stream:
        live = LiveReconstruction(stream)
        events = [event for frame in range(COUNT) for event in live.push(frame_picture(frame))]
        events += live.finish()
        assert [event.frame for event in events if isinstance(event, FrameTracked)] == list(range(COUNT))
    model.fails = True
    with StreamingReconstructor(model, OPTIONS) as stream:
        live = LiveReconstruction(stream)
        with pytest.raises(InputError, match="x: got a"):
            for frame in range(COUNT):
                live.push(frame_picture(frame))
            live.finish()
