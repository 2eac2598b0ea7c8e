"""Triangulation against exact synthetic points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.poses import centres, rotation, with_centres

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project
from depth_anything_3.refine.reprojection import homogeneous_points, project_points
from depth_anything_3.refine.tracks import Observations
from depth_anything_3.refine.triangulate import Triangulated, camera_rays, triangulate

K = np.array([[500.0, 0, 320], [0, 510.0, 240], [0, 0, 1]])


def cameras(count: int = 5) -> np.ndarray:
    """On an arc of 40 degrees about (0, 0, 4), looking at it."""
    turns = np.stack([rotation([0.1, 1, 0], a) for a in np.linspace(-20, 20, count)])
    positions = np.stack([np.array([0, 0, 4.0]) - 4 * turn.T @ [0, 0, 1] for turn in turns])
    return with_centres(turns, positions)


def seen(points: np.ndarray, poses: np.ndarray) -> Observations:
    """Every point in every view, exactly."""
    xy, _ = project(points[None], np.tile(K, (len(poses), 1, 1)), poses)
    point, view = np.meshgrid(np.arange(len(points)), np.arange(len(poses)))
    return Observations(point=point.ravel(), view=view.ravel(), xy=xy.reshape(-1, 2), weight=np.ones(point.size))


def run(observations: Observations, count: int, poses: np.ndarray, **options: float) -> Triangulated:
    return triangulate(observations, count, poses, np.tile(K, (len(poses), 1, 1)), **options)


def cloud(count: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([-1, -1, 3], [1, 1, 5], (count, 3))


def test_exact_rays_give_exact_points() -> None:
    points, poses = cloud(), cameras()
    observations = seen(points, poses)
    shuffled = observations.where(np.random.default_rng(0).permutation(len(observations.point)))
    found = run(shuffled, len(points), poses)
    np.testing.assert_allclose(found.places, points, atol=1e-9)
    assert found.errors_px.max() < 1e-8
    assert found.good.all()
    assert (found.views == 5).all()
    rays = points[:, None] - centres(poses)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    widest = np.arccos((rays[:, :, None] * rays[:, None]).sum(-1).clip(-1, 1)).max((1, 2))
    np.testing.assert_allclose(found.angle, widest, atol=1e-7)


def test_distortion() -> None:
    points, poses = cloud(), cameras()
    rows = seen(points, poses)
    lenses = np.tile(K, (len(rows.view), 1, 1))
    xy, _, front = project_points(poses[rows.view], lenses, homogeneous_points(points)[rows.point], -0.2)
    assert front.all()
    assert np.abs(xy - rows.xy).max() > 5
    np.testing.assert_allclose(camera_rays(xy, lenses, -0.2), camera_rays(rows.xy, lenses), atol=1e-10)
    found = run(replace(rows, xy=xy), len(points), poses, distortion=-0.2)
    np.testing.assert_allclose(found.places, points, atol=1e-9)


def test_noise_is_as_large_as_least_squares_leaves_it() -> None:
    """Two coordinates per view less three per point: rms^2 / sigma^2 is (2 * 5 - 3) / 5 on average."""
    points, poses = cloud(400), cameras()
    exact = seen(points, poses)
    noisy = replace(exact, xy=exact.xy + 0.5 * np.random.default_rng(1).normal(size=exact.xy.shape))
    found = run(noisy, len(points), poses)
    assert np.mean(found.rms_px**2) / 0.25 == pytest.approx(7 / 5, rel=0.06)
    assert np.median(np.linalg.norm(found.places - points, axis=1)) < 0.01
    rough = run(noisy, len(points), poses, rounds=0)
    assert np.mean(found.rms_px**2) < np.mean(rough.rms_px**2)


def test_infinity_narrow_angles_and_single_views_are_marked() -> None:
    poses = cameras()
    points = np.array([[0, 0, 4.0], [0, 0, 4e3], [0.2, 0.1, 4.0]])
    rows = seen(points, poses)
    kept = (rows.point != 2) | (rows.view == 0)
    far = run(rows.where(kept), 4, poses)
    assert far.good.tolist() == [True, False, False, False]
    assert far.narrow.tolist() == [False, True, True, True]
    assert not far.behind[:2].any()
    np.testing.assert_allclose(far.places[1], points[1], rtol=1e-3, atol=1e-6)
    assert far.points[2, 3] == 0  # a direction,
    assert far.errors_px[rows.where(kept).point == 2].max() < 1e-6  # the right one
    assert not far.points[3].any()
    assert np.isinf(far.rms_px[3])
    star = np.array([[0.05, -0.02, 1.0]]) * 1e9
    only_turned = with_centres(poses[:, :, :3], np.zeros((5, 3)))
    turned = run(seen(star, only_turned), 1, only_turned)
    assert turned.errors_px.max() < 1e-5
    assert turned.narrow.all()


def test_behind() -> None:
    """Rays that part: the nearest point is behind both cameras."""
    poses = with_centres(np.tile(np.eye(3), (2, 1, 1)), np.array([[0.0, 0, 0], [1, 0, 0]]))
    xy = np.array([[300.0, 240.0], [340.0, 240.0]])
    parting = Observations(point=np.zeros(2, int), view=np.arange(2), xy=xy, weight=np.ones(2))
    found = run(parting, 1, poses)
    assert found.behind.all()
    assert not found.good.any()
    assert np.isinf(found.places).all()


def test_weights() -> None:
    points, poses = cloud(5), cameras()
    exact = seen(points, poses)
    wild = exact.view == 2
    wrong = replace(exact, xy=exact.xy + 80 * wild[:, None], weight=np.where(wild, 0.0, 1.0))
    found = run(wrong, 5, poses)
    np.testing.assert_allclose(found.places, points, atol=1e-9)
    assert (found.views == 4).all()
    assert found.errors_px[wild].min() > 50
    light = run(replace(wrong, weight=np.where(wild, 1e-6, 1.0)), 5, poses)
    np.testing.assert_allclose(light.places, points, atol=1e-3)


def test_a_far_world_is_as_exact() -> None:
    poses, points = cameras(), cloud()
    shift = np.array([1e5, -3e5, 2e5])
    moved = with_centres(poses[:, :, :3], centres(poses) + shift)
    found = run(seen(points + shift, moved), len(points), moved)
    np.testing.assert_allclose(found.places, points + shift, atol=1e-4)


def test_bad_input() -> None:
    points, poses = cloud(3), cameras()
    rows = seen(points, poses)
    with pytest.raises(InputError, match=r"observations\.point"):
        run(rows, 2, poses)
    with pytest.raises(InputError, match=r"observations\.view"):
        run(rows, 3, poses[:4])
    with pytest.raises(InputError, match="extrinsics"):
        run(rows, 3, poses[:, :2])
    with pytest.raises(InputError, match="not orthonormal"):
        run(rows, 3, 2 * poses)
    with pytest.raises(InputError, match="intrinsics"):
        triangulate(rows, 3, poses, np.tile(np.diag([0.0, 1, 1]), (5, 1, 1)))
    nothing = rows.where(np.zeros(len(rows.point), bool))
    assert run(nothing, 2, poses).narrow.all()
    assert run(nothing, 0, poses).points.shape == (0, 4)
