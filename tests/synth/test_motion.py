"""What moves is rigid, is where its motion says, and is all that breaks the agreement of views."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, project, unproject
from depth_anything_3.synth.cameras import Cameras, clearance, intrinsics_of, look_at, make_cameras
from depth_anything_3.synth.motion import Motion, moving_pixels, pose_at, scene_at, swept, with_motion
from depth_anything_3.synth.raycast import cast
from depth_anything_3.synth.render import Rendering, render
from depth_anything_3.synth.scenes import KINDS, Scene, make_scene

H, W = 45, 60
TIMES = (0.9, 2.1)


def filmed(scene: Scene, motions: tuple[Motion, ...], cameras: Cameras) -> list[Rendering]:
    views = []
    for i, time in enumerate(TIMES):
        one = Cameras(intrinsics=cameras.intrinsics[i : i + 1], extrinsics=cameras.extrinsics[i : i + 1])
        views.append(render(scene_at(scene, motions, time), one, H, W, shadows=False))
    return views


def met(scene: Scene, points: np.ndarray, cameras: Cameras, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Depth that camera j's rays through points meet, over the depth of the points; and which points it can see."""
    xy, z = project(points[None], cameras.intrinsics[j : j + 1], cameras.extrinsics[j : j + 1])
    inside = np.isfinite(z[0]) & (z[0] > 0.1) & (xy[0] > 0).all(-1) & (xy[0] < [W, H]).all(-1)
    centre = camera_centres(cameras.extrinsics[j])
    towards = torch.from_numpy((points[inside] - centre).astype(np.float32))
    origins = torch.from_numpy(centre.astype(np.float32)).expand(len(towards), 3)
    return cast(scene.world, origins, towards).depth.numpy(), inside


def looking_at(scene: Scene, motions: tuple[Motion, ...]) -> Cameras:
    """Two views that both show what moves, and where it was in the other, at the times of :data:`TIMES`."""
    rotation, translation = pose_at(motions[0], sum(TIMES) / 2)
    middle = rotation @ np.array(motions[0].pivot) + translation
    crowded, reach = swept(scene, motions, TIMES), {"tabletop": 0.6, "street": 6.0, "open": 6.0}.get(scene.kind, 1.6)
    k = np.repeat(intrinsics_of(75, H, W)[None], 2, 0)
    for angle in np.arange(24) * np.pi / 12:
        around = np.array([angle, angle + 0.35])
        position = middle + reach * np.stack((np.cos(around), np.sin(around), [0.25, 0.3]), 1)
        if clearance(crowded.world, position).min() < 0.02:
            continue
        pose = look_at(position, np.repeat(middle[None], 2, 0), np.zeros(2))
        cameras = Cameras(intrinsics=k, extrinsics=pose)
        views = filmed(scene, motions, cameras)
        moving = [moving_pixels(view.object_id, motions).numpy().ravel() for view in views]
        inside = [met(scene, points_of(views[i], cameras, i), cameras, 1 - i)[1] for i in (0, 1)]
        if min((m & s).sum() for m, s in zip(moving, inside, strict=True)) > 20:
            return cameras
    raise AssertionError("no camera looks at what moves")


def points_of(view: Rendering, cameras: Cameras, i: int) -> np.ndarray:
    return unproject(view.depth[0].numpy(), cameras.intrinsics[i], cameras.extrinsics[i]).reshape(-1, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_of_another_instant_fails_where_things_move_and_holds_elsewhere(kind: str) -> None:
    scene, motions = with_motion(make_scene(7, kind), 3, 2)
    cameras = looking_at(scene, motions)
    views = filmed(scene, motions, cameras)
    for i, j in ((0, 1), (1, 0)):
        points = points_of(views[i], cameras, i)
        moving = moving_pixels(views[i].object_id, motions).numpy().ravel()
        now, inside = met(scene_at(scene, motions, TIMES[j]), points, cameras, j)
        still = ~moving[inside]
        # A point that stands still is there at the other time too: nothing is met behind it.
        assert (now[still] > 1 + 2e-3).mean() < 0.02
        assert (np.abs(now[still] - 1) < 2e-3).mean() > 0.1
        # A point that moves is no longer where it was ...
        there = np.abs(now[~still] - 1) < 2e-3
        assert there.mean() < 0.2
        # ... but where its motion has brought it.
        moved = points.astype(np.float64).copy()
        owner = views[i].object_id[0].numpy().ravel()
        for motion in motions:
            (r0, t0), (r1, t1) = pose_at(motion, TIMES[i]), pose_at(motion, TIMES[j])
            mine = np.isin(owner, motion.solids)
            moved[mine] = ((points[mine] - t0) @ r0) @ r1.T + t1
        now, inside = met(scene_at(scene, motions, TIMES[j]), moved, cameras, j)
        assert (now[moving[inside]] > 1 + 5e-3).mean() < 0.05


def test_a_standing_camera_sees_change_only_where_things_move() -> None:
    scene, motions = with_motion(make_scene(2, "room"), 5, 2)
    cameras = looking_at(scene, motions)
    standing = Cameras(
        intrinsics=cameras.intrinsics[[0, 0]],
        extrinsics=cameras.extrinsics[[0, 0]],
    )
    first, second = filmed(scene, motions, standing)
    moving = moving_pixels(first.object_id, motions) | moving_pixels(second.object_id, motions)
    assert torch.equal(first.depth[~moving], second.depth[~moving])
    assert torch.equal(first.object_id[~moving], second.object_id[~moving])
    changed = (first.depth != second.depth)[moving]
    assert changed.float().mean() > 0.95


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_are_rigid_and_everything_else_stands_still(kind: str) -> None:
    still = make_scene(4, kind)
    scene, motions = with_motion(still, 9, 2)
    later = scene_at(scene, motions, 1.3)
    ids = [i for motion in motions for i in motion.solids]
    assert ids == list(range(len(still.world.solids), len(scene.world.solids)))
    assert torch.equal(later.world.solids.centre[: ids[0]], still.world.solids.centre)
    assert torch.equal(later.world.solids.half_size, scene.world.solids.half_size)
    assert len(scene.materials.texture) == scene.world.terrain_id + 1
    for motion in motions:
        chosen = torch.tensor(motion.solids)
        before, after = scene.world.solids.centre[chosen], later.world.solids.centre[chosen]
        assert (before - after).norm(dim=1).min() > 0.01
        torch.testing.assert_close(torch.cdist(before, before), torch.cdist(after, after), rtol=0, atol=2e-3)
        rotation, translation = pose_at(motion, 1.3)
        expected = before.double() @ torch.from_numpy(rotation).T + torch.from_numpy(translation)
        torch.testing.assert_close(after.double(), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


def test_cut_out_parts_move_along() -> None:
    """A cup on its way stays a cup: its hollow comes with it."""
    scene = make_scene(1, "tabletop")
    cup = int((scene.world.solids.cut[scene.world.solids.shape == 2] >= 0).nonzero()[0])
    index = int((scene.world.solids.shape == 2).nonzero()[cup])
    motion = Motion(solids=(index,), pivot=(0, 0, 0), velocity=(1, 2, 3), axis=(0, 0, 1), turn=0.5, sway=(0, 0, 0),
                    period=1.0)  # fmt: skip
    later = scene_at(scene, [motion], 2.0).world
    cutter = int(later.solids.cut[index])
    before = scene.world.solids.centre[index] - scene.world.cutters.centre[cutter]
    after = later.solids.centre[index] - later.cutters.centre[cutter]
    torch.testing.assert_close(before.norm(), after.norm(), rtol=0, atol=1e-4)
    assert (later.cutters.centre[cutter] - scene.world.cutters.centre[cutter]).norm() > 5


def test_at_time_zero_nothing_has_moved_and_the_seed_decides() -> None:
    still = make_scene(3, "street")
    (scene, motions), (same, same_motions), (_, other) = (with_motion(still, seed, 3) for seed in (1, 1, 2))
    assert len(motions) == 3
    assert motions == same_motions
    assert motions != other
    assert torch.equal(scene.world.solids.centre, same.world.solids.centre)
    start = scene_at(scene, motions, 0.0)
    torch.testing.assert_close(start.world.solids.centre, scene.world.solids.centre, rtol=0, atol=1e-5)
    assert torch.equal(still.world.solids.centre, make_scene(3, "street").world.solids.centre)


def test_cameras_of_the_swept_scene_are_not_run_over() -> None:
    scene, motions = with_motion(make_scene(6, "corridor"), 2, 2)
    times = np.arange(5) * 0.6
    cameras = make_cameras(swept(scene, motions, times), 5, H, W, seed=1, kind="random")
    centres = camera_centres(cameras.extrinsics)
    for time in times:
        assert clearance(scene_at(scene, motions, time).world, centres).min() >= 0.99 * scene.stage.near
    assert len(swept(scene, (), times).world.solids) == len(scene.world.solids)


def test_wrong_arguments() -> None:
    scene = make_scene(1, "room")
    with pytest.raises(InputError, match="count"):
        with_motion(scene, 1, 0)
    with pytest.raises(InputError, match="seed"):
        with_motion(scene, -1)
    stray = Motion(
        solids=(99999,), pivot=(0, 0, 0), velocity=(0, 0, 0), axis=(0, 0, 1), turn=0, sway=(0, 0, 0), period=1
    )
    with pytest.raises(InputError, match="99999"):
        scene_at(scene, [stray], 1.0)
