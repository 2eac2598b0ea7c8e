"""Which points DTU keeps: against loops over pixels and points."""

from __future__ import annotations

import numpy as np

from depth_anything_3.bench.modes._observed import AGREEING, AGREEMENT, _agreed_in, _Seen

H, W = 12, 16
K = np.array([[40.0, 0, W / 2], [0, 40, H / 2], [0, 0, 1]])


def _views(noise: float) -> list[_Seen]:
    """Six cameras side by side before a plane 100 mm away, every third pixel unknown."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(6):
        pose = np.eye(3, 4)
        pose[:, 3] = 2.5 * i, 2.5 * (i % 2), 0  # whole pixels of the plane
        row, column = np.divmod(np.setdiff1d(np.arange(H * W), np.arange(i % 3, H * W, 3)), W)
        z = 100 + noise * rng.normal(size=len(row))
        ray = np.column_stack([column + 0.5, row + 0.5, np.ones(len(row))]) @ np.linalg.inv(K).T
        points = ray * z[:, None] - pose[:, 3]
        found.append(
            _Seen(
                size=(H, W), pixel=row * W + column, points=points.astype(np.float32),
                camera=(K @ pose).astype(np.float32),
            )
        )  # fmt: skip
    return found


def _by_loops(reference: _Seen, views: list[_Seen]) -> np.ndarray:
    kept = []
    for pixel, own in sorted(zip(reference.pixel.tolist(), reference.points.astype(np.float64), strict=True)):
        agreeing = []
        for view in views:
            for point in view.points.astype(np.float64):
                x, y, z = reference.camera.astype(np.float64) @ np.append(point, 1.0)
                if divmod(pixel, W) == (int(y / z), int(x / z)) and np.linalg.norm(point - own) < AGREEMENT:
                    agreeing.append(point)
                    break
        if len(agreeing) >= AGREEING:
            kept.append(np.mean(agreeing, 0))
    return np.array(kept)


def test_points_that_four_views_agree_on_are_kept() -> None:
    views = _views(0.05)
    for i in (0, 3):
        expected = _by_loops(views[i], views)
        assert 20 < len(expected) < len(views[i].points)
        np.testing.assert_allclose(_agreed_in(views[i], views), expected, atol=1e-4)


def test_what_only_three_views_say_is_not() -> None:
    assert len(_agreed_in(_views(0.0)[0], _views(0.0)[:3])) == 0
