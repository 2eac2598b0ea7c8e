"""Votes between views of a wall."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.refine.consistency import sharing_views, votes
from depth_anything_3.synth.sample import build, cameras_for, film

K = np.array([[50.0, 0, 20], [0, 50, 15], [0, 0, 1]])


def cameras(*shifts: float) -> tuple[np.ndarray, np.ndarray]:
    """Cameras side by side that look along z."""
    pose = np.tile(np.eye(4)[:3], (len(shifts), 1, 1))
    pose[:, 0, 3] = [-shift for shift in shifts]
    return np.tile(K, (len(shifts), 1, 1)), pose


def test_a_wall_is_confirmed_where_others_see_it() -> None:
    k, pose = cameras(0, 0.4)  # 10 pixels at depth 2
    confirmed, contradicted = votes(np.full((2, 30, 40), 2.0), k, pose, tolerance=0.01)
    assert (confirmed[0, :, 10:] == 1).all() and (confirmed[0, :, :10] == 0).all()
    assert (confirmed[1, :, :30] == 1).all() and (confirmed[1, :, 30:] == 0).all()
    assert not contradicted.any()


def test_what_floats_is_seen_through_and_what_is_behind_is_hidden() -> None:
    k, pose = cameras(0, 0.2, -0.2)
    depth = np.full((3, 30, 40), 2.0)
    depth[0, 10:14, 18:22] = 1.0
    depth[0, 20:24, 18:22] = 4.0
    confirmed, contradicted = votes(depth, k, pose, tolerance=0.01)
    assert (contradicted[0, 10:14, 18:22] == 2).all() and (confirmed[0, 10:14, 18:22] == 0).all()
    assert (contradicted[0, 20:24, 18:22] == 0).all() and (confirmed[0, 20:24, 18:22] == 0).all()
    assert contradicted[0].sum() == 2 * 16


def test_the_tolerance_is_a_share_of_depth() -> None:
    k, pose = cameras(0, 0.1)
    depth = np.stack([np.full((30, 40), 2.0), np.full((30, 40), 2.05)])
    assert votes(depth, k, pose, tolerance=0.03)[0].any()
    assert not votes(depth, k, pose, tolerance=0.02)[0].any()


def test_unknown_pixels_neither_vote_nor_are_voted_on() -> None:
    k, pose = cameras(0, 0)
    keep = np.ones((2, 30, 40), bool)
    keep[1, :, :20] = False
    keep[0, :5] = False
    confirmed, contradicted = votes(np.full((2, 30, 40), 2.0), k, pose, keep, tolerance=0.01)
    assert not confirmed[0, :, :20].any() and confirmed[0, 6:, 22:].all()
    assert not confirmed[0, :5].any() and not confirmed[1, :, :20].any()
    assert not contradicted.any()


def test_exact_depth_of_a_scene_is_confirmed() -> None:
    scene, _ = build(0, "room")
    sample = film(scene, (), cameras_for(scene, (), [0.0, 1.0, 2.0], 84, 112, seed=0), 84, 112)
    confirmed, contradicted = votes(sample.depth, sample.intrinsics, sample.extrinsics, ~sample.sky, tolerance=0.03)
    assert np.mean(contradicted > confirmed) < 0.002
    assert np.mean(confirmed > 0) > 0.5


def test_neighbours_are_those_that_share_most() -> None:
    k, pose = cameras(0, 0.2, 0.8, 5.0)
    found = sharing_views(np.full((4, 30, 40), 2.0), k, pose, 2)
    assert [f.tolist() for f in found] == [[1, 2], [0, 2], [1, 0], []]


def test_shapes_are_checked() -> None:
    k, pose = cameras(0, 1)
    with pytest.raises(InputError, match="extrinsics"):
        votes(np.ones((2, 4, 4)), k, pose[:1], tolerance=0.1)
