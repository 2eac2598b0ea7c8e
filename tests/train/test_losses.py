"""The losses of the any-view model, by numbers worked out by hand and by what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.poses import random_poses
from torch import Tensor

from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.train import losses as L


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=generator(seed))


def close(actual: Tensor, expected: object, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=tolerance)


# Means and scales ------------------------------------------------------------------------------------------


def test_masked_mean_counts_what_the_mask_holds() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 100.0]], [[5.0, 6.0], [7.0, 8.0]], [[9.0, 9.0], [9.0, 9.0]]])
    mask = torch.tensor([[[1, 0], [1, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]]).bool()
    close(L.masked_mean(values, mask), [2.0, 8.0, 0.0])


def test_masked_mean_ignores_what_is_not_a_number_outside_of_the_mask() -> None:
    values = torch.tensor([[1.0, math.nan, math.inf]], requires_grad=True)
    mean = L.masked_mean(values, torch.tensor([[True, False, False]]))
    close(mean, [1.0])
    mean.sum().backward()
    close(values.grad, [[1.0, 0.0, 0.0]])


def test_an_empty_mask_has_no_gradient() -> None:
    values = torch.ones(1, 4, requires_grad=True)
    L.masked_mean(values, torch.zeros(1, 4, dtype=torch.bool)).sum().backward()
    close(values.grad, torch.zeros(1, 4))


def test_points_scale_by_hand() -> None:
    points = torch.zeros(1, 1, 1, 3, 3)
    points[0, 0, 0, 0] = torch.tensor([3.0, 4.0, 0.0])
    points[0, 0, 0, 1] = torch.tensor([0.0, 0.0, 7.0])
    points[0, 0, 0, 2] = 1e9
    close(L.points_scale(points, torch.tensor([[[[True, True, False]]]])), [6.0])


def test_points_scale_grows_with_the_world_and_has_a_floor() -> None:
    points, valid = rand(2, 3, 4, 5, 3) - 0.5, rand(2, 3, 4, 5, seed=1) > 0.3
    close(L.points_scale(7.5 * points, valid), 7.5 * L.points_scale(points, valid))
    close(L.points_scale(1e-9 * points, valid), [1e-3, 1e-3])
    close(L.points_scale(points, torch.zeros_like(valid)), [1.0, 1.0])


# Depth -----------------------------------------------------------------------------------------------------

DEPTH, TARGET = torch.tensor([[[[2.0, 4.0, 9.0]]]]), torch.tensor([[[[1.0, 8.0, 0.0]]]])
VALID = TARGET > 0


def test_depth_loss_by_hand() -> None:
    close(L.depth_loss(DEPTH, TARGET, VALID), [(1 + 4) / 2])
    close(L.depth_loss(DEPTH, TARGET, VALID, space="log"), [math.log(2)])
    conf = torch.tensor([[[[1.0, math.e, 50.0]]]])
    close(L.depth_loss(DEPTH, TARGET, VALID, conf, conf_weight=0.3), [(1 + 4 * math.e - 0.3) / 2])


@pytest.mark.parametrize(("error", "weight"), [(0.5, 3.0), (0.02, 0.2)])
def test_the_best_confidence_is_lambda_over_the_error(error: float, weight: float) -> None:
    depth, target = torch.full((1, 1, 1, 1), 1 + error), torch.ones(1, 1, 1, 1)
    best = weight / error

    def loss(c: float) -> tuple[float, float]:
        conf = torch.full((1, 1, 1, 1), c, requires_grad=True)
        value = L.depth_loss(depth, target, target > 0, conf, conf_weight=weight)
        value.sum().backward()
        return float(value.detach()), float(conf.grad)

    at_best, slope = loss(best)
    assert slope == pytest.approx(0, abs=1e-5)
    assert at_best == pytest.approx(weight - weight * math.log(best), abs=1e-5)
    assert at_best < min(loss(0.8 * best)[0], loss(1.25 * best)[0])


def test_depth_gets_its_gradient_times_the_confidence_and_none_where_nothing_is_known() -> None:
    depth = DEPTH.clone().requires_grad_()
    conf = torch.tensor([[[[3.0, 5.0, 7.0]]]])
    L.depth_loss(depth, TARGET, VALID, conf).sum().backward()
    close(depth.grad, [[[[1.5, -2.5, 0.0]]]])


def test_log_depth_counts_near_and_far_alike() -> None:
    target = torch.tensor([[[[0.01, 1.0, 500.0]]]])
    close(L.depth_loss(1.1 * target, target, target > 0, space="log"), [math.log(1.1)], 1e-5)


def test_log_depth_survives_unknown_pixels() -> None:
    depth = torch.tensor([[[[0.0, 2.0]]]], requires_grad=True)
    L.depth_loss(depth, torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[False, True]]]]), space="log").sum().backward()
    close(depth.grad, [[[[0.0, 0.5]]]])


# Gradient --------------------------------------------------------------------------------------------------


def ramp() -> Tensor:
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(6.0), indexing="ij")
    return (10 + 2 * x - 3 * y)[None, None]


def test_gradient_loss_of_a_ramp() -> None:
    flat = torch.full((1, 1, 4, 6), 5.0)
    everywhere = torch.ones(1, 1, 4, 6, dtype=torch.bool)
    close(L.gradient_loss(ramp(), flat, everywhere), [2 + 3])
    close(L.gradient_loss(ramp(), flat, everywhere, scales=2), [2 + 3 + 4 + 6])
    close(L.gradient_loss(ramp(), ramp() + 7, everywhere), [0.0])


def test_gradient_loss_averages_over_the_pairs_that_are_known() -> None:
    depth, valid = torch.zeros(1, 1, 2, 3), torch.ones(1, 1, 2, 3, dtype=torch.bool)
    depth[0, 0, 0] = torch.tensor([0.0, 1.0, 99.0])
    valid[0, 0, 0, 2] = False
    # Along x: 1, 0, 0 are left of four; along y: 0, 1 of three.
    close(L.gradient_loss(depth, torch.zeros_like(depth), valid), [1 / 3 + 1 / 2])
    turned, known = depth.flip(-1, -2), valid.flip(-1, -2)
    close(L.gradient_loss(turned, torch.zeros_like(depth), known), [1 / 3 + 1 / 2])


def test_log_gradient_does_not_see_a_factor() -> None:
    target, valid = rand(1, 2, 5, 6) + 0.5, torch.ones(1, 2, 5, 6, dtype=torch.bool)
    close(L.gradient_loss(3 * target, target, valid, space="log", scales=2), [0.0], 1e-5)
    assert float(L.gradient_loss(3 * target, target, valid)) > 0.1


def test_more_scales_than_an_image_has_are_left_out() -> None:
    depth, valid = ramp(), torch.ones(1, 1, 4, 6, dtype=torch.bool)
    values = [float(L.gradient_loss(depth, 0 * depth, valid, scales=n)) for n in (2, 3, 9)]
    assert values[0] == values[1] == values[2]


# Rays and points -------------------------------------------------------------------------------------------


def test_ray_loss_by_hand() -> None:
    target = rand(1, 1, 1, 2, 6)
    ray = target.clone()
    ray[0, 0, 0, 0] += torch.tensor([0.1, -0.2, 0.0, 0.0, 0.0, 0.5])
    close(L.ray_loss(ray, target), [0.8 / 2])
    close(L.ray_loss(ray, target, direction_weight=10), [3.5 / 2])
    conf = torch.tensor([[[[2.0, math.e]]]])
    close(L.ray_loss(ray, target, conf, conf_weight=0.4), [(1.6 - 0.4 * math.log(2) - 0.4) / 2])


def test_point_loss_by_hand() -> None:
    depth = torch.tensor([[[[2.0, 1.0, 1.0]]]])
    ray = torch.zeros(1, 1, 1, 3, 6)
    ray[..., 2] = 1
    ray[..., 3] = 0.5
    target = torch.zeros(1, 1, 1, 3, 3)
    target[0, 0, 0, 0] = torch.tensor([0.0, 0.0, 4.0])  # against (0.5, 0, 2)
    target[0, 0, 0, 1] = torch.tensor([0.5, -1.0, 1.0])  # against (0.5, 0, 1)
    valid = torch.tensor([[[[True, True, False]]]])
    close(L.point_loss(depth, ray, target, valid), [(2.5 + 1.0) / 2])
    close(L.point_loss(depth, ray, target, valid, relative=True), [(2.5 / 4 + 1.0 / 1.5) / 2])


def test_point_loss_reaches_both_heads() -> None:
    depth, ray = (rand(1, 2, 3, 4) + 1).requires_grad_(), rand(1, 2, 3, 4, 6, seed=1).requires_grad_()
    target, valid = rand(1, 2, 3, 4, 3, seed=2), torch.ones(1, 2, 3, 4, dtype=torch.bool)
    L.point_loss(depth, ray, target, valid).sum().backward()
    assert (depth.grad != 0).all()
    assert (ray.grad != 0).all()


def cameras(seed: int, count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics with skew, two focal lengths and a principal point anywhere; and poses."""
    rng = np.random.default_rng(seed)
    k = np.zeros((count, 3, 3))
    k[:, 0, 0], k[:, 1, 1] = rng.uniform(0.5, 2, (2, count)) * width
    k[:, 0, 1] = rng.normal(0, 0.2, count) * width
    k[:, 0, 2], k[:, 1, 2] = rng.uniform(-0.2, 1.2, count) * width, rng.uniform(-0.2, 1.2, count) * height
    k[:, 2, 2] = 1
    return k, random_poses(seed, count)


@pytest.mark.parametrize("seed", range(4))
def test_ray_map_times_depth_is_the_unprojected_world(seed: int) -> None:
    height, width = 6, 9
    k, poses = cameras(seed, 6, height, width)
    depth = np.random.default_rng(seed).uniform(0.5, 5, (6, height, width))
    expected = unproject(depth, k, poses)
    turns = poses[:, :, :3].transpose(0, 2, 1)
    world_from_camera = np.concatenate([turns, -turns @ poses[:, :, 3:]], -1)
    tensors = (torch.from_numpy(v).float().unflatten(0, (2, 3)) for v in (k, world_from_camera))
    rays = L.ray_map(*tensors, (height, width), (height, width)).flatten(0, 1).double().numpy()
    np.testing.assert_allclose(rays[..., 3:] + depth[..., None] * rays[..., :3], expected, rtol=1e-4, atol=1e-4)


def test_a_smaller_ray_map_has_its_pixels_at_the_middle_of_those_it_stands_for() -> None:
    """Rays are linear in the pixel, so the ray of a block of pixels is the mean of theirs."""
    k, poses = cameras(5, 2, 8, 12)
    tensors = [torch.from_numpy(v).float()[None] for v in (k, poses)]
    fine = L.ray_map(*tensors, (8, 12), (8, 12))
    coarse = L.ray_map(*tensors, (8, 12), (4, 4))
    close(coarse, fine.unflatten(3, (4, 3)).unflatten(2, (4, 2)).mean((3, 5)), 1e-4)


def test_maps_at_ray_size_hold_the_middle_pixel() -> None:
    y, x = torch.meshgrid(torch.arange(14.0), torch.arange(28.0), indexing="ij")
    small = L.at_ray_size((100 * y + x)[None, None], (8, 16))
    middle_y, middle_x = ((torch.arange(n) + 0.5) * 1.75 for n in (8, 16))
    close(small[0, 0], 100 * middle_y.floor()[:, None] + middle_x.floor())


# Cameras ---------------------------------------------------------------------------------------------------

TRUE_CAMERA = torch.tensor([[[1.0, 2.0, 3.0, 0.0, 0.6, 0.0, 0.8, 1.0, 0.5]]])


def test_camera_loss_by_hand() -> None:
    guess = torch.tensor([[[1.5, 2.0, 2.0, 0.1, 0.6, 0.0, 0.6, 2.0, 0.25]]])
    expected = 1.5 + 0.3 + 0.5 * 2 * math.log(2)
    close(L.camera_loss(guess, TRUE_CAMERA), [expected])
    close(L.camera_loss(guess, TRUE_CAMERA, fov_weight=2.0, quaternion_weight=3.0), [1.5 + 0.9 + 4 * math.log(2)])
    close(L.camera_loss(torch.cat([guess, TRUE_CAMERA], 1), TRUE_CAMERA.expand(1, 2, 9)), [expected / 2])


def test_a_quaternion_and_its_negative_are_one_rotation() -> None:
    turned = TRUE_CAMERA * torch.tensor([1, 1, 1, -1, -1, -1, -1, 1, 1])
    close(L.camera_loss(turned, TRUE_CAMERA), [0.0])
    close(L.camera_loss(TRUE_CAMERA, turned), [0.0])
    guess = turned.clone().requires_grad_()
    L.camera_loss(guess + torch.tensor([0, 0, 0, 0, 0.1, 0, 0, 0, 0]), TRUE_CAMERA).sum().backward()
    assert guess.grad[0, 0, 4] == 1  # towards the nearer of the two, -0.6


def test_a_field_of_view_of_almost_nothing_is_pulled_up() -> None:
    guess = TRUE_CAMERA.clone()
    guess[..., 7:] = 0.01
    guess.requires_grad_()
    loss = L.camera_loss(guess, TRUE_CAMERA)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert (guess.grad[0, 0, 7:] < 0).all()


# Batches ---------------------------------------------------------------------------------------------------


def _cases() -> dict[str, Callable[[slice], Tensor]]:
    b, n, h, w = 3, 2, 5, 6
    depth, target, conf = rand(b, n, h, w) + 0.1, rand(b, n, h, w, seed=1) + 0.1, 1 + rand(b, n, h, w, seed=2)
    valid = rand(b, n, h, w, seed=3) > torch.tensor([0.2, 0.8, 0.5]).view(b, 1, 1, 1)
    ray, true_ray = rand(b, n, h, w, 6, seed=4), rand(b, n, h, w, 6, seed=5)
    points = rand(b, n, h, w, 3, seed=6)
    pose, true_pose = rand(b, n, 9, seed=7) - 0.2, rand(b, n, 9, seed=8) + 0.1
    return {
        "scale": lambda s: L.points_scale(points[s], valid[s]),
        "depth": lambda s: L.depth_loss(depth[s], target[s], valid[s], conf[s], space="log"),
        "gradient": lambda s: L.gradient_loss(depth[s], target[s], valid[s], scales=2),
        "ray": lambda s: L.ray_loss(ray[s], true_ray[s], conf[s]),
        "point": lambda s: L.point_loss(depth[s], ray[s], points[s], valid[s], relative=True),
        "camera": lambda s: L.camera_loss(pose[s], true_pose[s]),
    }


@pytest.mark.parametrize("name", _cases())
def test_a_batch_gives_what_its_samples_give(name: str) -> None:
    loss = _cases()[name]
    together = loss(slice(None))
    assert together.shape == (3,)
    close(together, torch.cat([loss(slice(i, i + 1)) for i in range(3)]))
    assert together.unique().numel() == 3
