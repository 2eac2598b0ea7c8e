"""Choice of the views to compare with."""

from __future__ import annotations

import numpy as np
from support.poses import rotation, with_centres

from depth_anything_3.refine.source_views import choose_sources

K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])


def chosen(positions: list[list[float]], turns: list[np.ndarray] | None = None, count: int = 2) -> list[list[int]]:
    n = len(positions)
    poses = with_centres(np.stack(turns or [np.eye(3)] * n), np.array(positions, float))
    found = choose_sources(np.full((n, 48, 64), 2.0), np.tile(K, (n, 1, 1)), poses, count)
    return [row.tolist() for row in found]


def test_a_helpful_angle_wins() -> None:
    # Angles from view 0 of about 0, 1, 6 and 50 degrees.
    found = chosen([[0, 0, 0], [0.001, 0, 0], [0.03, 0, 0], [0.2, 0, 0], [1.6, 0, 0]])
    assert found[0][0] == 3
    assert 1 not in found[0]


def test_a_view_that_looks_away_is_no_source() -> None:
    found = chosen([[0, 0, 0], [0.2, 0, 0], [0.2, 0.1, 0]], [np.eye(3), rotation([0, 1, 0], 180), np.eye(3)])
    assert found[0] == [2]
    assert found[1] == []


def test_turning_alone_gives_no_source() -> None:
    turns = [rotation([0, 1, 0], a) for a in (0, 5, 10)]
    assert chosen([[0, 0, 0], [0, 0, 0], [1e-6, 0, 0]], turns) == [[], [], []]


def test_one_view_and_unknown_depth() -> None:
    assert chosen([[0, 0, 0]]) == [[]]
    poses = with_centres(np.stack([np.eye(3)] * 2), np.array([[0, 0, 0], [0.2, 0, 0.0]]))
    depth = np.full((2, 48, 64), 2.0)
    depth[0] = np.nan
    assert [row.tolist() for row in choose_sources(depth, np.tile(K, (2, 1, 1)), poses, 2)] == [[], [0]]
