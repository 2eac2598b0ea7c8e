"""Textures are pure functions with values in range, and they have something to show."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from depth_anything_3.synth.draft import Draft, Look
from depth_anything_3.synth.textures import TEXTURES, colours_at, fbm, noise, texture_index


def grid(side: int = 64, period: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    v, u = torch.meshgrid(*(torch.arange(side) * period - 2.13,) * 2, indexing="ij")
    return u.flatten(), v.flatten()


@pytest.mark.parametrize("name", TEXTURES)
def test_range_and_contrast(name: str) -> None:
    u, v = grid()
    aspect, blur = torch.full_like(u, 1.5), torch.full_like(u, 0.02)
    weight, brightness = TEXTURES[name](u, v, aspect, blur)
    again, _ = TEXTURES[name](u, v, aspect, blur)
    assert torch.equal(weight, again)
    assert weight.min() >= 0
    assert weight.max() <= 1
    assert brightness.min() >= 0
    assert brightness.max() <= 3
    if name != "plain":
        assert max(weight.std(), brightness.std()) > 0.08


@pytest.mark.parametrize("function", [noise, fbm])
def test_noise_is_smooth_and_spread(function: object) -> None:
    u, v = grid(200, 0.037)
    value = function(u, v)  # type: ignore[operator]
    assert value.min() >= 0
    assert value.max() <= 1
    assert value.std() > 0.1
    near = function(u + 1e-3, v)  # type: ignore[operator]
    assert (value - near).abs().max() < 0.02


def colours(look: Look, footprint: float) -> torch.Tensor:
    materials = Draft(np.random.default_rng(3)).materials(look, look)
    u, v = grid()
    owner = torch.zeros(len(u), dtype=torch.int64)
    return torch.stack(colours_at(materials, owner, (u, v), torch.full_like(u, footprint)))


def test_far_patterns_fade_into_their_mean() -> None:
    look = Look("checker", (0.9, 0.1, 0.1), (0.1, 0.1, 0.9), period=0.5, dirt=0.0)
    assert colours(look, 0.005)[0].std() > 0.25
    assert colours(look, 1.0)[0].std() < 1e-6


def test_palette_and_row_by_object() -> None:
    draft = Draft(np.random.default_rng(3))
    materials = draft.materials(Look("plain", (0.2, 0.4, 0.6), dirt=0.0), Look("plain", (0.9, 0.1, 0.0), dirt=0.0))
    owner = torch.tensor([0, 1, 0])
    red, green, blue = colours_at(materials, owner, (torch.zeros(3), torch.zeros(3)), torch.full((3,), 0.01))
    assert red.tolist() == pytest.approx([0.2, 0.9, 0.2])
    assert green.tolist() == pytest.approx([0.4, 0.1, 0.4])
    assert blue.tolist() == pytest.approx([0.6, 0.0, 0.6])
    assert dataclasses.is_dataclass(materials)


def test_index_of_every_name() -> None:
    assert [texture_index(name) for name in TEXTURES] == list(range(len(TEXTURES)))
