"""A prediction before and after refinement, on a rendered scene with an oracle in place of the network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from depth_anything_3.bench.refinement import oracle, render_scene
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import abs_rel, scale_factor
from depth_anything_3.metrics.pose import pair_errors
from depth_anything_3.refine.prediction import Pictures, on_grid, refine_prediction, with_gaussians_of
from depth_anything_3.splat.from_depth import plain_gaussians
from depth_anything_3.synth.sample import Sample
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.options import IntrinsicsOrigin
from depth_anything_3.types.prediction import Prediction

SEED = 910_002  # textured, and without repetition that misleads


@cache
def _scene() -> tuple[Sample, Prediction, Pictures]:
    sample = render_scene("wide", SEED)
    return sample, *oracle(sample, 0)


@cache
def _refined(mode: str) -> Prediction:
    _, prediction, pictures = _scene()
    with_gaussians = replace(prediction, gaussians=plain_gaussians(prediction))
    return refine_prediction(with_gaussians, pictures, mode=mode)  # type: ignore[arg-type]


def test_gaussians_follow_their_pixels() -> None:
    """Plain Gaussians, which are at the depth of their pixels, come out as those of the refined depth and cameras."""
    _, before, _ = _scene()
    for mode in ("poses", "full"):
        after = _refined(mode)
        assert after.gaussians is not None
        expected = plain_gaussians(after)
        size = float(np.median(after.depth))
        assert (plain_gaussians(before).means - expected.means).norm(dim=-1).median() > 0.01 * size, "they had to move"
        torch.testing.assert_close(after.gaussians.means, expected.means, rtol=1e-3, atol=1e-3 * size)
        torch.testing.assert_close(after.gaussians.scales, expected.scales, rtol=2e-2, atol=0.0)


def test_gaussians_are_not_parted_from_their_pixels() -> None:
    _, prediction, pictures = _scene()
    gaussians = plain_gaussians(prediction)
    with pytest.raises(InputError, match="grid"):
        refine_prediction(replace(prediction, gaussians=gaussians), pictures, mode="full", grid=pictures)
    merged = replace(
        prediction, gaussians=replace(gaussians, **{n: getattr(gaussians, n)[:, 1:] for n in vars(gaussians)})
    )
    with pytest.raises(InputError, match="one Gaussian per pixel"):
        with_gaussians_of(merged, prediction)


def _error(prediction: Prediction, sample: Sample) -> float:
    depth = prediction.depth.astype(np.float64)
    return abs_rel(depth * scale_factor(depth, sample.depth.astype(np.float64)), sample.depth.astype(np.float64))


def test_cameras_and_depth_come_nearer_to_the_truth() -> None:
    sample, before, _ = _scene()
    poses, full = _refined("poses"), _refined("full")
    assert full.extrinsics is not None and full.intrinsics is not None
    assert np.median(pair_errors(full.extrinsics.astype(np.float64), sample.extrinsics).rotation_deg) < 0.3
    assert abs(full.intrinsics[0, 0, 0] / sample.intrinsics[0, 0, 0] - 1) < 0.02
    assert _error(full, sample) < 0.6 * _error(before, sample)
    assert _error(poses, sample) < _error(before, sample)


def test_the_first_camera_and_the_unit_stay() -> None:
    sample, before, _ = _scene()
    after = _refined("poses")
    np.testing.assert_allclose(after.extrinsics[0], before.extrinsics[0], atol=1e-4)
    ratio = np.median(after.depth[sample.depth > 0] / before.depth[sample.depth > 0])
    assert ratio == pytest.approx(1.0, abs=0.1)


def test_the_report_says_what_happened() -> None:
    report = _refined("full").refinement
    assert report is not None and report.mode == "full" and report.unsupported == ()
    assert report.pose_source == ("matches",) * 6 and report.scale_source == "network"
    assert min(report.observations) > 10 and all(e is not None and e < 1.5 for e in report.reprojection_px)
    assert sum(report.measured) / 6 > 0.2 and _refined("poses").refinement.measured == (0.0,) * 6
    assert "6 of 6 cameras" in report.summary() and "depth measured" in report.summary()


def test_a_refined_prediction_is_stored_with_its_report(tmp_path) -> None:
    path = _refined("full").save(tmp_path / "p.npz")
    assert Prediction.load(path).refinement == _refined("full").refinement


@pytest.mark.parametrize(("origin", "off"), [("given", 1.2), ("exif", 1.04)])
def test_lenses_of_a_calibration_stay_and_stated_ones_nearly(origin: IntrinsicsOrigin, off: float) -> None:
    sample, prediction, pictures = _scene()
    lenses = sample.intrinsics.astype(np.float32)
    lenses[:, :2, :2] *= off
    after = refine_prediction(replace(prediction, intrinsics=lenses), pictures, mode="poses", lenses_from=origin)
    assert after.refinement.pose_source == ("matches",) * 6
    if origin == "given":  # right or wrong
        np.testing.assert_allclose(after.intrinsics, lenses, rtol=1e-5, atol=1e-4)
    else:
        np.testing.assert_allclose(after.intrinsics[:, 0, 0] / sample.intrinsics[:, 0, 0], 1, atol=0.02)


def test_given_cameras_stay_bit_for_bit() -> None:
    sample, prediction, pictures = _scene()
    given = replace(
        prediction, extrinsics=sample.extrinsics.astype(np.float32), intrinsics=sample.intrinsics.astype(np.float32)
    )
    after = refine_prediction(given, pictures, mode="poses", cameras_given=True)
    np.testing.assert_allclose(after.extrinsics, given.extrinsics, atol=1e-5)
    np.testing.assert_allclose(after.intrinsics, given.intrinsics, rtol=1e-5)
    assert after.refinement.pose_source == ("given",) * 6 and after.refinement.scale_source == "given"
    assert _error(after, sample) < _error(given, sample)


def test_two_runs_are_equal() -> None:
    _, prediction, pictures = _scene()
    again = refine_prediction(prediction, pictures, mode="full")
    np.testing.assert_array_equal(again.depth, _refined("full").depth)
    np.testing.assert_array_equal(again.extrinsics, _refined("full").extrinsics)


def test_one_view_keeps_the_networks_answer() -> None:
    _, prediction, pictures = _scene()
    one = Prediction(
        depth=prediction.depth[:1],
        is_metric=False,
        extrinsics=prediction.extrinsics[:1],
        intrinsics=prediction.intrinsics[:1],
        processed_images=prediction.processed_images[:1],
        records=prediction.records[:1],
    )
    after = refine_prediction(one, Pictures(pixels=pictures.pixels[:1], records=pictures.records[:1]), mode="full")
    np.testing.assert_array_equal(after.depth, one.depth)
    assert after.refinement.unsupported == (0,) and "network's answer stands" in after.refinement.summary()


def test_pictures_without_anything_in_them_leave_everything_to_the_network() -> None:
    _, prediction, pictures = _scene()
    plain = Pictures(pixels=np.full_like(pictures.pixels, 128), records=pictures.records)
    after = refine_prediction(prediction, plain, mode="full")
    np.testing.assert_allclose(after.extrinsics, prediction.extrinsics, atol=1e-4)
    np.testing.assert_allclose(after.depth, prediction.depth, rtol=1e-5)
    assert after.refinement.unsupported == tuple(range(6))


def test_maps_move_to_another_grid_with_their_cameras() -> None:
    _, prediction, _ = _scene()
    count, height, width = prediction.depth.shape
    record = ResizeRecord(
        source_hw=(height, width), processed_hw=(180, 200), scale_xy=(0.5, 0.5), offset_xy=(-20.0, 0.0)
    )
    grid = Pictures(pixels=np.zeros((count, 180, 200, 3), np.uint8), records=(record,) * count)
    moved = on_grid(prediction, grid)
    assert moved.depth.shape == (count, 180, 200)
    # The centre of pixel (row 50, column 60) of the new grid is the corner of four pixels of the old one.
    old = np.log(prediction.depth[0, 100:102, 160:162]).mean()
    assert np.log(moved.depth[0, 50, 60]) == pytest.approx(old, abs=1e-4)
    np.testing.assert_allclose(moved.intrinsics[0, :2, 2], prediction.intrinsics[0, :2, 2] * 0.5 + [-20, 0], rtol=1e-5)


def test_what_cannot_be_refined_is_refused() -> None:
    _, prediction, pictures = _scene()
    with pytest.raises(InputError, match="prediction"):
        refine_prediction(replace(prediction, extrinsics=None), pictures, mode="full")
    with pytest.raises(InputError, match="mode"):
        refine_prediction(prediction, pictures, mode="off")
