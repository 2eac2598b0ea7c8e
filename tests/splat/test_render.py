"""The torch rasteriser against formulas, against its slow twin, against finite differences, and under its laws."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from support.gaussian_sets import SIZE, camera, in_front_of
from support.poses import rotation
from support.splat_twin import render_slowly
from torch import Tensor

from depth_anything_3.errors import InputError, UnknownNameError
from depth_anything_3.geometry.gaussians import follow_views
from depth_anything_3.geometry.harmonics import C0
from depth_anything_3.splat import tiles, torch_rasteriser
from depth_anything_3.splat.base import RASTERISERS, Rendering, render
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians

FIELDS = [field.name for field in dataclasses.fields(Gaussians)]


def changed(gaussians: Gaussians, change: Any) -> Gaussians:
    return Gaussians(**{name: change(getattr(gaussians, name)) for name in FIELDS})


def ball(z: float, *, x: float = 0.0, sigma: float = 0.1, opacity: float = 0.8, grey: float = 1.0) -> Gaussians:
    """A round Gaussian on the axis of a camera at the origin."""
    values = ([x, 0.0, z], [sigma] * 3, [1.0, 0, 0, 0], [[(grey - 0.5) / C0]] * 3, opacity)
    return Gaussians(*(torch.tensor(value, dtype=torch.float64)[None, None] for value in values))


def both(*parts: Gaussians) -> Gaussians:
    return Gaussians(**{name: torch.cat([getattr(p, name) for p in parts], 1) for name in FIELDS})


def at_origin(cx: float = 20.5, cy: float = 15.5, focal: float = 50.0) -> tuple[Tensor, Tensor]:
    k = torch.tensor([[focal, 0, cx], [0, focal, cy], [0, 0, 1]], dtype=torch.float64)
    return torch.eye(3, 4, dtype=torch.float64)[None, None], k[None, None]


def assert_same(one: Rendering, other: Rendering, atol: float) -> None:
    for field in dataclasses.fields(Rendering):
        a, b = getattr(one, field.name), getattr(other, field.name)
        torch.testing.assert_close(a, b, rtol=0, atol=atol, msg=lambda m, name=field.name: f"{name}: {m}")


@pytest.mark.parametrize("dilation", [0.0, 0.3, 2.0])
def test_one_ball_is_the_bell_that_the_formula_gives(dilation: float) -> None:
    """On the axis the projection is exact to first order: variance (f sigma / z)^2 + dilation in pixels."""
    pose, k = at_origin()
    out = render(ball(2.0), pose, k, (30, 40), options=RenderOptions(dilation=dilation, background=(0.2, 0.4, 0.6)))
    y, x = np.mgrid[:30, :40] + 0.5
    variance = (50 * 0.1 / 2) ** 2 + dilation
    alpha = 0.8 * np.exp(-((x - 20.5) ** 2 + (y - 15.5) ** 2) / (2 * variance))
    alpha[alpha <= 1 / 255] = 0
    assert out.colour.shape == (1, 1, 3, 30, 40) and (alpha > 0).sum() > 100
    np.testing.assert_allclose(out.alpha[0, 0], alpha, atol=1e-12)
    np.testing.assert_allclose(out.depth[0, 0], np.where(alpha > 0, 2.0, 0), atol=1e-9)
    for channel, behind in enumerate((0.2, 0.4, 0.6)):
        np.testing.assert_allclose(out.colour[0, 0, channel], alpha + (1 - alpha) * behind, atol=1e-9)


def test_two_balls_are_blended_from_the_front() -> None:
    pose, k = at_origin()
    near, far = ball(2.0, opacity=0.6, grey=0.9), ball(3.0, opacity=0.5, sigma=0.3, grey=0.25)
    out = render(both(far, near), pose, k, (30, 40))
    a, b = (render(g, pose, k, (30, 40)).alpha for g in (near, far))
    torch.testing.assert_close(out.alpha, a + (1 - a) * b)
    torch.testing.assert_close(out.colour[:, :, 0], 0.9 * a + 0.25 * (1 - a) * b, rtol=0, atol=1e-9)
    depth = (2 * a + 3 * (1 - a) * b) / out.alpha
    torch.testing.assert_close(out.depth, depth.nan_to_num(0), rtol=0, atol=1e-9)
    assert out.alpha[0, 0, 15, 20] == pytest.approx(0.6 + 0.4 * 0.5)


def test_an_opaque_gaussian_lets_a_thousandth_through() -> None:
    pose, k = at_origin()
    assert render(ball(2.0, opacity=1.0), pose, k, (30, 40)).alpha.max().item() == pytest.approx(0.999)


@pytest.mark.parametrize(("seed", "degree"), [(0, 0), (1, 1), (2, 2), (3, 3)])
def test_the_slow_twin_agrees(seed: int, degree: int) -> None:
    pose, k = camera(seed)
    gaussians = in_front_of(pose, 80, degree=degree, seed=seed)
    options = RenderOptions(background=(0.1, 0.5, 0.9), near=0.8)
    out = render(gaussians, pose, k, SIZE, options=options)
    colour, depth, alpha = render_slowly(gaussians, pose[0, 0].numpy(), k[0, 0].numpy(), SIZE, options)
    # What the torch rasteriser leaves out is behind a transmittance of 1e-4.
    np.testing.assert_allclose(out.alpha[0, 0], alpha, atol=1.1e-4)
    np.testing.assert_allclose(out.colour[0, 0].movedim(0, -1), colour, atol=2e-4)
    np.testing.assert_allclose(out.depth[0, 0], depth, atol=5e-4)
    single = render(changed(gaussians, Tensor.float), pose, k, SIZE, options=options)
    assert single.colour.dtype == torch.float32
    np.testing.assert_allclose(single.colour[0, 0].movedim(0, -1), colour, atol=3e-4)


def test_thin_ellipses_are_as_exact_in_single_precision() -> None:
    """Long and thin, across the grain of the pixels: where differences of products have no digit left."""
    pose, k = at_origin(focal=500.0)
    values = ([0.01, 0, 1.0], [0.3, 1e-5, 1e-5], [math.cos(0.4), 0, 0, math.sin(0.4)], [[1.0]] * 3, 0.9)
    thin = Gaussians(*(torch.tensor(value, dtype=torch.float64)[None, None] for value in values))
    options = RenderOptions(dilation=0.01)
    exact = render(thin, pose, k, (32, 40), options=options)
    assert exact.alpha.max() > 0.5
    single = render(changed(thin, Tensor.float), pose, k, (32, 40), options=options)
    torch.testing.assert_close(single.alpha.double(), exact.alpha, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", FIELDS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    pose, k = camera(5, focal=12.0)
    k[..., :2, 2] = torch.tensor([5.5, 5.0])
    gaussians = in_front_of(pose, 6, degree=3, size=0.2, seed=11)

    mix = torch.randn(4, 5 * 9 * 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def features(value: Tensor) -> Tensor:
        """A few mixtures of everything that is drawn."""
        out = render(dataclasses.replace(gaussians, **{name: value}), pose, k, (9, 12))
        return mix @ torch.cat((out.colour.flatten(), out.depth.flatten(), out.alpha.flatten()))

    value = getattr(gaussians, name).clone().requires_grad_()
    assert torch.autograd.grad(features(value).sum(), value)[0].abs().max() > 1e-3
    assert torch.autograd.gradcheck(features, (value,), eps=1e-7, atol=1e-4, rtol=1e-4, fast_mode=name == "harmonics")


def test_recomputing_chunks_changes_neither_picture_nor_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    pose, k = camera(2)
    gaussians = in_front_of(pose, 80, size=0.15, seed=2)
    with torch.no_grad():
        fast = render(gaussians, pose, k, SIZE)
    gradients = []
    for keep in (False, True):
        if keep:
            monkeypatch.setattr(torch_rasteriser, "checkpoint", lambda f, *a, use_reentrant: f(*a))
        values = changed(gaussians, lambda t: t.clone().requires_grad_())
        out = render(values, pose, k, SIZE)
        assert_same(fast, out, 1e-12)
        gradients.append(torch.autograd.grad(out.colour.square().sum(), [getattr(values, n) for n in FIELDS]))
    for a, b in zip(*gradients, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(a, b)


def test_the_order_of_the_gaussians_does_not_matter() -> None:
    pose, k = camera(1)
    gaussians = in_front_of(pose, 100, seed=1)
    mixed = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert_same(
        render(gaussians, pose, k, SIZE), render(changed(gaussians, lambda t: t[:, mixed]), pose, k, SIZE), 1e-9
    )


def test_moving_the_world_with_the_camera_changes_nothing() -> None:
    pose, k = camera(1)
    gaussians = in_front_of(pose, 100, degree=3, seed=1)
    turn, shift = torch.from_numpy(rotation([1.0, -2, 0.5], 130)), torch.tensor([0.3, -5, 2], dtype=torch.float64)
    moved = pose.clone()
    moved[..., :3] = pose[..., :3] @ turn.T
    moved[..., 3] -= (moved[..., :3] @ shift[:, None])[..., 0]
    there = follow_views(gaussians, (pose[0], k[0]), (moved[0], k[0]), torch.ones(1, 10, 10))
    assert_same(render(gaussians, pose, k, SIZE), render(there, moved, k, SIZE), 1e-9)


def test_a_window_of_a_picture_is_the_picture_with_the_principal_point_moved() -> None:
    pose, k = camera(1)
    gaussians = in_front_of(pose, 60, size=0.03, seed=4)
    window = k.clone()
    window[..., :2, 2] -= torch.tensor([13.0, 5.0])
    whole, part = render(gaussians, pose, k, SIZE), render(gaussians, pose, window, (20, 30))
    # Those far outside of the window are projected a little differently, at its own enlarged border.
    error = (whole.colour[..., 5:25, 13:43] - part.colour).abs()
    assert error.median() < 1e-9 and error.max() < 0.1


def test_scenes_and_views_are_independent() -> None:
    poses = [camera(seed)[0] for seed in (0, 1)]
    k = camera()[1]
    sets = [in_front_of(pose, 30, seed=seed) for seed, pose in enumerate(poses)]
    batch = Gaussians(**{name: torch.cat([getattr(g, name) for g in sets]) for name in FIELDS})
    extrinsics = torch.cat([torch.cat(poses, 1)] * 2)
    out = render(batch, extrinsics, k.expand(2, 2, 3, 3), SIZE)
    for scene in range(2):
        for view in range(2):
            one = render(sets[scene], poses[view], k, SIZE)
            torch.testing.assert_close(out.colour[scene, view], one.colour[0, 0])
    assert (out.colour[0, 0] != out.colour[0, 1]).any()


def test_bands_of_tiles_give_the_same_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    pose, k = camera(3)
    gaussians = in_front_of(pose, 120, size=0.2, seed=3)
    whole, bands = render(gaussians, pose, k, SIZE), []

    def in_bands(box: Tensor, size: tuple[int, int]) -> Any:
        bands.extend(tiles.tile_bands(box, size, max_pairs=200))
        return bands

    monkeypatch.setattr(torch_rasteriser, "tile_bands", in_bands)
    assert_same(whole, render(gaussians, pose, k, SIZE), 1e-12)
    assert len(bands) > 2 and sum(band.rows for band in bands) == 5
    assert all(len(band.members) <= 200 or band.rows == 1 for band in bands)


def test_what_cannot_be_drawn_is_left_out() -> None:
    pose, k = at_origin()
    good = ball(2.0)
    for name, value in (("means", math.nan), ("scales", -0.1), ("scales", math.inf), ("opacities", 1e-3)):
        bad = dataclasses.replace(good, **{name: torch.full_like(getattr(good, name), value)})
        assert_same(render(good, pose, k, (30, 40)), render(both(good, bad), pose, k, (30, 40)), 0)
    behind, close = ball(-2.0), ball(0.5)
    options = RenderOptions(near=1.0)
    out = render(both(good, behind, close), pose, k, (30, 40), options=options)
    assert_same(render(good, pose, k, (30, 40)), out, 0)


def test_nothing_to_draw_gives_the_background() -> None:
    pose, k = at_origin()
    empty = changed(ball(2.0), lambda t: t[:, :0])
    for gaussians in (empty, ball(-1.0)):
        out = render(gaussians, pose, k, (10, 12), options=RenderOptions(background=(1.0, 0.5, 0.0)))
        assert (out.alpha == 0).all() and (out.depth == 0).all()
        assert out.colour[0, 0, :, 3, 4].tolist() == [1.0, 0.5, 0.0]
        learnt = changed(gaussians, lambda t: t.clone().requires_grad_())
        render(learnt, pose, k, (10, 12)).colour.sum().backward()
        assert learnt.means.grad is not None and not learnt.means.grad.any()
    assert render(ball(2.0), pose[:, :0], k[:, :0], (10, 12)).colour.shape == (1, 0, 3, 10, 12)


def test_colours_are_never_below_zero_but_may_be_above_one() -> None:
    pose, k = at_origin()
    assert render(ball(2.0, grey=-3.0), pose, k, (30, 40)).colour.min() == 0
    assert render(ball(2.0, grey=3.0), pose, k, (30, 40)).colour.max() > 2


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extrinsics": torch.eye(4)[None, None]}, r"^extrinsics: got shape \(1, 1, 4, 4\).*\(1, N, 3, 4\)"),
        ({"intrinsics": torch.eye(3)[None]}, r"^intrinsics: got shape \(1, 3, 3\); expected shape \(1, 1, 3, 3\)"),
        ({"size": (0, 10)}, r"^size: got \(0, 10\)"),
        ({"gaussians": dataclasses.replace(ball(1.0), scales=torch.ones(1, 2, 3))}, r"^gaussians\.scales: got shape"),
        ({"gaussians": dataclasses.replace(ball(1.0), harmonics=torch.ones(1, 1, 3, 5))}, r"^gaussians\.harmonics"),
        ({"gaussians": dataclasses.replace(ball(1.0), means=torch.ones(1, 3))}, r"^gaussians\.means"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    pose, k = at_origin()
    arguments = {"gaussians": ball(1.0), "extrinsics": pose, "intrinsics": k, "size": (10, 10), **change}
    with pytest.raises(InputError, match=message):
        render(**arguments)


def test_wrong_options_are_named() -> None:
    for name, value in (("near", 0.0), ("dilation", -1.0), ("background", (0.0, math.nan, 0.0))):
        with pytest.raises(InputError, match=f"^{name}: got"):
            RenderOptions(**{name: value})
    pose, k = at_origin()
    with pytest.raises(UnknownNameError, match=r"^rasteriser: got 'vulkan'.*gsplat, torch"):
        render(ball(1.0), pose, k, (10, 10), rasteriser="vulkan")
    assert RASTERISERS.names() == ["gsplat", "torch"]
