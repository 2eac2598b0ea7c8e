"""The losses of the teacher: what they do not see, and what they must see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_anything_3.datasets.procedural import RenderedScene
from depth_anything_3.train import teacher_losses as T
from depth_anything_3.train.losses import ray_map

ZERO = 6e-4
"""Five angles of 1e-4, below which an angle is not told from none."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def view(rendered: RenderedScene) -> tuple[Tensor, Tensor]:
    """Depth of two views, as mean 1, and points in the frames of their cameras."""
    depth = torch.from_numpy(rendered.depth[:2])
    depth = depth / depth.mean()
    identity = torch.eye(3, 4).expand(1, 2, 3, 4)
    size = (depth.shape[1], depth.shape[2])
    rays = ray_map(torch.from_numpy(rendered.intrinsics[:2])[None], identity, size, size)[0, ..., :3]
    return depth, rays * depth[..., None]


# The fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (2.5, 0.7), (0.01, -0.005), (40.0, 3.0)])
def test_fit_affine_recovers_the_map(scale: float, shift: float) -> None:
    target = 1 + 4 * torch.rand(2, 3, 60, generator=generator())
    s, b = T.fit_affine((target - shift) / scale, target, 1 / target)
    assert s.shape == b.shape == (2, 3)
    torch.testing.assert_close(s, torch.full((2, 3), scale), rtol=1e-3, atol=0)
    torch.testing.assert_close(b, torch.full((2, 3), shift), rtol=0, atol=3e-3)


def test_fit_affine_survives_a_fifth_of_outliers() -> None:
    target = 1 + 4 * torch.rand(8, 400, generator=generator())
    source = (target - 0.7) / 2.5
    wild = torch.rand(8, 400, generator=generator(1)) < 0.2
    source = torch.where(wild, source * (1 + 5 * torch.rand(8, 400, generator=generator(2))), source)
    s, b = T.fit_affine(source, target, 1 / target)
    torch.testing.assert_close(s, torch.full((8,), 2.5), rtol=0.01, atol=0)
    torch.testing.assert_close(b, torch.full((8,), 0.7), rtol=0, atol=0.02)


def test_fit_affine_does_not_look_at_points_without_weight() -> None:
    target = 1 + torch.rand(50, generator=generator())
    source = 2 * target
    weight = 1 / target
    source[:20], weight[:20] = 1e6, 0
    s, b = T.fit_affine(source, target, weight)
    assert float(s) == pytest.approx(0.5, rel=1e-3)
    assert float(b) == pytest.approx(0, abs=1e-3)


def test_fit_affine_minimises_the_truncated_distance_relative_to_depth() -> None:
    target = torch.cat(
        [0.2 + 0.2 * torch.rand(60, generator=generator()), 2 + 8 * torch.rand(60, generator=generator(1))]
    )
    source = target * (0.3 * torch.randn(120, generator=generator(2))).exp()
    source[60:] = 2 * source[60:].sqrt()  # near and far points want different maps

    def cost(s: Tensor, b: Tensor) -> Tensor:
        distance = (s[..., None] * source + b[..., None] - target).abs() / target
        return distance.clamp(max=1.0).mean(-1)

    s, b = torch.meshgrid(torch.linspace(0.1, 3, 150), torch.linspace(-1.5, 1.5, 151), indexing="ij")
    assert float(cost(*T.fit_affine(source, target, 1 / target))) < 1.02 * float(cost(s, b).min())


def test_fit_affine_never_turns_the_world_inside_out() -> None:
    target = 1 + torch.rand(50, generator=generator())
    s, _ = T.fit_affine(5 - target, target, 1 / target)
    assert float(s) > 0


def test_fit_affine_without_any_point_is_finite() -> None:
    s, b = T.fit_affine(torch.ones(4), torch.ones(4), torch.zeros(4))
    assert torch.isfinite(s)
    assert torch.isfinite(b)


# What scale and shift mean --------------------------------------------------------------------------------------


def test_depth_without_its_affine_part_keeps_its_values_and_every_other_direction(view: tuple[Tensor, Tensor]) -> None:
    truth = view[0]
    weight = torch.where(truth > 0, 1 / truth.clamp(min=1e-3), 0.0)
    depth = (0.3 * truth.sqrt() + 0.1).requires_grad_(True)
    detached = T.detach_affine(depth, weight)
    torch.testing.assert_close(detached, depth, rtol=1e-6, atol=0)
    wish = torch.randn(depth.shape, generator=generator())
    (detached * wish).sum().backward()
    gradient = depth.grad
    assert gradient is not None
    size = float((gradient.abs() * depth.detach()).sum())
    for direction in (depth.detach(), torch.ones_like(depth)):  # a larger scale; a larger shift
        assert float((gradient * direction).sum()) == pytest.approx(0, abs=1e-5 * size)
    # A bend that leaves mean and spread as they are has the gradient that it had before.
    basis = torch.stack(
        [
            weight,
            weight * (depth.detach() - (weight * depth.detach()).sum((1, 2), True) / weight.sum((1, 2), True)).sign(),
        ]
    )
    bend = torch.randn(depth.shape, generator=generator(1))
    for row in torch.linalg.qr(basis.flatten(2).permute(1, 2, 0))[0].unbind(-1):
        row = row.view_as(bend)
        bend = bend - (bend * row).sum((1, 2), True) * row
    assert float((gradient * bend).sum()) == pytest.approx(float((wish * bend).sum()), rel=1e-3)


def test_the_affine_distance_by_hand(view: tuple[Tensor, Tensor]) -> None:
    truth = view[0]
    weight = torch.where(truth > 0, 1 / truth.clamp(min=1e-3), 0.0)
    assert T.affine_distance(truth, truth, weight).tolist() == [0, 0]
    far = T.affine_distance(math.e * truth, truth, weight)  # mean and spread are both e times as large
    torch.testing.assert_close(far, torch.full((2,), 2.0), rtol=1e-4, atol=0)
    mean = (weight * truth).sum((1, 2)) / weight.sum((1, 2))
    moved = T.affine_distance(truth + mean[:, None, None], truth, weight)
    torch.testing.assert_close(moved, torch.full((2,), math.log(2) ** 2), rtol=1e-4, atol=0)
    assert T.affine_distance(truth, 0 * truth, 0 * weight).tolist() == [0, 0]  # nothing is known


def test_a_wall_seen_straight_on_has_no_spread_to_be_far_from() -> None:
    wall, weight = torch.full((1, 8, 8), 2.0), torch.full((1, 8, 8), 0.5)
    noise = 1 + 0.001 * torch.randn(1, 8, 8, generator=generator())
    assert float(T.affine_distance(wall * noise, wall, weight)) < 1e-4
    assert float(T.affine_distance(3 * wall * noise, wall, weight)) == pytest.approx(2 * math.log(3) ** 2, rel=1e-2)


# Global and local ------------------------------------------------------------------------------------------

LEVELS, ANCHORS = (4, 16), (24, 64)


def local_part(depth: Tensor, truth: Tensor, points: Tensor, levels: tuple[int, ...] = LEVELS) -> Tensor:
    valid = truth > 0
    whole = T.global_local_loss(
        depth, truth, valid, points, levels=levels, anchors=ANCHORS[: len(levels)], generator=generator()
    )
    return whole - global_part(depth, truth, points)


def global_part(depth: Tensor, truth: Tensor, points: Tensor) -> Tensor:
    return T.global_local_loss(depth, truth, truth > 0, points, levels=(), anchors=())


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.2, 0.5), (30.0, 2.0), (1.5, -0.2)])
def test_global_local_is_nothing_for_any_affine_map_of_the_truth(
    view: tuple[Tensor, Tensor], scale: float, shift: float
) -> None:
    depth, points = view
    loss = T.global_local_loss(
        scale * depth + shift, depth, depth > 0, points, levels=LEVELS, anchors=ANCHORS, generator=generator()
    )
    torch.testing.assert_close(loss, torch.zeros(2), rtol=0, atol=2e-3)


def test_the_global_part_is_the_relative_error_by_hand() -> None:
    truth = torch.tensor([1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 1.0, 2.0, 4.0, 2.0]).repeat(10)[None, :, None]
    depth = truth.clone()
    depth[0, -1] = 3.0  # one of a hundred is off by half of its depth
    points = truth[..., None].expand(-1, -1, -1, 3)
    assert float(global_part(depth, truth, points)) == pytest.approx(0.5 / 100, rel=0.01)


def test_ripples_are_seen_from_near(view: tuple[Tensor, Tensor]) -> None:
    """An error of a hundredth of the depth is one of a hundredth for the view, but a large one for a small ball."""
    depth, points = view
    ripple = 1 + 0.01 * torch.sin(torch.arange(depth.shape[2]) * 2.0)
    far, near = global_part(depth * ripple, depth, points), local_part(depth * ripple, depth, points)
    assert (far < 0.01).all()
    assert (near > 4 * far).all()


def test_a_displaced_part_is_seen_from_afar(view: tuple[Tensor, Tensor]) -> None:
    depth, points = view
    displaced = depth.clone()
    displaced[:, :, : depth.shape[2] // 2] *= 1.5
    far, near = global_part(displaced, depth, points), local_part(displaced, depth, points, (16,))
    assert (far > 0.05).all()
    assert (near < 0.6 * far).all()


@pytest.mark.parametrize("level", [4, 16, 64])
def test_every_level_of_the_paper_has_balls_with_enough_points(level: int) -> None:
    """At the paper's size of 504 pixels; a level without any would be zero, whatever the prediction."""
    size, focal = 504, 500.0
    y, x = (torch.arange(2.0 * size)[: 2 * size : 2] / 2 + 0.5 - size / 2 for _ in range(2))
    rays = torch.stack([x.expand(size, size) / focal, y[:, None].expand(size, size) / focal, torch.ones(size, size)])
    depth = 1 / (1 + 0.2 * rays[0] + 0.1 * rays[1])
    noisy = depth * (1 + 0.01 * torch.rand(size, size, generator=generator()))
    points = (rays * depth).permute(1, 2, 0)[None]
    without, loss = (
        float(
            T.global_local_loss(
                noisy[None],
                depth[None],
                depth[None] > 0,
                points,
                levels=(level,)[:n],
                anchors=(32,)[:n],
                generator=generator(),
            )
        )
        for n in (0, 1)
    )
    assert loss > 1.5 * without


def test_a_ball_at_the_edge_has_no_more_points_than_the_image() -> None:
    """One wrong pixel in the corner of a hundred and forty-four stays one, however many balls reach beyond it."""
    truth = torch.ones(1, 12, 12)
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    points = torch.stack([x / 12, y / 12, torch.ones(12, 12)], -1)[None]
    wrong = truth.clone()
    wrong[0, 0, 0] = 1.5
    assert 0 < float(local_part(wrong, truth, points, (1,))) < 2 / 100


def test_what_is_not_valid_does_not_matter(view: tuple[Tensor, Tensor]) -> None:
    depth, points = view
    valid = torch.rand(depth.shape, generator=generator()) > 0.3
    prediction = depth * (1 + 0.1 * torch.rand(depth.shape, generator=generator(1)))
    truth = torch.where(valid, depth, 0.0)
    losses = [
        T.global_local_loss(
            torch.where(valid, prediction, wrong),
            truth,
            valid,
            points,
            levels=LEVELS,
            anchors=ANCHORS,
            generator=generator(),
        )
        for wrong in (0.5, 800.0)
    ]
    torch.testing.assert_close(losses[0], losses[1])
    assert (losses[0] > 0.01).all()


def test_global_local_has_a_gradient_and_depends_on_its_generator_alone(view: tuple[Tensor, Tensor]) -> None:
    depth, points = view
    wrong = (depth * (1 + 0.1 * torch.rand(depth.shape, generator=generator()))).requires_grad_()
    state = torch.get_rng_state()

    def loss(seed: int) -> Tensor:
        return T.global_local_loss(
            wrong, depth, depth > 0, points, levels=LEVELS, anchors=ANCHORS, generator=generator(seed)
        )

    first = loss(3)
    assert torch.equal(first, loss(3))
    assert not torch.equal(first, loss(4))
    assert torch.equal(torch.get_rng_state(), state)
    first.sum().backward()
    assert torch.isfinite(wrong.grad).all()
    assert (wrong.grad != 0).float().mean() > 0.9


# Normals ---------------------------------------------------------------------------------------------------


def plane(tilt: float, spacing: float = 1.0, size: int = 6) -> Tensor:
    """Points of a plane turned about the y axis by an angle in radians."""
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return spacing * torch.stack([math.cos(tilt) * x, y, math.sin(tilt) * x + 9], -1)[None]


EVERYWHERE = torch.ones(1, 6, 6, dtype=torch.bool)


@pytest.mark.parametrize("spacing", [10.0, 1.0, 1e-3, 1e-4])
@pytest.mark.parametrize("tilt", [0.0, 0.3, 1.2])
def test_normal_loss_of_a_plane_is_five_times_its_tilt(tilt: float, spacing: float) -> None:
    """Also where neighbours are as close as in a large image."""
    loss = T.normal_loss(plane(tilt, spacing), plane(0.0, spacing), EVERYWHERE)
    assert float(loss) == pytest.approx(5 * tilt, abs=ZERO, rel=1e-3)


def test_normal_loss_does_not_see_the_scale_and_is_nothing_for_the_truth(view: tuple[Tensor, Tensor]) -> None:
    _, points = view
    valid = torch.ones(points.shape[:3], dtype=torch.bool)
    assert (T.normal_loss(3 * points, points, valid) < 2 * ZERO).all()


def test_normal_loss_by_brute_force() -> None:
    points, truth = (torch.rand(1, 3, 3, 3, generator=generator(s)).double() for s in (0, 1))

    def normals(p: np.ndarray) -> list[np.ndarray]:
        c = p[1, 1]
        around = [p[0, 1] - c, p[1, 2] - c, p[2, 1] - c, p[1, 0] - c]
        found = [np.cross(around[i], around[(i + 1) % 4]) for i in range(4)]
        total = sum(np.linalg.norm(n) for n in found)
        mean = sum((total - np.linalg.norm(n)) * n / np.linalg.norm(n) for n in found)
        return [*found, np.asarray(mean)]

    def angle(a: np.ndarray, b: np.ndarray) -> float:
        return math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    pairs = zip(normals(points[0].numpy()), normals(truth[0].numpy()), strict=True)
    loss = T.normal_loss(points, truth, torch.ones(1, 3, 3, dtype=torch.bool))
    assert float(loss) == pytest.approx(sum(angle(a, b) for a, b in pairs), rel=1e-6)


def test_a_normal_needs_its_point_and_all_four_neighbours() -> None:
    wrong = plane(0.0)
    wrong[0, 2, 2] += 3.0
    known = EVERYWHERE.clone()
    assert float(T.normal_loss(wrong, plane(0.0), known)) > 0.1
    known[0, 2, 2] = False
    assert float(T.normal_loss(wrong, plane(0.0), known)) < ZERO


def test_normal_loss_has_a_useful_gradient_even_at_the_truth() -> None:
    truth = plane(0.2)
    there = truth.clone().requires_grad_()
    T.normal_loss(there, truth, EVERYWHERE).sum().backward()
    assert torch.isfinite(there.grad).all()
    tilted = plane(0.5).requires_grad_()
    before = T.normal_loss(tilted, truth, EVERYWHERE)
    before.sum().backward()
    with torch.no_grad():
        after = T.normal_loss(tilted - 0.05 * tilted.grad, truth, EVERYWHERE)
    assert float(after) < float(before.detach()) - 1e-3


# Masks -----------------------------------------------------------------------------------------------------


def test_mask_loss_by_hand() -> None:
    logit = torch.tensor([[[0.5, -2.0], [0.5, -2.0]]], requires_grad=True)
    target = torch.tensor([[[True, True], [False, False]]])
    loss = T.mask_loss(logit, target)
    assert float(loss.detach()) == pytest.approx((0.25 + 9 + 0.25 + 0) / 4)
    loss.sum().backward()
    # A silent score is woken where the mask holds, and left in peace where it does not.
    torch.testing.assert_close(logit.grad, torch.tensor([[[-0.25, -1.5], [0.25, 0.0]]]))
