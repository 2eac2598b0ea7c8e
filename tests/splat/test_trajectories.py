"""Camera paths: the published numbers of frames, where they begin and end, and what they look at."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.splat.options import TRAJECTORIES, possible_trajectory
from depth_anything_3.splat.trajectories import CameraPath, camera_path

VIEWS = (1, 2, 4, 5, 7, 10, 30, 56, 60, 100)
FRAMES = {
    "original": (0, 2, 4, 5, 7, 10, 30, 56, 60, 100),
    "smooth": (0, 2, 4, 5, 7, 10, 30, 56, 60, 100),
    "interpolate": (0, 48, 46, 45, 43, 64, 204, 166, 178, 100),
    "interpolate_smooth": (0, 48, 46, 45, 43, 64, 204, 166, 178, 100),
    "wander": (122,) * 10,
    "dolly_zoom": (120,) * 10,
    "extend": (0, 122, 120, 119, 117, 138, 308, 250, 268, 174),
    "wobble_inter": (0, 0, 30, 30, 59, 88, 262, 523, 552, 958),
}
"""Observed in the published system; 0 where it fails."""


def walk(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Cameras on an arc that all look at the point (0, 0, 4), world-to-camera."""
    poses = np.zeros((count, 3, 4))
    for pose, angle in zip(poses, np.linspace(-0.5, 0.5, count), strict=True):
        c, s = np.cos(angle), np.sin(angle)
        pose[:, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        pose[:, 3] = [0, 0.1 * angle, 4] - pose[:, :3] @ [0, 0, 4]
    lens = np.array([[100.0, 0, 64], [0, 110, 40], [0, 0, 1]])
    return poses, np.repeat(lens[None], count, 0) * np.linspace(1, 1.1, count)[:, None, None]


def path(name: str, count: int, unit: float = 1.0) -> CameraPath:
    return camera_path(name, *walk(count), unit=unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_the_published_numbers_of_frames(name: str) -> None:
    for views, frames in zip(VIEWS, FRAMES[name], strict=True):
        if frames:
            assert len(path(name, views)) == frames, views
        else:
            with pytest.raises(InputError, match=f"^trajectory: got '{name}' for {views} view"):
                path(name, views)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_every_frame_is_a_camera(name: str) -> None:
    made = path(name, 7)
    rotation = made.extrinsics[:, :, :3]
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(1, 2), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-9
    )
    assert (np.linalg.det(rotation) > 0).all() and (made.lenses[:, 0, 0] > 0).all()
    step = np.linalg.norm(np.diff(camera_centres(made.extrinsics), axis=0), axis=1)
    assert step.max() < 1.2, "no jumps"


def test_interpolation_passes_through_the_views_and_keeps_the_middle_of_the_picture() -> None:
    poses, lenses = walk(3)
    made = path("interpolate", 3)
    for view, frame in enumerate((0, 23, 46)):
        np.testing.assert_allclose(made.extrinsics[frame], poses[view], atol=1e-6)
        np.testing.assert_allclose(made.lenses[frame], lenses[view])
    seen = made.extrinsics @ [0, 0, 4, 1]
    np.testing.assert_allclose(seen[:, :2], 0, atol=0.06)


def test_between_parallel_cameras_the_way_is_straight() -> None:
    poses = np.repeat(np.eye(3, 4)[None], 2, 0)
    poses[1, 0, 3] = -2
    made = camera_path("interpolate", poses, walk(2)[1])
    centres = camera_centres(made.extrinsics)
    np.testing.assert_allclose(centres[:, 1:], 0, atol=1e-12)
    assert (np.diff(centres[:, 0]) >= 0).all()
    np.testing.assert_allclose(made.extrinsics[:, :, :3], np.broadcast_to(np.eye(3), (48, 3, 3)), atol=1e-12)


def test_smoothing_shakes_less_and_stays_near() -> None:
    poses, lenses = walk(60)
    shaken = poses.copy()
    shaken[..., 3] += 0.02 * np.random.default_rng(0).normal(size=(60, 3))
    made = camera_path("smooth", shaken, lenses)
    shake = np.linalg.norm(np.diff(camera_centres(shaken), 2, axis=0), axis=1).mean()
    assert np.linalg.norm(np.diff(camera_centres(made.extrinsics), 2, axis=0), axis=1).mean() < shake / 20
    middle = slice(25, 35)
    np.testing.assert_allclose(camera_centres(made.extrinsics)[middle], camera_centres(poses)[middle], atol=0.1)


def test_wander_is_an_ellipse_of_24_pixels_at_the_unit() -> None:
    poses, lenses = walk(2)
    made = path("wander", 2, unit=5.0)
    for end in (0, -1):
        np.testing.assert_allclose(made.extrinsics[end], poses[0], atol=1e-12)
    inside = np.column_stack((camera_centres(made.extrinsics), np.ones(122))) @ poses[0].T
    np.testing.assert_allclose(np.abs(inside[:, 0]).max(), 24 * 5 / lenses[0, 0, 0], rtol=1e-3)
    np.testing.assert_allclose(inside[1:-1, 1] ** 2 * 9 + inside[1:-1, 0] ** 2, (24 * 5 / lenses[0, 0, 0]) ** 2)


def test_dolly_zoom_goes_back_and_the_lens_widens() -> None:
    made, far = path("dolly_zoom", 1), path("dolly_zoom", 1, unit=3.0)
    np.testing.assert_allclose(made.lenses[:, 0, 0], far.lenses[:, 0, 0])
    assert made.lenses[:, 0, 0].min() == pytest.approx(100 * 30 / 32, rel=1e-3)
    back = (camera_centres(far.extrinsics) - camera_centres(far.extrinsics[:1])) @ walk(1)[0][0, 2, :3]
    assert back.min() == pytest.approx(-6, rel=1e-3) and back[0] == back[-1] == 0


def test_one_view_wanders() -> None:
    assert possible_trajectory("extend", 1) == "wander" and possible_trajectory("dolly_zoom", 1) == "dolly_zoom"
    assert possible_trajectory("extend", 2) == "extend"
