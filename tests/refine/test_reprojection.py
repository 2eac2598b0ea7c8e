"""Projection of homogeneous points: derivatives by finite differences, and points at the edge of what there is."""

from __future__ import annotations

import numpy as np
import pytest
from support.poses import rotation, with_centres

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project
from depth_anything_3.refine.reprojection import (
    check_cameras,
    euclidean_points,
    homogeneous_points,
    move_points,
    point_tangents,
    project_points,
    project_with_derivatives,
)


def cameras(count: int = 5) -> np.ndarray:
    """On an arc of 40 degrees about (0, 0, 4), looking at it."""
    turns = np.stack([rotation([0.1, 1, 0], a) for a in np.linspace(-20, 20, count)])
    positions = np.stack([np.array([0, 0, 4.0]) - 4 * turn.T @ [0, 0, 1] for turn in turns])
    return with_centres(turns, positions)


def test_it_projects_as_the_pinhole_does() -> None:
    points, poses = np.random.default_rng(0).uniform([-1, -1, 3], [1, 1, 5], (4, 3)), cameras(4)
    lenses = np.tile(np.array([[500.0, 3, 320], [0, 480, 240], [0, 0, 1]]), (4, 1, 1))
    xy, depth, front = project_points(poses, lenses, homogeneous_points(points))
    expected, z = project(points[:, None], lenses, poses)
    np.testing.assert_allclose(xy, expected[:, 0], atol=1e-10)
    np.testing.assert_allclose(depth / homogeneous_points(points)[:, 3], z[:, 0], atol=1e-12)
    assert front.all()
    assert not project_points(poses, lenses, homogeneous_points(-5 * points))[2].any()


@pytest.mark.parametrize("distortion", [0.0, 0.3])
def test_derivatives(distortion: float) -> None:
    rng = np.random.default_rng(3)
    points, poses = homogeneous_points(rng.uniform([-1, -1, 3], [1, 1, 5], (6, 3))), cameras(6)
    lenses = np.tile(np.array([[500.0, 3, 320], [0, 480, 240], [0, 0, 1]]), (6, 1, 1))
    tangents = point_tangents(points)
    found = project_with_derivatives(poses, lenses, points, tangents, distortion)
    np.testing.assert_allclose(found.xy, project_points(poses, lenses, points, distortion)[0], atol=1e-12)

    def moved(step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        turn = np.stack([rotation(s / np.linalg.norm(s), np.degrees(np.linalg.norm(s))) for s in step[:, :3]])
        pose = np.concatenate([turn @ poses[..., :3], turn @ poses[..., 3:] + step[:, 3:6, None]], -1)
        lens = lenses.copy()
        lens[:, :2, :2] *= np.exp(step[:, 6])[:, None, None]
        place = move_points(points, tangents, step[:, 8:])
        pixels, z = [], []
        for row in range(6):
            one = slice(row, row + 1)
            xy, depth, _ = project_points(pose[one], lens[one], place[one], distortion + step[row, 7])
            pixels.append(xy[0])
            z.append(np.log(depth[0] / place[row, 3]))
        return np.stack(pixels), np.stack(z)

    for _ in range(5):
        way = rng.normal(size=(6, 11))
        (ahead, z_ahead), (back, z_back) = moved(1e-6 * way), moved(-1e-6 * way)
        slope, z_slope = (ahead - back) / 2e-6, (z_ahead - z_back) / 2e-6
        expected = (found.by_pose @ way[:, :6, None])[..., 0] + (found.by_point @ way[:, 8:, None])[..., 0]
        expected += found.by_focal * way[:, 6:7] + found.by_distortion * way[:, 7:8]
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-5)
        z_expected = (found.depth_by_pose * way[:, :6]).sum(1) + (found.depth_by_point * way[:, 8:]).sum(1)
        np.testing.assert_allclose(z_slope, z_expected, rtol=1e-6, atol=1e-7)


def test_tangents_are_an_orthonormal_frame() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4))
    points[:4] = np.eye(4) * [1, -1, 1, -1]
    unit = homogeneous_points(points)
    frame = np.concatenate([point_tangents(unit), unit[..., None]], -1)
    np.testing.assert_allclose(frame.swapaxes(1, 2) @ frame, np.tile(np.eye(4), (50, 1, 1)), atol=1e-14)
    assert np.isinf(euclidean_points(np.array([[1.0, 0, 0, 0], [1, 0, 0, -1]]))).all()


def test_bad_input() -> None:
    with pytest.raises(InputError, match="zero 4-vector"):
        homogeneous_points(np.zeros((1, 4)))
    with pytest.raises(InputError, match="shape"):
        homogeneous_points(np.zeros((1, 2)))
    with pytest.raises(InputError, match="extrinsics"):
        check_cameras(np.zeros((0, 3, 4)), np.zeros((0, 3, 3)), least=1)
