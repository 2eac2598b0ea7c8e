"""Point clouds of predictions: where points come from, what merging and removing outliers do."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import CapabilityError, InputError, MissingExtraError
from depth_anything_3.geometry.pinhole import project
from depth_anything_3.refine.points import merge_points, points, statistical_inliers, within_radius
from depth_anything_3.synth.sample import build, cameras_for, film
from depth_anything_3.types.cloud import PointCloud
from depth_anything_3.types.options import CleanOptions
from depth_anything_3.types.prediction import Prediction


@pytest.fixture(scope="module")
def room() -> tuple[Prediction, np.ndarray]:
    """Three small views of a procedural room, and their exact normals in the world."""
    scene, _ = build(0, "room")
    sample = film(scene, (), cameras_for(scene, (), [0.0, 1.0, 2.0], 84, 112, seed=0), 84, 112)
    prediction = Prediction(
        sample.depth,
        True,
        conf=1 + sample.depth,
        extrinsics=sample.extrinsics,
        intrinsics=sample.intrinsics,
        processed_images=(sample.rgb * 255).astype(np.uint8),
    )
    return prediction, np.einsum("nhwi,nij->nhwj", sample.normal, sample.extrinsics[:, :, :3])


def cloud(xyz: Any, rgb: Any = None, confidence: Any = None) -> PointCloud:
    count = len(xyz)
    return PointCloud(
        xyz=np.asarray(xyz, np.float32),
        rgb=np.zeros((count, 3), np.uint8) if rgb is None else np.asarray(rgb, np.uint8),
        view=np.arange(count, dtype=np.int32),
        pixel=np.stack([np.arange(count)] * 2, -1).astype(np.int32),
        confidence=None if confidence is None else np.asarray(confidence, np.float32),
    )


def test_points_project_to_their_pixels_with_their_values(room: tuple[Prediction, np.ndarray]) -> None:
    prediction, exact = room
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    assert prediction.processed_images is not None and prediction.conf is not None
    made = points(prediction, "clean", normals=True)
    assert 0.7 < len(made) / prediction.depth.size < 0.95
    for view in range(3):
        of_view = made.view == view
        xy, z = project(made.xyz[of_view], prediction.intrinsics[view], prediction.extrinsics[view])
        x, y = made.pixel[of_view].T
        np.testing.assert_allclose(xy, made.pixel[of_view] + 0.5, atol=0.01)
        np.testing.assert_allclose(z, prediction.depth[view, y, x], rtol=1e-4)
        np.testing.assert_array_equal(made.rgb[of_view], prediction.processed_images[view, y, x])
        assert made.confidence is not None and made.normals is not None
        np.testing.assert_array_equal(made.confidence[of_view], prediction.conf[view, y, x])
        assert np.median((made.normals[of_view] * exact[view, y, x]).sum(-1)) > 0.999
    assert made.is_metric


def test_strict_is_smaller_and_still_on_the_surfaces(room: tuple[Prediction, np.ndarray]) -> None:
    prediction, _ = room
    raw, strict = points(prediction, "raw"), points(prediction, "strict")
    assert len(raw) == np.count_nonzero(prediction.depth > 0)
    assert 0 < len(strict) < len(points(prediction, "clean"))
    assert raw.normals is None
    assert (strict.xyz.min(0) >= raw.xyz.min(0) - 1e-5).all() and (strict.xyz.max(0) <= raw.xyz.max(0) + 1e-5).all()


def test_merging_weighs_by_confidence_and_names_the_best() -> None:
    merged = merge_points(
        cloud(
            [[0.1, 0.1, 0.1], [0.5, 0.1, 0.1], [3, 3, 3]],
            rgb=[[0, 0, 0], [100, 0, 0], [7, 8, 9]],
            confidence=[1, 3, 1],
        ),
        1.0,
    )
    np.testing.assert_allclose(merged.xyz, [[0.4, 0.1, 0.1], [3, 3, 3]], rtol=1e-6)
    assert merged.rgb.tolist() == [[75, 0, 0], [7, 8, 9]]
    assert merged.view.tolist() == [1, 2] and merged.pixel.tolist() == [[1, 1], [2, 2]]
    assert merged.confidence is not None and merged.confidence.tolist() == [3, 1]
    assert merge_points(cloud([[0.1, 0, 0], [0.3, 0, 0]]), 1.0).view.tolist() == [0]
    assert len(merge_points(cloud(np.zeros((0, 3))), 1.0)) == 0


def test_lonely_points_go() -> None:
    grid = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0), [0.0]), -1).reshape(-1, 3)
    xyz = np.concatenate([grid, [[50.0, 50, 50]]])
    assert np.flatnonzero(~statistical_inliers(xyz, 8, 3.0)).tolist() == [100]
    assert np.flatnonzero(~within_radius(xyz, 1.5, 3)).tolist() == [100]
    assert np.count_nonzero(~within_radius(xyz, 1.1, 3)) == 5  # the corners of the grid have two neighbours
    assert statistical_inliers(xyz[:2], 8, 3.0).all()
    assert not within_radius(xyz[:2], 1.5, 3).any()


def test_far_things_are_sampled_more_coarsely() -> None:
    side = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0), [0.0]), -1).reshape(-1, 3)
    xyz = np.concatenate([side * 0.1, side[:20] + 1000])
    spacing = np.concatenate([np.full(144, 0.1), np.full(20, 1.0)])
    assert not statistical_inliers(xyz, 4, 2.0)[144:].any()
    assert statistical_inliers(xyz, 4, 2.0, spacing=spacing)[144:].mean() > 0.7


def test_outliers_need_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[clean\]"):
        within_radius(np.zeros((9, 3)), 1.0, 2)


def test_without_pictures_confidence_or_points(room: tuple[Prediction, np.ndarray]) -> None:
    full, _ = room
    plain = Prediction(full.depth, False, extrinsics=full.extrinsics, intrinsics=full.intrinsics)
    made = points(plain, "clean")
    assert (made.rgb == 128).all() and made.confidence is None and not made.is_metric
    nothing = points(plain, "strict", mask=np.zeros(full.depth.shape, bool), normals=True)
    assert len(nothing) == 0 and nothing.normals is not None


def test_cameras_are_needed_and_options_checked(room: tuple[Prediction, np.ndarray]) -> None:
    full, _ = room
    with pytest.raises(CapabilityError, match="no extrinsics"):
        points(Prediction(full.depth, False, intrinsics=full.intrinsics))
    with pytest.raises(InputError, match="radius"):
        within_radius(np.zeros((1, 3)), 0.0, 1)
    with pytest.raises(InputError, match="conf_percentile"):
        CleanOptions(conf_percentile=100)


def test_radius_is_a_share_of_the_median_depth(room: tuple[Prediction, np.ndarray]) -> None:
    full, _ = room
    wished = CleanOptions(flying=0, radius=0.01, radius_neighbours=3)
    grown = Prediction(
        full.depth * 8,
        False,
        extrinsics=np.concatenate([full.extrinsics[..., :3], full.extrinsics[..., 3:] * 8], -1),  # type: ignore[index]
        intrinsics=full.intrinsics,
    )
    assert abs(len(points(full, wished)) - len(points(grown, wished))) < 5
    assert 0 < len(points(full, wished)) < len(points(full, "raw"))
