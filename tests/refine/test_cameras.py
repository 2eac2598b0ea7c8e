"""Cameras from matches and depth, against scenes whose cameras are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.poses import rotation
from support.training import Room

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.pose import focal_errors, pair_errors
from depth_anything_3.refine.cameras import Matches, cameras_from_matches, fit_rigid

SIZE = (84, 112)
ROOM = Room(np.array([3.0, 1.5, 4.0]), np.eye(3), np.ones(3))
INTRINSICS = np.array([[90.0, 0, 56], [0, 90.0, 42], [0, 0, 1]])


def poses(count: int) -> np.ndarray:
    """World-to-camera poses of a short walk through the room that turns to the side."""
    found = []
    for i in range(count):
        turn = rotation([0, 1, 0.2], 12.0 * i)
        centre = np.array([0.4 * i - 0.5, 0.1 * i, -1 + 0.2 * i])
        found.append(np.column_stack([turn, -turn @ centre]))
    return np.stack(found)


def truth(count: int = 4) -> tuple[Matches, torch.Tensor, torch.Tensor, np.ndarray]:
    """Every eighth pixel of every view where it is seen in every other one; depth; camera matrices; poses."""
    extrinsics = poses(count)
    depth = np.stack([ROOM.picture(INTRINSICS, pose, SIZE)[1] for pose in extrinsics]).astype(np.float64)
    y, x = (v.flatten() + 0.5 for v in np.mgrid[4 : SIZE[0] : 8, 4 : SIZE[1] : 8])
    ends, first, second = [], [], []
    for i, j in np.ndindex(count, count):
        z = depth[i, y.astype(int), x.astype(int)]
        local = np.stack([x, y, np.ones_like(x)]).T @ np.linalg.inv(INTRINSICS).T * z[:, None]
        world = (local - extrinsics[i, :, 3]) @ extrinsics[i, :, :3]
        there = (world @ extrinsics[j, :, :3].T + extrinsics[j, :, 3]) @ INTRINSICS.T
        xy = there[:, :2] / there[:, 2:].clip(0.1)
        seen = (i != j) & (z > 0) & (there[:, 2] > 0.1) & (xy > 0).all(1) & (xy < SIZE[::-1]).all(1)
        ends.append(np.tile([i, j], (seen.sum(), 1)))
        first.append(np.stack([x, y], 1)[seen])
        second.append(xy[seen])
    matches = Matches(
        views=torch.from_numpy(np.concatenate(ends)),
        first=torch.from_numpy(np.concatenate(first)).float(),
        second=torch.from_numpy(np.concatenate(second)).float(),
        weight=torch.ones(sum(len(e) for e in ends)),
    )
    known = torch.from_numpy(np.repeat(INTRINSICS[None], count, 0)).float()
    return matches, torch.from_numpy(depth).float(), known, extrinsics


def disturbed(matches: Matches, *, pixels: float, outliers: float, seed: int = 0) -> Matches:
    generator = torch.Generator().manual_seed(seed)
    noisy = matches.second + pixels * torch.randn(matches.second.shape, generator=generator)
    wild = torch.rand(len(noisy), 1, generator=generator) < outliers
    anywhere = torch.rand(noisy.shape, generator=generator) * torch.tensor(SIZE[::-1])
    return replace(matches, second=torch.where(wild, anywhere, noisy))


def test_exact_matches_give_exact_cameras() -> None:
    matches, depth, intrinsics, extrinsics = truth()
    found = cameras_from_matches(matches, depth, intrinsics)
    errors = pair_errors(found.extrinsics.numpy(), extrinsics)
    # Depth is looked up at whole pixels, where matches lie between them.
    assert errors.pair_deg.max() < 0.5
    assert focal_errors(found.intrinsics.numpy(), intrinsics.numpy()).max() < 0.01
    assert (found.depth_scale - 1).abs().max() < 0.01
    centres = -np.einsum("nji,nj->ni", found.extrinsics[:, :, :3].numpy(), found.extrinsics[:, :, 3].numpy())
    assert np.linalg.norm(centres[3]) == pytest.approx(np.linalg.norm([1.2, 0.3, 0.6]), rel=0.02)
    assert torch.equal(found.extrinsics[0], torch.eye(3, 4))
    assert (found.support > 50).all()


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_outliers(seed: int) -> None:
    matches, depth, intrinsics, extrinsics = truth()
    generator = torch.Generator().manual_seed(seed)
    noisy_depth = depth * (1 + 0.1 * torch.randn(depth.shape, generator=generator))
    found = cameras_from_matches(disturbed(matches, pixels=1.0, outliers=0.3, seed=seed), noisy_depth, intrinsics)
    errors = pair_errors(found.extrinsics.numpy(), extrinsics)
    # Noise of the depth makes baselines look shorter than they are, which turns make up for: hence no less.
    assert np.median(errors.rotation_deg) < 4  # of 24 degrees between the views
    assert np.median(errors.pair_deg) < 25


def test_a_wrong_focal_length_is_corrected() -> None:
    matches, depth, intrinsics, extrinsics = truth()
    wrong = intrinsics * torch.tensor([[1.15], [1.15], [1.0]])
    wrong[:, :2, 2] = intrinsics[:, :2, 2]
    found = cameras_from_matches(matches, depth, wrong)
    assert focal_errors(found.intrinsics.numpy(), intrinsics.numpy()).max() < 0.05
    assert pair_errors(found.extrinsics.numpy(), extrinsics).rotation_deg.max() < 2


def test_views_whose_depth_is_off_by_a_factor() -> None:
    matches, depth, intrinsics, extrinsics = truth()
    factors = torch.tensor([1.0, 1.1, 0.92, 1.05])
    found = cameras_from_matches(matches, depth * factors[:, None, None], intrinsics)
    together = found.depth_scale * factors
    assert (together / together[0] - 1).abs().max() < 0.03
    assert pair_errors(found.extrinsics.numpy(), extrinsics).rotation_deg.max() < 1


def test_what_no_match_connects_stays_where_it_was_put() -> None:
    matches, depth, intrinsics, extrinsics = truth()
    without_last = (matches.views != 3).all(1)
    some = Matches(
        views=matches.views[without_last],
        first=matches.first[without_last],
        second=matches.second[without_last],
        weight=matches.weight[without_last],
    )
    initial = torch.from_numpy(extrinsics).float()
    found = cameras_from_matches(some, depth, intrinsics, initial=initial)
    torch.testing.assert_close(found.extrinsics[3], initial[3])
    assert found.support[3] == 0 and found.depth_scale[3] == 1
    assert pair_errors(found.extrinsics[:3].numpy(), extrinsics[:3]).pair_deg.max() < 0.5
    nothing = cameras_from_matches(replace(some, weight=some.weight * 0), depth, intrinsics)
    assert torch.equal(nothing.extrinsics, torch.eye(3, 4).repeat(4, 1, 1))


def test_pixels_without_depth_do_not_count() -> None:
    matches, depth, intrinsics, extrinsics = truth()
    holes = depth.clone()
    holes[:, :30] = 0
    holes[:, :, :20] = float("nan")
    found = cameras_from_matches(matches, holes, intrinsics)
    assert pair_errors(found.extrinsics.numpy(), extrinsics).pair_deg.max() < 1


def test_the_same_every_time() -> None:
    matches, depth, intrinsics, _ = truth(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, two = (cameras_from_matches(disturbed(matches, pixels=2, outliers=0.5), depth, intrinsics) for _ in range(2))
    assert torch.equal(one.extrinsics, two.extrinsics)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_view_that_is_not_there() -> None:
    matches, depth, intrinsics, _ = truth(3)
    with pytest.raises(InputError, match="view 2"):
        cameras_from_matches(matches, depth[:2], intrinsics[:2])


def test_rigid_motions_of_point_sets() -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.from_numpy(np.stack([rotation([1, 2, 3], 170.0), rotation([0, 1, 0], -30.0)])).float()
    shift = torch.randn(2, 3, generator=generator)
    source = torch.randn(2, 20, 3, generator=generator)
    target = source @ turn.transpose(1, 2) + shift[:, None]
    weight = torch.ones(2, 20)
    target[:, 0], weight[:, 0] = 100.0, 0.0
    torch.testing.assert_close(fit_rigid(source, target, weight), torch.cat([turn, shift[..., None]], -1))
    flat = source * torch.tensor([1.0, 1.0, 0.0])  # a mirror image fits as well, but is none
    found = fit_rigid(flat, flat @ turn.transpose(1, 2), torch.ones(2, 20))
    assert (torch.linalg.det(found[..., :3]) > 0.99).all()
