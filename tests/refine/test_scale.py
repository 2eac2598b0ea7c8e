"""Metres from known lengths and points, on a slanted wall seen by two cameras."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, unproject
from depth_anything_3.refine.depth_alignment import SeenPoints
from depth_anything_3.refine.scale import Baseline, KnownDistance, pin_to_points, rescale_to
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction

H, W, FACTOR = 28, 42, 2.5  # metres per unit of the network
RECORD = ResizeRecord(source_hw=(60, 90), processed_hw=(H, W), scale_xy=(0.5, 0.5), offset_xy=(-1.5, -1.0))


def wall() -> Prediction:
    y, x = np.mgrid[:H, :W]
    depth = np.stack([2 + 0.03 * x + 0.01 * y, 2.1 + 0.02 * x])
    K = np.tile(np.array([[40.0, 0, W / 2], [0, 44, H / 2], [0, 0, 1]]), (2, 1, 1))
    poses = np.tile(np.eye(4)[:3], (2, 1, 1))
    poses[1, 0, 3] = -0.4
    return Prediction(depth=depth, is_metric=False, extrinsics=poses, intrinsics=K, records=(RECORD,) * 2)


def check(found: Prediction, before: Prediction, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(found.depth, FACTOR * before.depth, rtol=tolerance)
    assert found.extrinsics is not None and before.extrinsics is not None
    np.testing.assert_allclose(camera_centres(found.extrinsics)[1], [0.4 * FACTOR, 0, 0], rtol=tolerance)
    assert found.is_metric and found.alignment is not None
    assert found.alignment.scale == pytest.approx(FACTOR, rel=tolerance)
    assert not before.is_metric


def given_pixel(column: int, row: int) -> tuple[float, float]:
    """Where the centre of a pixel of the maps is in the given picture."""
    return (column + 0.5 + 1.5) / 0.5, (row + 0.5 + 1.0) / 0.5


def seen(prediction: Prediction, rng: np.random.Generator, count: int) -> SeenPoints:
    view, column, row = rng.integers(0, 2, count), rng.integers(0, W, count), rng.integers(0, H, count)
    return SeenPoints(
        view=view,
        xy=np.array([given_pixel(c, r) for c, r in zip(column, row, strict=True)]),
        depth=FACTOR * prediction.depth[view, row, column].astype(np.float64),
        sigma=np.full(count, 0.01),
    )


def test_a_stereo_pair_with_a_known_baseline() -> None:
    found = rescale_to(wall(), Baseline(metres=0.4 * FACTOR))
    check(found, wall())
    assert found.alignment is not None and found.alignment.rule == "baseline"


def test_a_known_distance_across_views() -> None:
    world = unproject(wall().depth, wall().intrinsics, wall().extrinsics)  # type: ignore[arg-type]
    metres = FACTOR * float(np.linalg.norm(world[0, 3, 5] - world[1, 20, 30]))
    known = KnownDistance(views=(0, 1), xy=(given_pixel(5, 3), given_pixel(30, 20)), metres=metres)
    check(rescale_to(wall(), known), wall())


def test_points_of_which_many_are_wrong() -> None:
    rng = np.random.default_rng(0)
    points = seen(wall(), rng, 200)
    points.depth[:60] *= rng.uniform(1.5, 4, 60)
    points.depth[60:] *= np.exp(0.01 * rng.normal(size=140))
    found = rescale_to(wall(), points)
    check(found, wall(), tolerance=5e-3)
    assert found.alignment is not None and found.alignment.error is not None and 0 < found.alignment.error < 0.05


def test_precise_points_count_more() -> None:
    points = seen(wall(), np.random.default_rng(0), 60)
    points.depth[:30] *= 1.1
    points.sigma[:30] = 0.5
    found = rescale_to(wall(), points).alignment
    assert found is not None and abs(found.scale / FACTOR - 1) < 0.03


def test_depth_is_pinned_to_points_where_one_scale_is_not_enough() -> None:
    truth = wall()
    bent = np.exp(0.15 * np.linspace(-1, 1, W))
    prediction = Prediction(
        depth=truth.depth * bent, is_metric=False, extrinsics=truth.extrinsics, intrinsics=truth.intrinsics,
        records=truth.records,
    )  # fmt: skip
    points = seen(truth, np.random.default_rng(1), 400)
    found, report = pin_to_points(prediction, points)
    error = np.abs(np.log(found.depth / (FACTOR * truth.depth)))
    assert np.median(error) < 0.01 < 0.05 < np.median(np.abs(np.log(bent)))
    assert report.method == ("field", "field")
    assert (report.residual_after < 0.3 * report.residual_before).all()
    assert found.alignment is not None and found.alignment.error == pytest.approx(np.median(report.residual_after))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (Baseline(metres=-1.0), "positive length"),
        (Baseline(metres=1.0, views=(0, 2)), "index from 0 to 1"),
        (Baseline(metres=1.0, views=(1, 1)), "two places apart"),
        (KnownDistance(views=(0, 0), xy=((-50.0, 2), (9, 9)), metres=1.0), "of known depth"),
    ],
)
def test_references_that_say_nothing(reference: Baseline | KnownDistance, message: str) -> None:
    with pytest.raises(InputError, match=message):
        rescale_to(wall(), reference)
