"""Predicted camera matrices brought to one, or to square pixels: depth and poses follow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from support.poses import random_poses

from depth_anything_3.api import DepthAnything3
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, project, unproject
from depth_anything_3.geometry.rays import cameras_from_rays, ray_residuals_deg
from depth_anything_3.infer.intrinsics import constrain_intrinsics
from depth_anything_3.types.inputs import ResizeRecord

H, W = 42, 56
RECORD = ResizeRecord(source_hw=(90, 110), processed_hw=(H, W), scale_xy=(W / 110, H / 90), offset_xy=(0.0, 0.0))


def cameras(seed: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth, poses and matrices that differ by a few percent."""
    rng = np.random.default_rng(seed)
    K = np.tile(RECORD.processed_from_source @ [[100.0, 0, 54], [0, 100, 46], [0, 0, 1]], (3, 1, 1))
    K[:, [0, 1], [0, 1]] *= np.exp(spread * rng.normal(size=(3, 2)))
    K[:, :2, 2] += 10 * spread * rng.normal(size=(3, 2))
    return rng.uniform(2, 6, (3, H, W)), random_poses(seed, 3), K


def rays_of(poses: np.ndarray, K: np.ndarray) -> torch.Tensor:
    """The exact (1, N, H, W, 6) ray map of cameras."""
    ends = unproject(np.ones((len(K), H, W)), K, poses)
    centres = np.broadcast_to(camera_centres(poses)[:, None, None], ends.shape)
    return torch.from_numpy(np.concatenate([ends - centres, centres], -1)).float()[None]


@pytest.mark.parametrize(("shared", "square"), [(True, False), (False, True), (True, True)])
def test_what_is_asked_for_holds_in_the_pixels_of_the_caller(shared: bool, square: bool) -> None:
    depth, poses, K = cameras(0, 0.03)
    _, turned, found = constrain_intrinsics(depth, poses, K, [RECORD] * 3, shared=shared, square=square)
    np.testing.assert_allclose(camera_centres(turned), camera_centres(poses), atol=1e-9)
    source = np.array([RECORD.source_from_processed @ k for k in found])
    if square:
        np.testing.assert_allclose(source[:, 0, 0], source[:, 1, 1])
    if shared:
        np.testing.assert_allclose(source, source[:1].repeat(3, 0))


@pytest.mark.parametrize("seed", range(3))
def test_points_stay_where_they_are(seed: int) -> None:
    """The change of a point is that of its ray, and no more: the depth gives the nearest point of the new ray."""
    depth, poses, K = cameras(seed, 0.01)
    moved = constrain_intrinsics(depth, poses, K, [RECORD] * 3, shared=True, square=True)
    before, after = unproject(depth, K, poses), unproject(*(moved[i] for i in (0, 2, 1)))
    off = np.linalg.norm(after - before, axis=-1) / depth
    assert np.median(off) < 0.01
    for factor in (0.99, 1.01):
        other = unproject(moved[0] * factor, moved[2], moved[1])
        assert (np.linalg.norm(other - before, axis=-1) >= off * depth).all()
    residual = ray_residuals_deg(
        rays_of(poses, K)[0], torch.ones(3, H, W), *(torch.from_numpy(moved[i]).float() for i in (1, 2)), (H, W)
    )
    assert residual.max() < 0.6  # degrees, of focal lengths that are off by one percent


def test_a_moved_principal_point_is_a_turn() -> None:
    depth, poses, K = cameras(0, 0.0)
    K[0, 0, 2] += 4.0
    _, turned, found = constrain_intrinsics(depth, poses, K, [RECORD] * 3, shared=True, square=False)
    xy, _ = project(unproject(depth, K, poses), found, turned)
    y, x = np.mgrid[:H, :W] + 0.5
    assert np.abs(np.median(xy - np.stack([x, y], -1), axis=(1, 2))).max() < 0.15


def test_nothing_to_do_changes_nothing() -> None:
    depth, poses, K = cameras(0, 0.0)
    moved = constrain_intrinsics(depth, poses, K, [RECORD] * 3, shared=True, square=False)
    for old, new in zip((depth, poses, K), moved, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-12, atol=1e-12)


def test_pictures_of_two_sizes_share_nothing() -> None:
    other = dataclasses.replace(RECORD, source_hw=(90, 111))
    with pytest.raises(InputError, match="shared_intrinsics"):
        constrain_intrinsics(*cameras(0, 0.01), [RECORD, RECORD, other], shared=True, square=False)


def test_residuals_are_angles() -> None:
    _, poses, K = cameras(1, 0.0)
    rays, conf = rays_of(poses, K), torch.ones(1, 3, H, W)
    found = cameras_from_rays(rays, conf, (H, W), decomposition="exact")
    assert ray_residuals_deg(rays, conf, *found, (H, W)).max() < 0.01
    longer = torch.from_numpy(K).float()[None].clone()
    longer[..., [0, 1], [0, 1]] *= 1.1
    off = ray_residuals_deg(rays, conf, torch.from_numpy(poses).float()[None], longer, (H, W))
    assert ((off > 1) & (off < 3)).all()


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled", device="cpu")


def test_inference_reports_and_obeys(model: DepthAnything3) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (2, 60, 84, 3), np.uint8))
    plain = model.inference(pictures, process_res=84, use_ray_pose=True)
    found = model.inference(pictures, process_res=84, use_ray_pose=True, shared_intrinsics=True, square_pixels=True)
    assert plain.ray_residual_deg is not None and found.ray_residual_deg is not None and found.intrinsics is not None
    assert model.inference(pictures, process_res=84).ray_residual_deg is None
    source = [r.source_from_processed @ k for r, k in zip(found.records, found.intrinsics, strict=True)]
    np.testing.assert_allclose(source[0], source[1], rtol=1e-5)
    assert source[0][0, 0] == pytest.approx(source[0][1, 1], rel=1e-5)
    with pytest.warns(UserWarning, match="square_pixels has no effect: intrinsics are given"):
        model.inference(pictures, intrinsics=np.tile(np.diag([80.0, 80, 1]), (2, 1, 1)), square_pixels=True)
