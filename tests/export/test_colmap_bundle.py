"""Matches of a refinement as tracks, and cameras that COLMAP corrects with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.poses import centres, disturbed
from support.scenes import wall

from depth_anything_3.errors import InputError
from depth_anything_3.export import colmap, npz
from depth_anything_3.export._saved import load_result
from depth_anything_3.export.base import MANIFEST, export_all
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.io.colmap import NO_POINT, read_images, read_points
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.metrics.trajectory import align_by_orientations
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.prediction import Prediction

VIEWS, DISTANCE = 6, 2.0
LARGER = 640 / 48


def truth(*, noise: float = 0.0, seed: int = 0) -> Prediction:
    """Six views of a wall, their pictures of 640 x 480 pixels, and where they see 300 points of it."""
    scene, rng = wall(views=VIEWS, distance=DISTANCE), np.random.default_rng(seed)
    lenses = scene.intrinsics * np.array([LARGER, LARGER, 1])[:, None]
    pixels = rng.integers([1, 5], [47, 35], (300, 2))
    first = unproject(scene.depth[2].astype(float), scene.intrinsics[2], scene.extrinsics[2])
    xy, z = project(first[pixels[:, 1], pixels[:, 0]][None], lenses, scene.extrinsics)
    view, point = np.nonzero((z > 0) & (xy > 2).all(-1) & (xy < [638, 478]).all(-1) & (xy[..., 1] > 70))
    seen = Observations(
        point=point,
        view=view,
        xy=xy[view, point] + noise * rng.normal(size=(len(view), 2)),
        weight=np.ones(len(view)),
    )
    record = ResizeRecord(
        source_hw=(480, 640), processed_hw=(36, 48), scale_xy=(1 / LARGER, 1 / LARGER), offset_xy=(0.0, 0.0)
    )
    return Prediction(
        depth=scene.depth,
        is_metric=True,
        extrinsics=scene.extrinsics.astype(np.float32),
        intrinsics=scene.intrinsics.astype(np.float32),
        processed_images=scene.images,
        names=tuple(f"{i}.jpg" for i in range(VIEWS)),
        records=(record,) * VIEWS,
        observations=seen,
    )


def shaken(prediction: Prediction, seed: int) -> Prediction:
    """Every camera turned by 2 degrees and moved by 3 % of the distance to the wall."""
    assert prediction.extrinsics is not None
    poses = disturbed(prediction.extrinsics.astype(float), seed, 2.0, 0.03 * DISTANCE)
    return replace(prediction, extrinsics=poses.astype(np.float32))


def errors(poses: np.ndarray, prediction: Prediction) -> tuple[np.ndarray, np.ndarray, float]:
    """Degrees, shares of the distance, and the length of the path, after the frame that the axes agree on."""
    assert prediction.extrinsics is not None
    true = prediction.extrinsics.astype(float)
    moved = align_by_orientations(poses, true, scale=1.0).on_extrinsics(poses)
    turned = rotation_angle_deg(moved[:, :, :3] @ true[:, :, :3].swapaxes(1, 2))
    apart = np.linalg.norm(moved[:, :, 3] - true[:, :, 3], axis=1)
    length = [np.linalg.norm(np.diff(centres(path), axis=0), axis=1).sum() for path in (moved, true)]
    return turned, apart / DISTANCE, length[0] / length[1]


def test_matches_become_tracks_at_the_pixels_where_they_were_found(tmp_path: Path) -> None:
    prediction = truth(noise=0.3)
    seen = prediction.observations
    assert seen is not None
    colmap.export(prediction, tmp_path, colmap.Options(num_max_points=1000))
    points, images = read_points(tmp_path), read_images(tmp_path)
    matched = points.track_lengths > 0
    assert 200 < matched.sum() <= 300 and matched.sum() < len(points.ids) <= 1000
    assert np.abs(points.xyz[matched] @ [0, 0, 1] - DISTANCE).mean() < 0.01 and points.errors[matched].max() < 2
    assert points.track_lengths[matched].min() >= 2 and points.track_lengths.max() > 3
    for number, image in images.items():
        assert (image.points != NO_POINT).all()
        mine = seen.xy[seen.view == number - 1]
        nearest = np.linalg.norm(image.xy[:, None] - mine[None], axis=-1).min(1)
        assert len(image.xy) > 50 and nearest.max() < 1e-9, "observations are those of the matcher, to the last digit"
    colmap.export(prediction, tmp_path / "few", colmap.Options(num_max_points=50, tracks="matches"))
    few = read_points(tmp_path / "few")
    assert len(few.ids) == 50 and few.track_lengths.min() > 2, "the points that most views see"


def test_masked_pixels_and_other_sources_of_tracks(tmp_path: Path) -> None:
    prediction = truth()
    keep = np.ones(prediction.depth.shape, np.bool_)
    keep[1] = False
    colmap.export(replace(prediction, valid=keep), tmp_path, colmap.Options(tracks="matches"))
    images = read_images(tmp_path)
    assert not len(images[2].points) and len(images[1].points)
    colmap.export(prediction, tmp_path, colmap.Options(tracks="depth"))
    assert read_points(tmp_path).track_lengths.min() >= 2
    with pytest.raises(InputError, match="tracks: got 'matches' for a prediction without"):
        colmap.export(replace(prediction, observations=None), tmp_path, colmap.Options(tracks="matches"))


def test_matches_are_saved_and_checked(tmp_path: Path) -> None:
    prediction = truth()
    assert prediction.observations is not None
    back = Prediction.load(prediction.save(tmp_path / "saved.npz")).observations
    assert back is not None
    for name in ("point", "view", "xy", "weight"):
        np.testing.assert_array_equal(getattr(back, name), getattr(prediction.observations, name))
        assert not getattr(back, name).flags.writeable
    with pytest.raises(InputError, match=r"observations\.view"):
        replace(prediction, observations=replace(prediction.observations, view=prediction.observations.view + 1))


def test_a_saved_result_leads_to_the_same_tracks(tmp_path: Path) -> None:
    """What ``da3 convert`` does with the folder of an ``npz``."""
    prediction = replace(truth(), timestamps=tuple(i / 7 for i in range(VIEWS)))
    export_all(prediction, tmp_path / "first", {"npz": npz.Options()})
    read = load_result(tmp_path / "first")
    assert read.timestamps == prediction.timestamps
    options = colmap.Options(tracks="matches")
    for name, result in (("direct", prediction), ("converted", read)):
        colmap.export(result, tmp_path / name, options)
    for file in ("cameras.bin", "images.bin", "points3D.bin"):
        assert (tmp_path / "direct" / file).read_bytes() == (tmp_path / "converted" / file).read_bytes()
    assert len(read_points(tmp_path / "converted").ids) > 200


@pytest.mark.parametrize("shared", [False, True])
def test_colmap_brings_disturbed_cameras_back(tmp_path: Path, shared: bool, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    turned, moved = [], []
    for seed in range(3):
        true = truth(noise=0.3, seed=seed)
        start = shaken(true, seed)
        before = errors(np.asarray(start.extrinsics, float), true)
        assert np.median(before[0]) > 1 and np.median(before[1]) > 0.015
        options = colmap.Options(bundle_adjustment="poses", shared_camera=shared, tracks="matches")
        export_all(start, tmp_path, {"colmap": options})
        after = errors(read_cameras(tmp_path).extrinsics, true)
        assert abs(after[2] - 1) < 0.01, "in the unit of the depth"
        turned.append(after[0])
        moved.append(after[1])
    assert np.median(turned) <= 0.2 and np.median(moved) <= 0.005
    assert capfd.readouterr().err == "", "COLMAP tells the terminal nothing"
    manifest: dict[str, Any] = json.loads((tmp_path / MANIFEST).read_text())["formats"]["colmap"]
    report = manifest["bundle_adjustment"]
    assert report == json.loads((tmp_path / colmap.REPORT).read_text()) and colmap.REPORT in manifest["files"]
    assert report["images"] == VIEWS and report["reprojection_px_before"] > 5 > 0.6 > report["reprojection_px_after"]


def test_focal_lengths_are_found_where_they_may_move(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    true = truth()
    assert true.intrinsics is not None
    wrong = true.intrinsics.copy()
    wrong[:, :2, :2] *= 1.03
    start = replace(true, intrinsics=wrong)
    for kind, least, most in (("poses", 1.0299, 1.0301), ("cameras", 0.99, 1.01)):
        options = colmap.Options(bundle_adjustment=kind, shared_camera=True)  # type: ignore[arg-type]
        colmap.export(start, tmp_path, options)
        focal = read_cameras(tmp_path).intrinsics[:, 0, 0].mean() / (true.intrinsics[0, 0, 0] * LARGER)
        assert least < focal < most
    model = pycolmap.Reconstruction(str(tmp_path))
    assert model.num_cameras() == 1 and model.num_reg_images() == VIEWS


def test_bundle_adjustment_without_matches_says_so(room: Prediction, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    options = colmap.Options(bundle_adjustment="poses", num_max_points=200)
    with pytest.warns(UserWarning, match="without the matches"):
        paths = colmap.export(room, tmp_path, options)
    assert [path.name for path in paths] == colmap.planned_files(3, options)
    np.testing.assert_allclose(read_cameras(tmp_path).extrinsics, room.extrinsics, atol=1e-3)
