"""Frames of several shapes, masks, times, metres, and memory that runs out: a sequence of real frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.stream_runs import MAPPER, OPTIONS, WORLD
from support.videos import write_video

import depth_anything_3.infer.runner as runner
from depth_anything_3 import DepthAnything3
from depth_anything_3.export._camera_files import export_cameras
from depth_anything_3.io.images import decode_image
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.stream.sources import open_source
from depth_anything_3.synth.oracle import Oracle, OracleErrors, OracleModel, frame_of_picture, frame_picture
from depth_anything_3.types.cameras import Cameras, Lens
from depth_anything_3.types.options import PreprocessOptions, StreamOptions
from depth_anything_3.types.prediction import Prediction

pytest.importorskip("scipy.sparse")

SMALL = StreamOptions(window=4, overlap=2, loops="off")


@pytest.fixture(scope="module")
def bundled() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled", device="cpu")


def _view(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.filterwarnings("ignore:a frame of")
@pytest.mark.parametrize("mixed", ["crop", "pad"])
def test_all_windows_have_one_shape(bundled: DepthAnything3, mixed: Any) -> None:
    sizes = [(60, 80), (60, 80), *[(80, 60)] * 8, (120, 160), (40, 50)]  # a whole window of portraits in the midst
    options = PreprocessOptions(process_res=56, mixed_sizes=mixed)
    each = replace(SMALL, shared_intrinsics=False)
    with StreamingReconstructor(bundled, each, preprocessing=options) as stream:
        given = [np.array([[0.9 * w, 0, 0.5 * w], [0, 0.8 * w, 0.4 * h], [0, 0, 1]]) for h, w in sizes]
        for i, size in enumerate(sizes):
            stream.push(_view(*size, seed=i), intrinsics=given[i])
        stream.finalize()
        assert {stream.depth(i).shape for i in range(len(sizes))} == {(42, 56)}
        np.testing.assert_allclose(stream.intrinsics(), given, rtol=1e-4, atol=1e-4)
        columns = np.isfinite(stream.depth(5)).any(0)
        assert np.isfinite(stream.depth(0)).any(0).all()
        assert columns.all() == (mixed == "crop") and columns[28] and not (mixed == "pad" and columns[0])


def test_cropping_is_told_once(bundled: DepthAnything3) -> None:
    with StreamingReconstructor(bundled, SMALL, preprocessing=PreprocessOptions(process_res=56)) as stream:
        stream.push(_view(60, 80))
        stream.push(_view(120, 160))
        with pytest.warns(UserWarning, match="60x80 pixels was cropped.*56x42, and lost 4"):
            stream.push(_view(80, 60))
        stream.push(_view(80, 60))


def test_memory_that_runs_out_in_a_window_is_tried_leaner_and_nothing_is_lost(
    bundled: DepthAnything3, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poses() -> npt.NDArray[np.float64]:
        with StreamingReconstructor(bundled, SMALL, preprocessing=PreprocessOptions(process_res=56)) as stream:
            for i in range(8):
                stream.push(_view(60, 80, seed=i))
            stream.finalize()
            return stream.trajectory()

    undisturbed, whole, left = poses(), runner._run, [1]

    def tight(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError
        return whole(*arguments)

    monkeypatch.setattr(runner, "_run", tight)
    with pytest.warns(UserWarning, match="trying once more, head-chunked"):
        np.testing.assert_allclose(poses(), undisturbed, atol=1e-4)

    monkeypatch.setattr(runner, "_run", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with StreamingReconstructor(bundled, SMALL, preprocessing=PreprocessOptions(process_res=56)) as stream:
        with pytest.warns(UserWarning), pytest.raises(MemoryError):
            for i in range(8):
                stream.push(_view(60, 80, seed=i))
        came = stream.received
        monkeypatch.setattr(runner, "_run", whole)
        for i in range(came, 8):
            stream.push(_view(60, 80, seed=i))
        stream.finalize()
        assert len(stream) == 8 and stream.store.keys("dept") == list(range(8))
        assert np.isfinite(stream.trajectory()).all()


class _Metric(OracleModel):
    """In metres, each window off by up to a fifth."""

    def __init__(self) -> None:
        super().__init__(Oracle(world=WORLD, errors=OracleErrors(gauge=1.2)))
        self.scales: list[float] = []

    def inference(self, image: Any, *arguments: Any, **options: Any) -> Prediction:
        found = super().inference(image, *arguments, **options)
        assert found.extrinsics is not None
        truth = WORLD.extrinsics[[frame_of_picture(picture) for picture in image]]
        self.scales.append(_scale(found.extrinsics, truth))
        return replace(found, is_metric=True)


def _scale(path: npt.NDArray[Any], truth: npt.NDArray[np.float64]) -> float:
    similarity = trajectory_errors(path, truth).similarity
    assert similarity is not None
    return float(np.log(similarity.scale))


def test_metres_are_what_all_windows_say() -> None:
    model = _Metric()
    with StreamingReconstructor(model, replace(OPTIONS, loops="off"), mapper=MAPPER) as stream:
        for frame in range(len(WORLD)):
            stream.push(frame_picture(frame))
        stream.finalize()
        assert stream.is_metric and stream.prediction([0, 5]).is_metric
        assert abs(_scale(stream.trajectory(), WORLD.extrinsics) - np.mean(model.scales)) < 0.02
        assert abs(model.scales[0] - np.mean(model.scales)) > 0.04, "the first window alone would not pass"


def test_masks_and_times_come_with_the_photos(tmp_path: Path) -> None:
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    masks.mkdir()
    for time in (10.0, 10.1, 10.2):
        Image.fromarray(_view(60, 80)).save(photos / f"{time}.png")
    kept = np.zeros((60, 80), np.uint8)
    kept[30:] = 255
    Image.fromarray(kept).save(masks / "10.1.png")
    path = "".join(f"{time} 0 0 {i} 0 0 0 1\n" for i, time in enumerate((10.0, 10.1, 10.2)))
    (tmp_path / "path.txt").write_text(path)
    source = open_source(photos, poses=tmp_path / "path.txt", intrinsics="60deg", masks=masks)
    frames = list(source.frames())
    assert [frame.timestamp for frame in frames] == [10.0, 10.1, 10.2]
    assert [frame.mask is None for frame in frames] == [True, False, True]
    model = OracleModel(Oracle(world=WORLD))
    with StreamingReconstructor(model, OPTIONS) as stream:
        mask = stream.prepare(frames[1]).mask
        assert mask is not None and mask[-1].all() and not mask[0].any()
        assert stream.prepare(frames[0]).mask is None


def test_a_video_comes_with_lenses_poses_and_masks(tmp_path: Path) -> None:
    clip, masks = write_video(tmp_path / "clip.mp4", 6, size=(48, 64)), tmp_path / "masks"
    masks.mkdir()
    kept = np.zeros((48, 64), np.uint8)
    kept[24:] = 255
    Image.fromarray(kept).save(masks / "clip_000003.png")
    plain = list(open_source(clip).frames())
    assert [frame.intrinsics is None for frame in plain] == [True] * 6
    (tmp_path / "path.txt").write_text("".join(f"{i / 10} {i} 0 0 0 0 0 1\n" for i in range(6)))
    source = open_source(clip, poses=tmp_path / "path.txt", intrinsics="60deg", masks=masks)
    frames = list(source.frames(2))
    assert source.total == 6 and len(frames) == 4
    for number, frame in enumerate(frames, 2):
        assert frame.intrinsics is not None and frame.extrinsics is not None
        np.testing.assert_array_equal(frame.image, plain[number].image)
        np.testing.assert_allclose(frame.intrinsics[0, 0], 32 / np.tan(np.radians(30)))
        np.testing.assert_allclose(frame.extrinsics[:, 3], [-number, 0, 0], atol=1e-9)
        assert frame.intrinsics_origin == "fov" and frame.timestamp == pytest.approx(number / 10)
        assert (frame.mask is None) == (number != 3)
    with StreamingReconstructor(OracleModel(Oracle(world=WORLD)), OPTIONS) as stream:
        mask = stream.prepare(frames[1]).mask
        assert mask is not None and mask[-1].all() and not mask[0].any()


def test_a_video_through_a_lens_is_straightened(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 3, size=(48, 64))
    lens = Lens("OPENCV", (-0.2, 0.0, 0.0, 0.0))
    bent = Cameras(
        intrinsics=np.tile([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]], (3, 1, 1)),
        extrinsics=np.tile(np.eye(3, 4), (3, 1, 1)),
        sizes=np.tile([48, 64], (3, 1)),
        names=tuple(f"clip_{i:06d}.png" for i in range(3)),
        lenses=(lens,) * 3,
    )
    known = export_cameras(bent, tmp_path / "lens", ["cameras"])[0]
    (frame, *_) = open_source(clip, intrinsics=known).frames(1)
    (plain, *_) = open_source(clip).frames(1)
    straight = decode_image(frame.image, index=0, alpha="composite").pixels
    assert straight.shape == (48, 64, 3) and not np.array_equal(straight, plain.image)
