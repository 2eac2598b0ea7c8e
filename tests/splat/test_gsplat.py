"""What is handed to gsplat and what is made of its answer; on a GPU, that both rasterisers draw the same."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.gaussian_sets import SIZE, camera, in_front_of

from depth_anything_3.errors import MissingExtraError
from depth_anything_3.splat import base
from depth_anything_3.splat.base import render
from depth_anything_3.splat.options import RenderOptions
from depth_anything_3.types.gaussians import Gaussians


def test_gsplat_is_called_with_its_own_conventions(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def rasterization(**arguments: Any) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
        calls.append(arguments)
        shape = (len(arguments["viewmats"]), arguments["height"], arguments["width"])
        picture = torch.zeros(*shape, 4)
        picture[..., 0], picture[..., 3] = 0.3, 7.0
        return picture, torch.full((*shape, 1), 0.75), {}

    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))
    pose, k = (value.float() for value in camera())
    gaussians = in_front_of(camera()[0], 10, degree=2)
    gaussians.scales[0, 3] = -1
    options = RenderOptions(background=(0.4, 0.0, 0.8), near=0.5, dilation=0.1)
    extrinsics, intrinsics = pose.expand(1, 2, 3, 4), k.expand(1, 2, 3, 3)
    out = render(gaussians, extrinsics, intrinsics, SIZE, options=options, rasteriser="gsplat")
    (call,) = calls
    assert call["viewmats"].shape == (2, 4, 4) and call["viewmats"][0, 3].tolist() == [0, 0, 0, 1]
    assert call["colors"].shape == (9, 9, 3) and call["sh_degree"] == 2
    torch.testing.assert_close(call["colors"][0], gaussians.harmonics[0, 0].T)
    assert (call["width"], call["height"], call["near_plane"], call["eps2d"]) == (SIZE[1], SIZE[0], 0.5, 0.1)
    assert out.colour.shape == (1, 2, 3, *SIZE)
    assert out.colour[0, 1, :, 0, 0].tolist() == pytest.approx([0.3 + 0.25 * 0.4, 0.0, 0.25 * 0.8])
    assert out.depth[0, 0, 0, 0] == 7.0 and out.alpha[0, 0, 0, 0] == 0.75


@pytest.mark.peers
def test_the_arguments_exist_in_the_installed_release(monkeypatch: pytest.MonkeyPatch) -> None:
    gsplat = pytest.importorskip("gsplat")
    known = inspect.signature(gsplat.rasterization).parameters
    wanted = (
        "means quats scales opacities colors viewmats Ks width height near_plane eps2d sh_degree packed render_mode"
    )
    assert set(wanted.split()) <= set(known)


def test_asking_for_what_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    pose, k = camera()
    with pytest.raises(MissingExtraError, match=r"depth-anything-3\[gs\]"):
        render(in_front_of(pose, 3), pose, k, SIZE, rasteriser="gsplat")


@pytest.mark.parametrize(
    ("cuda", "dtype", "installed", "name"),
    [
        (True, torch.float32, True, "gsplat"),
        (True, torch.float32, False, "torch"),
        (True, torch.float64, True, "torch"),
        (False, torch.float32, True, "torch"),
    ],
)
def test_gsplat_is_taken_where_it_can_run(
    cuda: bool, dtype: torch.dtype, installed: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: object() if installed else None)
    means: Any = SimpleNamespace(is_cuda=cuda, dtype=dtype)
    assert base._best_rasteriser(Gaussians(means, means, means, means, means)) == name


@pytest.mark.gpu
def test_both_rasterisers_draw_the_same() -> None:
    pytest.importorskip("gsplat")
    pose, k = (value.float().cuda() for value in camera())
    k[..., 0, 1] = 0
    gaussians = in_front_of(camera()[0], 500, degree=3)
    values = {f.name: getattr(gaussians, f.name).float().cuda() for f in dataclasses.fields(Gaussians)}
    pictures, gradients = [], []
    for name in ("torch", "gsplat"):
        leaves = {n: v.clone().requires_grad_() for n, v in values.items()}
        out = render(Gaussians(**leaves), pose, k, SIZE, rasteriser=name)
        pictures.append(out)
        gradients.append(torch.autograd.grad(out.colour.square().sum(), list(leaves.values())))
    for field in ("colour", "depth", "alpha"):
        error = (getattr(pictures[0], field) - getattr(pictures[1], field)).abs()
        assert error.mean() < 1e-4 and error.max() < 2e-2, field
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() < 0.01 * b.norm()


@pytest.mark.gpu
def test_the_torch_rasteriser_draws_the_same_on_a_gpu() -> None:
    pose, k = (value.float() for value in camera())
    gaussians = in_front_of(camera()[0], 500, degree=3)
    values = {f.name: getattr(gaussians, f.name).float() for f in dataclasses.fields(Gaussians)}
    here = render(Gaussians(**values), pose, k, SIZE, rasteriser="torch")
    there = render(Gaussians(**{n: v.cuda() for n, v in values.items()}), pose, k, SIZE, rasteriser="torch")
    torch.testing.assert_close(there.colour.cpu(), here.colour, rtol=0, atol=1e-4)
