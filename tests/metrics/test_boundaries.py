"""Edges: perfect at the truth, blind to scale, and as a slow twin written from the formula counts them."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.metrics.boundaries import RATIOS, boundary_scores, flying_rate
from depth_anything_3.metrics.observed import observed_cloud_scores, thinned
from depth_anything_3.metrics.reconstruction import sample_mesh


def stairs(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.uniform(1, 3, (4, 5)), np.ones((6, 6)))


def twin(predicted: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """Pixel by pixel, from the formula."""
    rows = []
    for ratio in RATIOS:
        edges: list[set[tuple[int, int, int, int]]] = []
        for depth in (predicted, true):
            found = set()
            for y, x in np.ndindex(depth.shape):
                for v, u in ((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)):
                    if 0 <= v < depth.shape[0] and 0 <= u < depth.shape[1] and depth[v, u] / depth[y, x] > ratio:
                        found.add((y, x, v, u))
            edges.append(found)
        both = len(edges[0] & edges[1])
        p, r = both / max(len(edges[0]), 1), both / len(edges[1])
        rows.append((p, r, 2 * p * r / (p + r) if p + r else 0))
    weights = np.array(RATIOS) - 1
    p, r, f = np.average(rows, axis=0, weights=weights)
    return p, r, f


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.4])
def test_boundaries_as_a_slow_twin_counts_them(noise: float) -> None:
    true = stairs()
    predicted = true * np.exp(noise * np.random.default_rng(1).normal(size=true.shape))
    found = boundary_scores(predicted, true)
    assert found is not None
    assert (found.precision, found.recall, found.f1) == pytest.approx(twin(predicted, true))
    scaled = boundary_scores(7.5 * predicted, true)
    assert scaled is not None and scaled.f1 == pytest.approx(found.f1)


def test_boundaries_at_the_truth_and_without_edges() -> None:
    best = boundary_scores(stairs(), stairs())
    assert best is not None and best.f1 == best.precision == best.recall == 1
    flat = boundary_scores(np.ones((24, 30)), stairs())
    assert flat is not None and flat.f1 == 0
    assert boundary_scores(stairs(), np.ones((24, 30))) is None


def test_flying_pixels_are_those_between_the_surfaces() -> None:
    true = np.ones((20, 20))
    true[:, 10:] = 2
    assert flying_rate(true, true) == 0
    blurred = true.copy()
    blurred[:, 9:11] = 1.5
    assert flying_rate(blurred, true) == pytest.approx(0.5)  # two of the four columns at the edge
    assert flying_rate(5 * np.ones_like(true), true) == 0, "wrong, but not between"
    assert flying_rate(true, np.ones_like(true)) is None


def test_points_lie_on_the_triangles_by_their_area() -> None:
    corners = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1.0]])
    points = sample_mesh(corners, np.array([[0, 1, 2], [3, 4, 5]]), 20_000, seed=1)
    assert ((points[:, 2] == 0) | (np.abs(points[:, 2] - 1) < 1e-12)).all() and (points[:, :2].sum(1) <= 4).all()
    assert (points[:, 2] == 0).mean() == pytest.approx(16 / 17, abs=0.01)
    np.testing.assert_allclose(points[points[:, 2] == 0].mean(0), [4 / 3, 4 / 3, 0], atol=0.03)
    np.testing.assert_array_equal(points, sample_mesh(corners, np.array([[0, 1, 2], [3, 4, 5]]), 20_000, seed=1))


def test_observed_scores_follow_the_rules_by_hand() -> None:
    x, y = np.meshgrid(np.arange(0, 10, 0.5), np.arange(0, 10, 0.5))
    true = np.stack([x.ravel(), y.ravel(), np.full(x.size, 5.0)], 1)
    predicted = true + np.array([0, 0, 0.3])
    options = {
        "mask": np.ones((11, 11, 11), bool),
        "low": np.zeros(3),
        "high": np.full(3, 10.0),
        "resolution": 1.0,
        "plane": np.array([0, 0, 1.0, -1]),
    }
    found = observed_cloud_scores(predicted, true, **options)  # type: ignore[arg-type]
    assert (found.accuracy, found.completeness) == pytest.approx((0.3, 0.3)) and found.chamfer == pytest.approx(0.3)
    below = np.concatenate([true, true * [1, 1, 0]])  # under the plane: not asked for
    assert observed_cloud_scores(predicted, below, **options).completeness == pytest.approx(0.3)  # type: ignore[arg-type]
    far = np.concatenate([predicted, true + np.array([0, 0, 60])])  # outside of the mask, inside of the box
    assert observed_cloud_scores(far, true, **options).accuracy == pytest.approx(0.3)  # type: ignore[arg-type]


def test_thinned_points_keep_their_distance_and_leave_no_gap() -> None:
    points = np.random.default_rng(0).uniform(0, 4, (3000, 3))
    kept = thinned(points, 0.5, seed=3)
    gaps = np.linalg.norm(kept[:, None] - kept, axis=-1) + 9 * np.eye(len(kept))
    assert gaps.min() > 0.5
    assert np.linalg.norm(points[:, None] - kept, axis=-1).min(1).max() <= 0.5
