"""The harder variants are what they are called, and leave the rest of the scene alone."""

from __future__ import annotations

import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import Rendering, render
from depth_anything_3.synth.scenes import KINDS, Scene, make_scene
from depth_anything_3.synth.textures import texture_index
from depth_anything_3.synth.variants import specular, textureless, thin_pixels, with_thin

H, W = 60, 80


def seen(scene: Scene, shadows: bool = False) -> Rendering:
    cameras = make_cameras(scene, 4, H, W, seed=1, kind="random", fov_deg=70)
    return render(scene, cameras, H, W, shadows=shadows)


def detail(out: Rendering) -> torch.Tensor:
    """Mean difference of neighbouring pixels on the same object."""
    same = (out.object_id[:, :, 1:] == out.object_id[:, :, :-1]) & (out.object_id[:, :, 1:] >= 0)
    return (out.rgb[:, :, 1:] - out.rgb[:, :, :-1]).abs().mean(-1)[same].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_textureless(kind: str) -> None:
    scene = make_scene(3, kind)
    plain = textureless(scene, 1)
    assert set(plain.materials.texture.tolist()) == {texture_index("plain")}
    assert (plain.materials.first.amax(0) - plain.materials.first.amin(0)).max() < 0.25
    before, after = seen(scene), seen(plain)
    assert torch.equal(before.depth, after.depth)
    assert detail(after) < 0.6 * detail(before)


@pytest.mark.parametrize("kind", KINDS)
def test_specular(kind: str) -> None:
    scene = make_scene(3, kind)
    glossy = specular(scene, 1)
    assert glossy.materials.gloss.min() >= 0.5
    assert len(glossy.lights.position) == len(scene.lights.position) + 3
    before, after = seen(scene), seen(glossy)
    assert torch.equal(before.depth, after.depth)
    assert (after.rgb - before.rgb).abs().mean() > 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_thin(kind: str) -> None:
    scene = make_scene(3, kind)
    more = with_thin(scene, 1, 20 if kind in ("street", "open") else 8)
    count = len(scene.world.solids)
    assert len(more.world.solids) > count + 40
    assert torch.equal(more.world.solids.centre[:count], scene.world.solids.centre)
    assert torch.equal(more.materials.first[-2:], scene.materials.first[-2:])
    out = seen(more)
    added = (out.object_id >= count) & (out.object_id < len(more.world.solids))
    assert added.float().mean() > 0.002
    thin = thin_pixels(more.world.solids, out.object_id, out.depth, out.intrinsics)
    assert (thin & added).sum() > 0.5 * added.sum()


def test_thin_pixels_are_slender_and_narrow() -> None:
    scene = with_thin(make_scene(3, "room"), 1)
    out = seen(scene)
    thin = thin_pixels(scene.world.solids, out.object_id, out.depth, out.intrinsics)
    assert not thin[out.sky].any()
    owners = out.object_id[thin].unique()
    assert owners.max() < len(scene.world.solids)
    sizes = scene.world.solids.half_size[owners.long()].sort(dim=1).values
    assert (sizes[:, 2] >= 5 * sizes[:, 1]).all()
    assert 0 < thin.float().mean() < 0.5
    close = out.depth.clone().fill_(1e-3)
    assert not thin_pixels(scene.world.solids, out.object_id, close, out.intrinsics).any()


def test_seed_decides_and_is_checked() -> None:
    scene = make_scene(3, "room")
    for change in (textureless, specular, with_thin):
        one, same, other = (change(scene, seed) for seed in (1, 1, 2))
        assert torch.equal(one.materials.first, same.materials.first)
        assert one.materials.first.shape != other.materials.first.shape or not torch.equal(
            torch.cat([one.materials.first, one.materials.gloss[:, None]], 1),
            torch.cat([other.materials.first, other.materials.gloss[:, None]], 1),
        )
        with pytest.raises(InputError, match="seed"):
            change(scene, -1)
    with pytest.raises(InputError, match="count"):
        with_thin(scene, 1, 0)
