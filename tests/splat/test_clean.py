"""Which Gaussians are left out, and that merged ones have the moments and the looks of their parts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from support.gaussian_sets import camera, in_front_of

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw
from depth_anything_3.splat.base import render
from depth_anything_3.splat.clean import clean_gaussians, floating_pixels, inside_border, select
from depth_anything_3.splat.from_depth import gaussians_from_depth
from depth_anything_3.splat.merge import merge_gaussians
from depth_anything_3.splat.options import CleanOptions
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.sample import Sample, build, film
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction

SHAPE = (3, 40, 64)
KEEP_ALL = {"border": 0.0, "max_depth_percentile": 100.0, "max_depth_jump": 0.0, "min_opacity": 0.0}


def prediction(**changes: Any) -> Prediction:
    depth = np.random.default_rng(0).uniform(2, 2.05, SHAPE).astype(np.float32)
    k = np.repeat(np.array([[[50, 0, 32], [0, 50, 20], [0, 0, 1]]], np.float32), 3, 0)
    pose = np.repeat(np.eye(3, 4, dtype=np.float32)[None], 3, 0)
    fields: dict[str, Any] = {"depth": depth, "is_metric": False, **changes}
    images = np.full((*SHAPE, 3), 90, np.uint8)
    return Prediction(**{"gaussians": gaussians_from_depth(fields["depth"], images, k, pose), **fields})


def kept(prediction: Prediction, mask: Any = None, **options: Any) -> np.ndarray:
    """Which pixels are left, found by giving each Gaussian its number as a colour."""
    g = prediction.gaussians
    assert g is not None
    number = torch.arange(g.means.shape[1], dtype=torch.float32)
    marked = dataclasses.replace(g, harmonics=number[None, :, None, None].expand(1, -1, 3, 1))
    left = clean_gaussians(
        dataclasses.replace(prediction, gaussians=marked), CleanOptions(**{**KEEP_ALL, **options}), mask=mask
    )
    result = np.zeros(prediction.depth.size, bool)
    result[left.harmonics[0, :, 0, 0].long().numpy()] = True
    return result.reshape(SHAPE)


def test_nothing_asked_for_changes_nothing() -> None:
    assert kept(prediction()).all()


def test_border_sky_mask_and_views() -> None:
    sky, mask = np.zeros(SHAPE, bool), np.ones(SHAPE, bool)
    sky[0, :7], mask[1, :, 10] = True, False
    np.testing.assert_array_equal(kept(prediction(sky=sky)), ~sky)
    assert kept(prediction(sky=sky), drop_sky=False).all()
    np.testing.assert_array_equal(kept(prediction(), mask), mask)
    left = kept(prediction(), border=1 / 16)
    assert left[:, 2:-2, 4:-4].all() and left.sum() == 3 * 36 * 56
    assert inside_border((1, 31, 200), 1 / 32).sum() == 31 * (200 - 12), "narrow pictures keep their rows"
    assert kept(prediction(), gs_views_interval=2).any((1, 2)).tolist() == [True, False, True]
    assert kept(prediction(), gs_views_interval=None).all()


def test_faint_and_broken_gaussians_go() -> None:
    p = prediction()
    g = p.gaussians
    assert g is not None
    g.opacities[0, :5] = 0.1
    g.means[0, 10, 1], g.scales[0, 11, 2], g.scales[0, 12], g.rotations[0, 13] = np.nan, -0.1, np.inf, 0
    g.harmonics[0, 14, 2, 0] = np.nan
    left = kept(dataclasses.replace(p, gaussians=g), min_opacity=0.2).reshape(-1)
    # The harmonics are replaced by the numbers there; what is broken in them is seen below.
    assert set(np.flatnonzero(~left)) == {0, 1, 2, 3, 4, 10, 11, 12, 13}
    assert clean_gaussians(p, CleanOptions(**KEEP_ALL)).means.shape[1] == p.depth.size - 5


def test_the_deepest_pixels_of_every_view_go() -> None:
    depth = np.tile(np.arange(1, 65, dtype=np.float32), (3, 40, 1))
    depth[1] *= 100
    left = kept(prediction(depth=depth), max_depth_percentile=75.0)
    assert left.all((0, 1))[:47].all() and not left[:, :, 49:].any()


def test_pixels_that_float_between_two_surfaces_go_and_sharp_edges_stay() -> None:
    depth = np.full(SHAPE, 2.0, np.float32)
    depth[:, :, 30:] = 4.0
    assert not floating_pixels(depth, 0.1).any()
    depth[0, :, 30] = 3.0
    expected = np.zeros(SHAPE, bool)
    expected[0, :, 30] = True
    np.testing.assert_array_equal(floating_pixels(depth, 0.1), expected)
    np.testing.assert_array_equal(kept(prediction(depth=depth), max_depth_jump=0.1), ~expected)


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_requests_are_named() -> None:
    with pytest.raises(CapabilityError, match="gaussians"):
        clean_gaussians(dataclasses.replace(prediction(), gaussians=None), CleanOptions())
    with pytest.raises(InputError, match=r"^mask: got shape \(3, 4\)"):
        clean_gaussians(prediction(), CleanOptions(), mask=np.ones((3, 4), bool))
    for name, value in (
        ("min_opacity", 1.0),
        ("border", 0.5),
        ("max_depth_percentile", 0.0),
        ("max_depth_jump", -1.0),
        ("gs_views_interval", 0),
        ("max_gaussians", 0),
    ):
        with pytest.raises(InputError, match=f"^{name}: got {value}"):
            CleanOptions(**{name: value})
    g = prediction().gaussians
    assert g is not None
    with pytest.raises(InputError, match=r"^max_gaussians: got 0"):
        merge_gaussians(g, 0)
    two = Gaussians(*(torch.cat([getattr(g, f.name)] * 2) for f in dataclasses.fields(Gaussians)))
    with pytest.raises(InputError, match="2 scenes"):
        merge_gaussians(two, 5)


def covariances(gaussians: Gaussians) -> torch.Tensor:
    axes = matrix_from_quat_xyzw(gaussians.rotations[0].roll(-1, -1)) * gaussians.scales[0][:, None]
    return axes @ axes.transpose(-1, -2)


@pytest.mark.parametrize("dense", [False, True])
def test_one_for_all_has_their_moments(dense: bool) -> None:
    """Faint parts keep all of them; where parts cover more than opacity can say, the space between them counts more."""
    pose, _ = camera()
    parts = in_front_of(pose, 6, degree=2)
    parts.means.mul_(0.01)
    parts.opacities.copy_(torch.linspace(0.9, 0.99, 6) if dense else torch.linspace(0.01, 0.02, 6))
    parts.scales.copy_(parts.scales.clamp(0.05, 0.1) * (0.01 if dense else 1))
    one = merge_gaussians(parts, 1)
    assert one.means.shape == (1, 1, 3) and one.harmonics.shape == (1, 1, 3, 9)
    mass = parts.opacities[0] * parts.scales[0].sort(-1).values[:, 1:].prod(-1)
    weight = mass / mass.sum()
    mean = weight @ parts.means[0]
    away = parts.means[0] - mean
    within = (weight[:, None, None] * covariances(parts)).sum(0)
    between = torch.einsum("g,gi,gj->ij", weight, away, away)
    torch.testing.assert_close(one.means[0, 0], mean)
    torch.testing.assert_close(one.harmonics[0, 0], torch.einsum("g,gck->ck", weight, parts.harmonics[0]))
    torch.testing.assert_close(covariances(one)[0], within + between)
    area = one.scales[0, 0].sort().values[1:].prod()
    torch.testing.assert_close(one.opacities[0, 0] * area, mass.sum())


def test_closed_surfaces_stay_closed() -> None:
    """A wall of opaque Gaussians seen from the front, merged four to one."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    means = torch.stack((x - 20, y - 20, torch.full_like(x, 40)), -1).reshape(1, -1, 3)
    count = means.shape[1]
    wall = Gaussians(
        means=means,
        scales=torch.full((1, count, 3), 0.6),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        harmonics=torch.zeros(1, count, 3, 1),
        opacities=torch.full((1, count), 0.9),
    )
    few = merge_gaussians(wall, count // 4)
    k = torch.tensor([[160.0, 0, 64], [0, 160, 64], [0, 0, 1]])[None, None]
    alpha = [render(g, torch.eye(3, 4)[None, None], k, (128, 128)).alpha[..., 20:-20, 20:-20] for g in (wall, few)]
    assert few.means.shape[1] <= count // 4
    assert alpha[0].min() > 0.93 and alpha[1].min() > 0.85 and alpha[1].mean() > alpha[0].mean() - 0.06


def test_what_is_alone_stays_as_it_is() -> None:
    pose, _ = camera()
    parts = in_front_of(pose, 50, degree=1)
    pair = select(parts, torch.tensor([0, 0]))
    pair.means[0, 1] += 1e-6
    everything = Gaussians(
        *(torch.cat((getattr(parts, f.name)[:, 1:], getattr(pair, f.name)), 1) for f in dataclasses.fields(Gaussians))
    )
    merged = merge_gaussians(everything, 50)
    assert merged.means.shape[1] == 50 and merge_gaussians(everything, 51) is everything
    same = (merged.means[0][:, None] == parts.means[0][None, 1:]).all(-1)
    assert (same.sum(0) == 1).all()
    index = same.float().argmax(0)
    torch.testing.assert_close(merged.rotations[:, index], parts.rotations[:, 1:], rtol=0, atol=0)
    torch.testing.assert_close(merged.opacities[:, index], parts.opacities[:, 1:], rtol=0, atol=0)


@pytest.mark.parametrize("budget", [1, 3, 40, 199])
def test_the_budget_is_kept(budget: int) -> None:
    pose, _ = camera()
    assert 1 <= merge_gaussians(in_front_of(pose, 200, degree=0), budget).means.shape[1] <= budget


def psnr(picture: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * (picture - truth).square().mean().log10())


def walk(seed: int, views: int) -> Sample:
    scene, motions = build(seed)
    return film(scene, motions, make_cameras(scene, views, 56, 70, seed=seed, kind="handheld"), 56, 70, samples=2)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_quarter_of_the_gaussians_looks_like_all_of_them(seed: int) -> None:
    """Made from the exact depth of every other view of a walk, seen from the views in between."""
    sample = walk(seed, 8)
    made, seen = slice(0, None, 2), slice(1, None, 2)
    images = np.round(sample.rgb * 255).astype(np.uint8)
    gaussians = gaussians_from_depth(
        sample.depth[made], images[made], sample.intrinsics[made], sample.extrinsics[made], sigma=0.5
    )
    gaussians = select(gaussians, (gaussians.opacities[0] > 0).nonzero()[:, 0])
    few = merge_gaussians(gaussians, gaussians.means.shape[1] // 4)
    assert few.means.shape[1] <= gaussians.means.shape[1] / 4
    pose, k = (torch.from_numpy(v[seen])[None] for v in (sample.extrinsics, sample.intrinsics))
    solid = torch.from_numpy(~sample.sky[seen])
    truth = torch.from_numpy(sample.rgb[seen])[solid]
    full, merged = (render(g, pose, k, (56, 70)).colour[0].movedim(1, -1)[solid] for g in (gaussians, few))
    assert psnr(full, truth) > 20
    assert psnr(merged, truth) > psnr(full, truth) - 0.5
