"""What the last windows say about shared frames conditions the network in the next one, where it keeps to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stream_runs import FRAMES, MAPPER, OPTIONS, WORLD

from depth_anything_3 import DepthAnything3
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.geometry.sim3 import Sim3
from depth_anything_3.infer.cameras import normalise_extrinsics
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.collection import collect
from depth_anything_3.stream.events import WindowAdded
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture
from depth_anything_3.types.inputs import Anchors
from depth_anything_3.types.prediction import Prediction

pytest.importorskip("scipy.sparse")


class Posed(OracleModel):
    """Takes poses: says of the anchors what it was told, and the rest as seen from the last of them."""

    def __init__(self, *, honest: bool = True) -> None:
        super().__init__(Oracle(world=WORLD))
        self.model = replace(self.model, abilities=frozenset({"cameras", "pose_conditioning"}))
        self.honest, self.told = honest, list[Anchors | None]()

    def inference(  # type: ignore[override]
        self, image: Any, *arguments: Any, anchors: Anchors | None = None, **options: Any
    ) -> Prediction:
        self.told.append(anchors)
        found = super().inference(image, *arguments, **options)
        assert found.extrinsics is not None
        if anchors is None:
            return found
        own, given = Sim3.from_extrinsics(found.extrinsics), Sim3.from_extrinsics(anchors.extrinsics[:, :3])
        if not self.honest:
            bent = rotation_from_vector(np.random.default_rng(0).normal(size=(len(own), 3)) * 0.2)
            return replace(found, extrinsics=Sim3(bent @ own.rotation, own.translation, own.scale).extrinsics())
        last, reach = len(given) - 1, [np.ptp(cameras.translation, axis=0) for cameras in (given, own[: len(given)])]
        scale = float(np.linalg.norm(reach[0]) / np.linalg.norm(reach[1]))
        step = own[last : last + 1].inverse() @ own
        told = given[last : last + 1] @ Sim3(step.rotation, scale * step.translation, step.scale)
        poses = np.concatenate([given.extrinsics(), told.extrinsics()[len(given) :]])
        return replace(found, extrinsics=poses.astype(np.float32), depth=found.depth * scale)


def _run(model: OracleModel, store: Path | None = None, frames: int = FRAMES, **options: Any) -> StreamingReconstructor:
    stream = StreamingReconstructor(model, replace(OPTIONS, **options), mapper=MAPPER, store=store)
    for frame in range(stream.received, frames):
        stream.push(frame_picture(frame))
    return stream


def test_a_network_that_keeps_to_poses_is_told_those_of_the_shared_frames(tmp_path: Path) -> None:
    model = Posed()
    with _run(model) as stream:
        stream.finalize()
        windows = len(stream.conditioned)
        assert stream.conditioned == ["none"] + ["held"] * (windows - 1)
        told = [anchors for anchors in model.told if anchors is not None]
        assert len(told) == windows - 1  # and none in loop windows
        for anchors in told:
            assert len(anchors.extrinsics) == len(anchors.intrinsics) == OPTIONS.overlap
            np.testing.assert_allclose(anchors.extrinsics[0], np.eye(4), atol=1e-9)
            # A third of the way through the window: most of its frames are farther than 1 / 4 and nearer than 2.
            assert 0.1 < np.linalg.norm(anchors.extrinsics[-1, :3, 3]) < 1
            np.testing.assert_allclose(anchors.intrinsics, anchors.intrinsics[:1].repeat(OPTIONS.overlap, 0))
        assert 100 * trajectory_errors(stream.trajectory(), WORLD.extrinsics).rmse / WORLD.path_length < 0.5
        assert stream.inferred < 2 * FRAMES
        whole = stream.trajectory()
    with _run(Posed(), tmp_path / "store", frames=70):
        pass
    with _run(Posed(), tmp_path / "store") as stream:
        stream.finalize()
        np.testing.assert_array_equal(stream.trajectory(), whole)


def test_one_that_disagrees_sees_the_window_again_and_is_told_no_more() -> None:
    model = Posed(honest=False)
    frames = 60
    with _run(model, frames=frames) as stream, _run(Posed(), frames=frames, conditioning="off") as plain:
        events = [*stream.finalize(), *plain.finalize()]
        assert stream.conditioned[:3] == ["none", "disagreed", "none"] and stream.conditioned.count("disagreed") == 1
        assert sum(anchors is not None for anchors in model.told) == 1
        np.testing.assert_array_equal(stream.trajectory(), plain.trajectory())
        assert stream.inferred == plain.inferred + OPTIONS.window
        assert [event.conditioning for event in events if isinstance(event, WindowAdded)] == ["none"] * 2
        assert set(plain.conditioned) == {"none"}


def test_photos_in_no_order_are_told_of_those_that_join_them() -> None:
    frames = [StreamFrame(image=frame_picture(int(i))) for i in np.random.default_rng(0).permutation(50)]
    model = Posed()
    with StreamingReconstructor(model, OPTIONS, mapper=MAPPER) as stream:
        list(collect(stream, frames))
        told = [anchors for anchors in model.told if anchors is not None]
        assert len(stream) == 50 and stream.conditioned.count("held") == len(told) > 0
        assert "disagreed" not in stream.conditioned
        assert all(2 <= len(anchors.extrinsics) <= OPTIONS.overlap for anchors in told), "one view tells nothing"


def test_one_without_a_camera_encoder_is_told_nothing() -> None:
    with _run(OracleModel(Oracle(world=WORLD)), frames=60) as stream:
        stream.finalize()
        assert set(stream.conditioned) == {"none"} and len(stream.conditioned) > 1


# --- the bundled network ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled", device="cpu")


def _walk(count: int) -> list[np.ndarray]:
    wide = np.random.default_rng(0).integers(0, 256, (12, 40, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    return [wide[:, 4 * i : 4 * i + 64] for i in range(count)]


def _cameras(count: int) -> Anchors:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, 0, 3] = -np.arange(count)
    lens = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    return Anchors(extrinsics=normalise_extrinsics(poses), intrinsics=np.tile(lens, (count, 1, 1)))


def test_anchors_of_all_views_are_the_published_conditioning_and_of_some_change_what_it_says(
    bundled: DepthAnything3,
) -> None:
    views, known = _walk(4), _cameras(4)
    options: dict[str, Any] = {"process_res": 56}
    plain = bundled.inference(views, **options)
    given = bundled.inference(views, known.extrinsics, known.intrinsics, align_to_input_ext_scale=False, **options)
    every = bundled.inference(views, anchors=known, **options)
    np.testing.assert_allclose(every.depth, given.depth, rtol=1e-5)
    some = bundled.inference(views, anchors=_cameras(2), **options)
    assert np.abs(some.depth / plain.depth - 1).max() > 1e-3
    assert np.abs(some.depth / every.depth - 1).max() > 1e-3
    with pytest.raises(InputError, match="anchors"):
        bundled.inference(views[:3], anchors=known, **options)
    with pytest.raises(InputError, match="one of the two"):
        bundled.inference(views, known.extrinsics, known.intrinsics, anchors=known, **options)
    depth_only = DepthAnything3.from_pretrained("bundled/da3metric-tiny", device="cpu")
    with pytest.raises(CapabilityError):
        depth_only.inference(views, anchors=known, **options)


def test_the_bundled_network_is_told_and_the_sequence_ends_either_way(bundled: DepthAnything3) -> None:
    options = replace(OPTIONS, window=6, overlap=3, loops="off")
    for conditioning in ("anchors", "off"):
        with StreamingReconstructor(bundled, replace(options, conditioning=conditioning)) as stream:
            for view in _walk(12):
                stream.push(view)
            stream.finalize()
            assert np.isfinite(stream.trajectory()).all() and len(stream) == 12
            assert (stream.conditioned[1] == "none") == (conditioning == "off")
