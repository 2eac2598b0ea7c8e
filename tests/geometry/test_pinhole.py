"""Laws of the pinhole model, and the pixel convention in numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, pixel_centres, project, unproject

Array = npt.NDArray[np.float64]

K = np.array([[100.0, 0.0, 2.0], [0.0, 50.0, 1.5], [0.0, 0.0, 1.0]])
IDENTITY = np.eye(4)[:3]


def random_cameras(seed: int, count: int) -> tuple[Array, Array]:
    """Intrinsics with skew and off-centre principal points, and poses anywhere."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    rotation *= np.linalg.det(rotation)[:, None, None]
    extrinsics = np.concatenate([rotation, rng.normal(size=(count, 3, 1)) * 10], axis=-1)
    intrinsics = np.tile(np.eye(3), (count, 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = rng.uniform(5, 2000, (2, count))
    intrinsics[:, 0, 1] = rng.normal(size=count)
    intrinsics[:, :2, 2] = rng.uniform(-5, 20, (count, 2))
    return intrinsics, extrinsics


def test_centre_of_the_top_left_pixel_is_half_half() -> None:
    grid = pixel_centres(2, 3)
    assert grid.shape == (2, 3, 2)
    assert grid[0, 0].tolist() == [0.5, 0.5]
    assert grid[1, 2].tolist() == [2.5, 1.5]


def test_unproject_in_numbers() -> None:
    points = unproject(np.full((3, 4), 2.0), K, IDENTITY)
    np.testing.assert_allclose(points[0, 0], [2 * (0.5 - 2) / 100, 2 * (0.5 - 1.5) / 50, 2])
    np.testing.assert_allclose(points[2, 3], [2 * (3.5 - 2) / 100, 2 * (2.5 - 1.5) / 50, 2])


def test_pose_is_world_to_camera() -> None:
    quarter_turn = np.array([[0.0, 0.0, -1.0, 1.0], [0.0, 1.0, 0.0, 2.0], [1.0, 0.0, 0.0, 3.0]])
    np.testing.assert_allclose(camera_centres(quarter_turn), [-3, -2, 1])
    xy, z = project(np.array([7.0, -2.0, 1.0]), K, quarter_turn)  # ten units along the viewing direction, world x
    np.testing.assert_allclose(z, 10)
    np.testing.assert_allclose(xy, [2, 1.5])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 4), height=st.integers(1, 6), width=st.integers(1, 6))
def test_projecting_what_was_unprojected(seed: int, count: int, height: int, width: int) -> None:
    intrinsics, extrinsics = random_cameras(seed, count)
    depth = np.random.default_rng(seed).uniform(0.1, 100, (count, height, width))
    xy, z = project(unproject(depth, intrinsics, extrinsics), intrinsics, extrinsics)
    np.testing.assert_allclose(z, depth, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(xy, np.broadcast_to(pixel_centres(height, width), xy.shape), atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_centres_are_where_zero_depth_leads(seed: int) -> None:
    intrinsics, extrinsics = random_cameras(seed, 3)
    points = unproject(np.zeros((3, 2, 2)), intrinsics, extrinsics)
    expected = np.broadcast_to(camera_centres(extrinsics)[:, None, None], points.shape)
    np.testing.assert_allclose(points, expected, atol=1e-10)


@given(seed=st.integers(0, 2**32 - 1))
def test_float32_rotations_survive_the_round_trip(seed: int) -> None:
    intrinsics, extrinsics = (m.astype(np.float32).astype(np.float64) for m in random_cameras(seed, 1))
    depth = np.full((1, 4, 4), 50.0)
    _, z = project(unproject(depth, intrinsics, extrinsics), intrinsics, extrinsics)
    np.testing.assert_allclose(z, depth, rtol=1e-9)


def test_precision_follows_the_main_argument() -> None:
    depth = np.ones((3, 4), np.float32)
    k, pose = K.astype(np.float32), IDENTITY.astype(np.float32)
    assert unproject(depth, k, pose).dtype == np.float32
    assert unproject(depth.astype(np.float64), k, pose).dtype == np.float64
    assert camera_centres(pose).dtype == np.float32
    xy, z = project(np.ones((2, 3), np.float32), K, IDENTITY)
    assert xy.dtype == z.dtype == np.float32


def test_leading_axes_broadcast_and_grids_are_free() -> None:
    _, poses = random_cameras(0, 5)
    points = np.random.default_rng(0).normal(size=(2, 3, 3))
    xy, z = project(points[None], K, poses)
    assert xy.shape == (5, 2, 3, 2) and z.shape == (5, 2, 3)
    one, _ = project(points, K, poses[4])
    np.testing.assert_allclose(xy[4], one)
    assert unproject(np.ones((1, 3, 4)), K, poses).shape == (5, 3, 4, 3)


@pytest.mark.filterwarnings("error")
def test_holes_stay_holes_without_noise() -> None:
    depth = np.array([[np.nan, np.inf, 1.0]])
    points = unproject(depth, np.eye(3), IDENTITY)
    assert np.isfinite(points).all(-1).tolist() == [[False, False, True]]
    xy, _ = project(np.zeros((1, 3)), K, IDENTITY)
    assert not np.isfinite(xy).any()


def test_arguments_are_left_alone() -> None:
    depth, k, pose = np.ones((3, 4)), K.copy(), IDENTITY.copy()
    for array in (depth, k, pose):
        array.flags.writeable = False
    project(unproject(depth, k, pose), k, pose)


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"extrinsics: got shape \(4, 4\)"):
        camera_centres(np.eye(4))
    with pytest.raises(InputError, match="intrinsics"):
        unproject(np.ones((2, 2)), np.eye(4), IDENTITY)
    with pytest.raises(InputError, match="focal length of zero"):
        unproject(np.ones((2, 2)), np.diag([0.0, 1.0, 1.0]), IDENTITY)
    with pytest.raises(InputError, match="singular"):
        camera_centres(np.zeros((3, 4)))
    with pytest.raises(InputError, match="depth"):
        unproject(np.ones(2), K, IDENTITY)
    with pytest.raises(InputError, match="points"):
        project(np.ones((4, 2)), K, IDENTITY)
