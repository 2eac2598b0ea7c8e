"""What a rendering says about the scene is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, pixel_centres, project, unproject
from depth_anything_3.synth.cameras import Cameras, intrinsics_of, look_at, make_cameras
from depth_anything_3.synth.raycast import cast
from depth_anything_3.synth.render import render, to_bytes
from depth_anything_3.synth.scenes import KINDS, make_scene

H, W = 45, 60


def numpy_of(value: torch.Tensor) -> np.ndarray:
    return value.numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_depth_of_one_view_holds_in_another(kind: str) -> None:
    """The point behind a pixel is met by the other camera's ray through its projection, or something is before it."""
    scene = make_scene(7, kind)
    cameras = make_cameras(scene, 3, H, W, seed=3, kind="random", fov_deg=70)
    out = render(scene, cameras, H, W, shadows=False)
    points = unproject(numpy_of(out.depth), cameras.intrinsics, cameras.extrinsics)
    checked = 0
    for i, j in ((0, 1), (1, 0), (1, 2), (2, 0)):
        xy, z = project(points[i][None], cameras.intrinsics[j : j + 1], cameras.extrinsics[j : j + 1])
        xy, z = xy[0], z[0]
        inside = np.isfinite(z) & (z > 0.1) & (xy > 0).all(-1) & (xy < [W, H]).all(-1)
        ray = (
            np.concatenate((xy[inside], np.ones((inside.sum(), 1))), 1)
            @ np.linalg.inv(cameras.intrinsics[j].astype(float)).T
        )
        directions = torch.from_numpy((ray @ cameras.extrinsics[j, :, :3]).astype(np.float32))
        origins = torch.from_numpy(camera_centres(cameras.extrinsics[j])).expand(len(directions), 3)
        met = numpy_of(cast(scene.world, origins, directions).depth) / z[inside]
        same = np.abs(met - 1) < 1e-3
        # Nothing is farther than a point that is known to be there, except past its very edge.
        assert (met > 1 + 1e-3).mean() < 0.01
        checked += int(same.sum())
    assert checked > 0.1 * 4 * H * W


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_two_views_agree(kind: str) -> None:
    """Against the other view's map: inverse depth is linear on a flat face, so it may be interpolated there."""
    scene = make_scene(8, kind)
    cameras = make_cameras(scene, 2, H, W, seed=4, kind="handheld", fov_deg=70, off_centre=True)
    out = render(scene, cameras, H, W, shadows=False)
    points = unproject(numpy_of(out.depth[:1]), cameras.intrinsics[:1], cameras.extrinsics[:1])
    xy, z = project(points, cameras.intrinsics[1:], cameras.extrinsics[1:])
    xy, z = xy[0].reshape(-1, 2), z[0].ravel()
    corner = np.floor(np.nan_to_num(xy, nan=-9, posinf=-9, neginf=-9) - 0.5).astype(int)
    inside = (z > 0) & (corner >= 0).all(1) & (corner < [W - 1, H - 1]).all(1)
    (x, y), z, xy = corner[inside].T, z[inside], xy[inside]
    owner, normal, inverse = numpy_of(out.object_id[1]), numpy_of(out.normal[1]), 1 / numpy_of(out.depth[1])
    first = numpy_of(out.object_id[0]).ravel()[inside]
    square = [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)]
    flat = np.all([(owner[s] == first) & ((normal[s] * normal[y, x]).sum(-1) > 1 - 1e-6) for s in square], 0)
    a, b = (xy - 0.5 - np.stack((x, y), 1)).T
    mixed = (1 - b) * ((1 - a) * inverse[square[0]] + a * inverse[square[1]])
    mixed += b * ((1 - a) * inverse[square[2]] + a * inverse[square[3]])
    assert flat.sum() > 100
    error = np.abs(z * mixed - 1)[flat]
    assert (error < 1e-3).mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_normals_agree_with_the_depth(kind: str) -> None:
    scene = make_scene(9, kind)
    cameras = make_cameras(scene, 2, 90, 120, seed=5, kind="handheld", fov_deg=60)
    out = render(scene, cameras, 90, 120, shadows=False)
    still = np.eye(4, dtype=np.float32)[None, :3].repeat(2, 0)
    points = unproject(numpy_of(out.depth), cameras.intrinsics, still).astype(np.float64)
    with np.errstate(invalid="ignore"):
        across, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
        found = np.cross(down, across)
        found /= np.linalg.norm(found, axis=-1, keepdims=True)
    given, owner = numpy_of(out.normal)[:, 1:-1, 1:-1], numpy_of(out.object_id)
    same = owner[:, 1:-1, 1:-1] >= 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        there = (slice(None), slice(dy, dy + 88), slice(dx, dx + 118))
        same &= owner[there] == owner[:, 1:-1, 1:-1]
        same &= (numpy_of(out.normal)[there] * given).sum(-1) > 0.9995
    assert same.mean() > 0.1
    np.testing.assert_allclose(np.linalg.norm(given[same], axis=-1), 1, atol=1e-5)
    assert ((found * given).sum(-1)[same] > 0.995).mean() > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_normals_face_the_camera_and_sky_is_consistent(kind: str) -> None:
    scene = make_scene(10, kind)
    cameras = make_cameras(scene, 2, H, W, seed=6, kind="walk", off_centre=True)
    out = render(scene, cameras, H, W)
    rays = unproject(np.ones((2, H, W), np.float32), cameras.intrinsics, np.eye(4, dtype=np.float32)[None, :3])
    facing = (numpy_of(out.normal) * rays).sum(-1)
    assert (facing[~numpy_of(out.sky)] < 1e-3).mean() > 0.999
    assert torch.equal(out.sky, torch.isinf(out.depth))
    assert torch.equal(out.sky, out.object_id < 0)
    assert (out.normal[out.sky] == 0).all()
    assert (out.depth > 0).all()
    assert torch.isfinite(out.rgb).all()
    assert out.rgb.min() >= 0
    assert out.rgb.max() <= 1
    assert out.object_id.max() <= scene.world.terrain_id


def test_analytic_depth_of_the_floor() -> None:
    """A level camera over a floor at z = 0: depth is f h / (y - cy)."""
    scene = make_scene(0, "street")
    pose = look_at(np.array([[0.0, 0.0, 900.0]]), np.array([[0.0, 9.0, 900.0]]), np.zeros(1))
    k = intrinsics_of(60, H, W)[None]
    out = render(scene, Cameras(intrinsics=k, extrinsics=pose), H, W, shadows=False)
    y = pixel_centres(H, W)[..., 1]
    expected = np.where(y > H / 2, 900 * k[0, 1, 1] / np.where(y > H / 2, y - H / 2, 1), np.inf)
    ground = numpy_of(out.object_id[0]) == scene.world.ground_id
    assert ground.mean() > 0.3
    np.testing.assert_allclose(numpy_of(out.depth[0])[ground], expected[ground], rtol=1e-5)
    np.testing.assert_allclose(numpy_of(out.normal[0])[ground], [[0, -1, 0]] * ground.sum(), atol=1e-6)
    assert (numpy_of(out.sky[0]) == (y < H / 2))[y != H / 2].all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 19), (33, 8)])
def test_any_size_and_chunk(height: int, width: int) -> None:
    scene = make_scene(2, "room")
    cameras = make_cameras(scene, 2, height, width, seed=1, kind="handheld", fov_deg=60)
    out, small = (render(scene, cameras, height, width, chunk=chunk) for chunk in (1 << 17, 64))
    assert out.rgb.shape == (2, height, width, 3)
    assert out.object_id.dtype == torch.int32
    for name in ("rgb", "depth", "normal", "object_id"):
        torch.testing.assert_close(getattr(out, name), getattr(small, name), rtol=0, atol=2e-4)


def test_more_samples_change_colours_only() -> None:
    scene = make_scene(2, "tabletop")
    cameras = make_cameras(scene, 1, H, W, seed=1, kind="orbit", fov_deg=60)
    one, four = (render(scene, cameras, H, W, samples=samples) for samples in (1, 2))
    assert torch.equal(one.depth, four.depth)
    assert torch.equal(one.intrinsics, four.intrinsics)
    assert 0 < (one.rgb - four.rgb).abs().mean() < 0.05


def test_shadows_only_darken() -> None:
    scene = make_scene(2, "tabletop")
    cameras = make_cameras(scene, 1, H, W, seed=1, kind="orbit", fov_deg=60)
    lit, dark = (render(scene, cameras, H, W, shadows=shadows).rgb for shadows in (False, True))
    assert (dark <= lit + 1e-6).all()
    assert (dark < lit - 0.02).float().mean() > 0.02


def test_bytes_and_wrong_sizes() -> None:
    assert to_bytes(torch.tensor([[[0.0, 0.5, 1.2]]])).tolist() == [[[0, 128, 255]]]
    scene = make_scene(2, "room")
    cameras = make_cameras(scene, 1, H, W, seed=1, kind="handheld")
    with pytest.raises(InputError, match="height"):
        render(scene, cameras, 0, W)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_gives_the_same(kind: str) -> None:
    scene = make_scene(5, kind)
    cameras = make_cameras(scene, 2, H, W, seed=1, kind="random")
    host, device = (render(scene, cameras, H, W, device=device) for device in ("cpu", "cuda"))
    same = host.object_id == device.object_id.cpu()
    assert same.float().mean() > 0.995
    torch.testing.assert_close(device.depth.cpu()[same], host.depth[same], rtol=1e-3, atol=0)
    assert (device.rgb.cpu() - host.rgb).abs().mean() < 0.01
