"""Cameras stand in free places, look at something, and are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.geometry.pinhole import camera_centres, project
from depth_anything_3.synth.cameras import TRAJECTORIES, clearance, intrinsics_of, look_at, make_cameras, overlaps
from depth_anything_3.synth.render import render
from depth_anything_3.synth.scenes import KINDS, make_scene

COUNT = 6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trajectory", TRAJECTORIES)
def test_free_and_worth_seeing(kind: str, trajectory: str) -> None:
    for seed in range(2):
        scene = make_scene(seed, kind)
        cameras = make_cameras(scene, COUNT, 30, 40, seed=seed, kind=trajectory)
        assert cameras.extrinsics.shape == (COUNT, 3, 4)
        rotation = cameras.extrinsics[:, :, :3].astype(np.float64)
        np.testing.assert_allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3)[None].repeat(COUNT, 0), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-6)
        assert (rotation[:, 1, 2] < 0).all()  # the lower edge of a picture is below
        assert clearance(scene.world, camera_centres(cameras.extrinsics)).min() > 0.02
        out = render(scene, cameras, 30, 40, shadows=False)
        seen = ~out.sky
        assert seen.float().mean() > 0.2
        assert out.depth[seen].min() > 0.02
        if trajectory != "rig":
            assert out.rgb.std() > 0.02


@pytest.mark.parametrize("trajectory", ["orbit", "loop", "handheld"])
@pytest.mark.parametrize("kind", ["room", "corridor", "tabletop"])
def test_nobody_films_a_room_from_outside(kind: str, trajectory: str) -> None:
    """The floor is the first solid of a scene indoors."""
    for seed in range(6):
        scene = make_scene(seed, kind)
        try:
            cameras = make_cameras(scene, COUNT, 30, 40, seed=seed, kind=trajectory)
        except DA3Error:  # a circle that fits nowhere
            continue
        centres = camera_centres(cameras.extrinsics)
        assert (np.abs(centres[:, :2]) < scene.world.solids.half_size[0, :2].numpy() - 0.2).all()


def test_look_at() -> None:
    position, target = np.array([[1.0, 2.0, 3.0]]), np.array([[4.0, 6.0, 2.0]])
    pose = look_at(position, target, np.zeros(1))
    k = intrinsics_of(90, 40, 60)[None]
    xy, z = project(np.stack((target[0], target[0] + [0, 0, 1]))[None], k, pose)
    np.testing.assert_allclose(xy[0, 0], [30, 20], atol=1e-4)
    assert z[0, 0] == pytest.approx(np.sqrt(26), rel=1e-6)
    assert xy[0, 1, 0] == pytest.approx(30, abs=1e-4)
    assert xy[0, 1, 1] < 20
    np.testing.assert_allclose(camera_centres(pose), position, atol=1e-6)
    with pytest.raises(InputError, match="target"):
        look_at(position, position + np.array([[0, 0, 1.0]]), np.zeros(1))


def test_roll_turns_about_the_view_axis() -> None:
    position, target = np.zeros((1, 3)), np.array([[0.0, 5.0, 0.0]])
    xy, _ = project(
        np.array([[[0.0, 5.0, 1.0]]]), intrinsics_of(90, 40, 40)[None], look_at(position, target, np.array([np.pi / 2]))
    )
    np.testing.assert_allclose(np.abs(xy[0, 0] - 20), [4, 0], atol=1e-4)


def test_intrinsics() -> None:
    k = intrinsics_of(90, 100, 200, shift=(0.25, -0.1))
    assert k[0, 0] == k[1, 1] == pytest.approx(100)
    assert k[:2, 2] == pytest.approx([150, 40])
    with pytest.raises(InputError, match="fov_deg"):
        intrinsics_of(180, 100, 200)


def test_field_of_view_and_crops_vary() -> None:
    scene = make_scene(1, "room")
    ks = np.array([make_cameras(scene, 1, 40, 60, seed=s, kind="handheld").intrinsics[0] for s in range(24)])
    fov = np.degrees(2 * np.arctan(30 / ks[:, 0, 0]))
    assert fov.min() >= 34.9
    assert fov.max() <= 110.1
    assert fov.max() - fov.min() > 40
    shifted = np.abs(ks[:, 0, 2] - 30) > 1e-3
    assert 0.05 < shifted.mean() < 0.6


@pytest.mark.parametrize("kind", ["room", "street"])
def test_random_views_overlap_as_asked(kind: str) -> None:
    chosen = []
    for seed in range(3):
        scene = make_scene(seed, kind)
        cameras = make_cameras(scene, 4, 40, 60, seed=seed, kind="random", overlap=(0.3, 0.6), fov_deg=80)
        shared = overlaps(scene, cameras, 40, 60)
        assert shared.min() >= 0
        np.testing.assert_allclose(np.diag(shared), 1, atol=0.1)
        both = (shared + shared.T) / 2
        chosen += [both[i, :i].flat[np.argmin(np.abs(both[i, :i] - 0.45))] for i in range(1, 4)]
    assert 0.25 < np.median(chosen) < 0.65


def test_rig_hardly_overlaps() -> None:
    scene = make_scene(2, "street")
    cameras = make_cameras(scene, 12, 40, 70, seed=1, kind="rig", off_centre=False)
    shared = overlaps(scene, cameras, 40, 70)[:6, :6]
    assert (shared - np.diag(np.diag(shared))).mean() < 0.2
    heading = np.degrees(np.arctan2(cameras.extrinsics[:6, 2, 1], cameras.extrinsics[:6, 2, 0]))
    np.testing.assert_allclose(np.sort(np.diff(np.sort(heading % 360))), 60, atol=1)


@pytest.mark.parametrize("kind", ["room", "corridor", "open"])
def test_long_loop_comes_back(kind: str) -> None:
    scene = make_scene(3, kind)
    cameras = make_cameras(scene, 1201, 40, 60, seed=1, kind="loop")
    centres = camera_centres(cameras.extrinsics)
    np.testing.assert_allclose(cameras.extrinsics[0], cameras.extrinsics[-1], atol=1e-4)
    np.testing.assert_allclose(cameras.extrinsics[0], cameras.extrinsics[240], atol=1e-3)  # five rounds
    assert np.linalg.norm(centres - centres[0], axis=1).max() > 0.2
    assert np.linalg.norm(np.diff(centres, axis=0), axis=1).max() < 0.5
    assert clearance(scene.world, centres).min() >= 0.99 * scene.stage.near


@pytest.mark.parametrize("trajectory", ["walk", "drive", "rig"])
def test_thousands_of_frames(trajectory: str) -> None:
    scene = make_scene(2, "street")
    cameras = make_cameras(scene, 3000, 40, 60, seed=1, kind=trajectory)
    assert cameras.extrinsics.shape == (3000, 3, 4)
    assert np.isfinite(cameras.extrinsics).all()
    if trajectory != "rig":
        centres = camera_centres(cameras.extrinsics)
        assert np.linalg.norm(np.diff(centres, axis=0), axis=1).max() < 0.5
        assert clearance(scene.world, centres).min() >= 0.99 * scene.stage.near


@pytest.mark.parametrize("trajectory", ["random", "orbit", "rig"])
def test_zoom_changes_focal_lengths_only(trajectory: str) -> None:
    scene = make_scene(2, "street")
    fixed, same, zoomed = (
        make_cameras(scene, 12, 40, 60, seed=3, kind=trajectory, fov_deg=60, zoom=zoom) for zoom in (1.0, 1.0, 2.0)
    )
    assert (fixed.intrinsics == same.intrinsics).all()
    assert (fixed.intrinsics == fixed.intrinsics[0]).all()
    factors = zoomed.intrinsics[:, 0, 0] / fixed.intrinsics[:, 0, 0]
    assert (zoomed.intrinsics[:, 1, 1] == zoomed.intrinsics[:, 0, 0]).all()
    assert (zoomed.intrinsics[:, :2, 2] == fixed.intrinsics[:, :2, 2]).all()
    assert factors.min() >= 0.499
    assert factors.max() <= 2.001
    assert factors.max() / factors.min() > 1.5
    if trajectory == "random":
        assert (zoomed.extrinsics == fixed.extrinsics).all()
    with pytest.raises(InputError, match="zoom"):
        make_cameras(scene, 2, 40, 60, seed=3, zoom=0.5)


def test_seed_decides() -> None:
    scene = make_scene(1, "open")
    one, same, other = (make_cameras(scene, 3, 30, 40, seed=s, kind="walk") for s in (1, 1, 2))
    assert (one.extrinsics == same.extrinsics).all()
    assert not (one.extrinsics == other.extrinsics).all()


def test_wrong_arguments() -> None:
    scene = make_scene(1, "room")
    with pytest.raises(InputError, match="handheld"):
        make_cameras(scene, 3, 30, 40, seed=1, kind="fly")
    with pytest.raises(InputError, match="at most 64"):
        make_cameras(scene, 65, 30, 40, seed=1, kind="random")
    with pytest.raises(InputError, match="count"):
        make_cameras(scene, 0, 30, 40, seed=1)
    assert clearance(scene.world, np.array([[0, 0, -0.1]]))[0] < 0
