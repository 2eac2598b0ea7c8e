"""Scenes with their variants, filmed: cameras that see what moves, and arrays that agree with each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.synth import sample as module
from depth_anything_3.synth.cameras import Cameras, make_cameras
from depth_anything_3.synth.render import render
from depth_anything_3.synth.sample import STYLES, build, cameras_for, film, separate
from depth_anything_3.synth.scenes import make_scene

H, W = 30, 40
TIMES = [0.0, 0.5, 1.0, 1.5]


def test_plain_scene_is_that_of_the_seed() -> None:
    scene, motions = build(4, "room")
    assert motions == ()
    assert torch.equal(scene.world.solids.centre, make_scene(4, "room").world.solids.centre)
    cameras = make_cameras(scene, 2, H, W, seed=1, kind="orbit")
    found, expected = film(scene, (), cameras, H, W), render(scene, cameras, H, W)
    np.testing.assert_array_equal(found.rgb, expected.rgb.numpy())
    np.testing.assert_array_equal(found.depth[~found.sky], expected.depth[~expected.sky].numpy())
    assert (found.depth[found.sky] == 0).all()
    assert not found.moving.any()


def test_variants_add_up() -> None:
    count = len(make_scene(4, "room").world.solids)
    for style in STYLES:
        scene, motions = build(4, "room", style=style, thin=2, moving=1)
        assert len(scene.world.solids) > count + len(motions[0].solids)
        assert max(motions[0].solids) == len(scene.world.solids) - 1
    assert build(4)[0].kind == make_scene(4).kind


@pytest.mark.parametrize("kind", ["room", "street"])
def test_cameras_see_what_moves(kind: str) -> None:
    scene, motions = build(6, kind, moving=2)
    cameras = cameras_for(scene, motions, TIMES, H, W, seed=3)
    found = film(scene, motions, cameras, H, W, times=TIMES)
    assert found.moving.mean() > 0.003
    ids = [i for motion in motions for i in motion.solids]
    np.testing.assert_array_equal(found.moving, np.isin(found.object_id, ids))


def test_each_view_has_its_own_time() -> None:
    scene, motions = build(6, "room", moving=2)
    cameras = cameras_for(scene, motions, TIMES, H, W, seed=3)
    standing = Cameras(intrinsics=cameras.intrinsics[[0] * 4], extrinsics=cameras.extrinsics[[0] * 4])
    views = film(scene, motions, standing, H, W, times=TIMES)
    assert not np.array_equal(views.depth[0], views.depth[3])
    alone = [film(scene, motions, one, H, W, times=[t]) for one, t in zip(separate(standing), TIMES, strict=True)]
    np.testing.assert_array_equal(np.concatenate([one.depth for one in alone]), views.depth)


def test_another_seed_where_one_finds_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, _ = build(4, "room")
    tried: list[int] = []

    def crowded(*_: object, seed: int, **__: object) -> Cameras:
        tried.append(seed)
        if seed < 7:
            raise DA3Error("full")
        return make_cameras(scene, 4, H, W, seed=seed, kind="orbit")

    monkeypatch.setattr(module, "make_cameras", crowded)
    cameras = cameras_for(scene, (), TIMES, H, W, seed=5)
    assert tried == [5, 6, 7]
    assert len(cameras.extrinsics) == 4
    with pytest.raises(DA3Error, match="full"):
        cameras_for(scene, (), TIMES, H, W, seed=-9)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="specular"):
        build(1, "room", style="wet")
    scene, motions = build(1, "room", moving=1)
    cameras = make_cameras(scene, 2, H, W, seed=1, kind="orbit")
    with pytest.raises(InputError, match="times"):
        film(scene, motions, cameras, H, W)
    with pytest.raises(InputError, match="handheld"):
        cameras_for(scene, motions, TIMES, H, W, seed=1, kind="fly")
