"""The whole of a long sequence, with the oracle as the network."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import stream_runs
from support.stream_runs import FRAMES, MAPPER, OPTIONS, WORLD, open_stream

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.events import FrameTracked, LoopChecked, PosesUpdated
from depth_anything_3.stream.factors import PositionPrior
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.reconstructor import StreamingReconstructor, keyframes
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture
from depth_anything_3.types.options import InferOptions, IntrinsicsOrigin, PreprocessOptions, StreamOptions
from depth_anything_3.types.prediction import Prediction

pytest.importorskip("scipy.sparse")


def _error_percent(stream: StreamingReconstructor) -> float:
    count = len(stream)
    return 100 * trajectory_errors(stream.trajectory(), WORLD.extrinsics[:count]).rmse / WORLD.path_length


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StreamingReconstructor:
    stream = open_stream(tmp_path_factory.mktemp("whole") / "store")
    stream_runs.run(stream)
    return stream


def _child(folder: Path, *arguments: str) -> int:
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-m", "support.stream_runs", str(folder), *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def test_killed_and_gone_on_with_equals_the_uninterrupted_run(tmp_path: Path, whole: StreamingReconstructor) -> None:
    folder, rng = tmp_path / "store", random.Random(0)
    for _ in range(2):
        assert _child(folder, str(rng.randrange(60, 150))) == -signal.SIGKILL
    with open_stream(folder) as stream:
        assert 0 < stream.received < FRAMES
        stream_runs.run(stream)
        assert len(stream) == FRAMES == len(stream.store.keys("dept"))
        assert stream.timestamps() == whole.timestamps()
        np.testing.assert_array_equal(stream.trajectory(), whole.trajectory())
        np.testing.assert_array_equal(stream.depth(70), whole.depth(70))


def test_torn_anywhere_it_goes_on_with_the_same_cameras(tmp_path: Path, whole: StreamingReconstructor) -> None:
    log, rng = (whole.store.folder / "log.bin").read_bytes(), random.Random(1)
    for number in range(6):
        folder = tmp_path / str(number)
        shutil.copytree(whole.store.folder, folder)
        (folder / "log.bin").write_bytes(log[: rng.randrange(len(log))])
        with open_stream(folder) as stream:
            stream_runs.run(stream)
            np.testing.assert_array_equal(stream.trajectory(), whole.trajectory())


def test_a_finished_store_opens_as_it_was(whole: StreamingReconstructor) -> None:
    with open_stream(whole.store.folder) as stream:
        assert stream.received == len(stream) == FRAMES
        assert stream.inferred == whole.inferred
        assert not stream.finalize()
        np.testing.assert_array_equal(stream.trajectory(), whole.trajectory())
        np.testing.assert_array_equal(stream.intrinsics(), whole.intrinsics())


def test_every_frame_is_told_once_and_loops_move_them() -> None:
    events = []
    with open_stream(None) as stream:
        for frame in range(FRAMES):
            events += stream.push(frame_picture(frame), timestamp=float(frame))
        told = [event.frame for event in events if isinstance(event, FrameTracked)]
        assert told == list(range(len(told))) and FRAMES - len(told) <= OPTIONS.window
        events += stream.finalize()
        assert [event.frame for event in events if isinstance(event, FrameTracked)] == list(range(FRAMES))
        accepted = [event for event in events if isinstance(event, LoopChecked) and event.check.accepted]
        assert accepted and any(isinstance(event, PosesUpdated) for event in events)
        assert _error_percent(stream) < 0.5


def test_one_frame_and_few(tmp_path: Path) -> None:
    for count in (1, 2, 5):
        with StreamingReconstructor(OracleModel(Oracle(world=WORLD)), total=count) as stream:
            for frame in range(count):
                assert not stream.push(frame_picture(frame))
            stream.finalize()
            assert stream.trajectory().shape == (count, 3, 4)
            assert stream.inferred == count
            assert np.isfinite(stream.trajectory()).all()
    with StreamingReconstructor(OracleModel(Oracle(world=WORLD))) as stream, pytest.raises(InputError, match="frames"):
        stream.finalize()


def test_flushing_in_between_loses_and_doubles_nothing() -> None:
    with open_stream(None) as stream:
        for frame in range(40):
            stream.push(frame_picture(frame))
            if frame in (0, 3, 30):
                stream.flush()
                assert len(stream) == frame + 1
        stream.finalize()
        assert len(stream) == 40
        assert _error_percent(stream) < 1


def test_given_cameras_set_the_world() -> None:
    count = 60
    with open_stream(None) as stream:
        for frame in range(count):
            stream.push(frame_picture(frame), intrinsics=WORLD.intrinsics, extrinsics=WORLD.extrinsics[frame])
        stream.finalize()
        off = camera_centres(stream.trajectory()) - camera_centres(WORLD.extrinsics[:count])
        assert np.linalg.norm(off, axis=1).max() < 0.2
        np.testing.assert_allclose(stream.intrinsics()[7], WORLD.intrinsics, rtol=1e-6)
        true = WORLD.depth[30]
        assert abs(np.nanmedian(np.log(stream.depth(30) / true))) < 0.03
        assert not stream.is_metric


class _Told(OracleModel):
    """Notes what it is told of the lenses."""

    def __init__(self) -> None:
        super().__init__(Oracle(world=WORLD))
        self.origins = list[object]()

    def inference(self, image: Sequence[Any], *arguments: Any, **options: object) -> Prediction:  # type: ignore[override]
        self.origins.append(options["intrinsics_origin"])
        return super().inference(image, *arguments, **options)


def test_a_window_knows_where_its_lenses_come_from_also_after_a_restart(tmp_path: Path) -> None:
    origins: list[IntrinsicsOrigin] = ["given"] * 30 + ["exif"] * 30
    for stops in ([60], [27, 60]):  # the second state is gone on with while frames of both kinds are in a window
        model, folder = _Told(), tmp_path / str(len(stops))
        for stop in stops:
            with StreamingReconstructor(model, replace(OPTIONS, loops="off"), store=folder) as stream:
                for frame in range(stream.received, stop):
                    known = {"intrinsics": WORLD.intrinsics, "intrinsics_origin": origins[frame]}
                    stream.push(frame_picture(frame), **known)
        # Windows of 24 frames from 0, 18 and 36 on; the last one waits for one more.
        assert model.origins == ["given", "exif"]


def test_positions_from_elsewhere() -> None:
    node = np.arange(0, 60, 10)
    there = camera_centres(WORLD.extrinsics[node]) + 100.0
    with open_stream(None) as stream:
        for frame in range(60):
            stream.push(frame_picture(frame))
        stream.finalize([PositionPrior(node=node, position=there, sigma=np.full((len(node), 3), 0.05))])
        assert np.abs(camera_centres(stream.trajectory())[node] - there).max() < 1


def test_masked_pixels_have_no_depth() -> None:
    mask = np.ones((24, 32), bool)
    mask[:12] = False
    with open_stream(None) as stream:
        for frame in range(30):
            stream.push(frame_picture(frame), mask=mask)
        stream.finalize()
        assert np.isnan(stream.depth(3)[:12]).all() and np.isfinite(stream.depth(3)[12:]).any()
        with pytest.raises(InputError, match="mask"):
            stream.push(frame_picture(30), mask=mask[:5])


def test_some_frames_as_a_prediction(whole: StreamingReconstructor) -> None:
    chosen = keyframes(len(whole), 4)
    assert chosen[0] == 0 and chosen[-1] == FRAMES - 1 and len(chosen) == 4
    part = whole.prediction(chosen)
    assert part.names == tuple(f"{frame}.png" for frame in chosen)
    np.testing.assert_array_equal(part.depth[2], whole.depth(chosen[2]))
    assert part.records[0].source_hw == (24, 32)
    with pytest.raises(InputError, match="frames"):
        whole.prediction([FRAMES])


def test_what_cannot_be_is_said_at_once() -> None:
    model = OracleModel(Oracle(world=WORLD))
    with pytest.raises(InputError, match="infer_gs"):
        StreamingReconstructor(model, inference=InferOptions(infer_gs=True))
    with pytest.raises(InputError, match="alpha"):
        StreamingReconstructor(model, preprocessing=PreprocessOptions(alpha="mask"))
    with pytest.raises(InputError, match="overlap"):
        StreamOptions(window=10, overlap=6)
    with StreamingReconstructor(model, mapper=MAPPER) as stream:
        picture = stream.prepare(StreamFrame(image=frame_picture(0)))
        stream.take(picture)
        with pytest.raises(InputError, match="as the first"):
            stream.take(replace(picture, pixels=picture.pixels[:10]))
    model.model = replace(model.model, abilities=frozenset())
    with pytest.raises(CapabilityError, match="cameras"):
        StreamingReconstructor(model)
