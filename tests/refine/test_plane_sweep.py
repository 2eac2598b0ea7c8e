"""Agreement of views at hypotheses of depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.refine.plane_sweep import Windows, _better_half, _run_sums, agreement


def picture(seed: int, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", range(1, 10))
def test_sums_of_runs(length: int) -> None:
    values = picture(0)[None]
    expected = values.unfold(2, length, 1).sum(-1)
    torch.testing.assert_close(_run_sums(values, length, 2), expected)


def test_correlation_is_that_of_the_windows() -> None:
    one, other = picture(1) - 0.5, picture(2) - 0.5
    found = Windows(one, 2).correlation(other[None])[0]
    for row, column in ((2, 2), (9, 11), (17, 21)):
        a, b = (p[row - 2 : row + 3, column - 2 : column + 3].numpy().ravel() for p in (one, other))
        assert abs(float(found[row, column]) - np.corrcoef(a, b)[0, 1]) < 2e-3


def test_brightness_and_contrast_do_not_matter_and_plain_areas_score_nothing() -> None:
    one = picture(1) - 0.5
    assert Windows(one, 2).correlation(0.5 * one[None] + 0.2).min() > 0.99
    plain = torch.full_like(one, 0.3) + 1e-3 * picture(3)
    assert Windows(plain, 2).correlation(plain[None]).max() < 0.1


def test_texture() -> None:
    rough = Windows(picture(1) - 0.5, 1).texture
    assert rough.min() > 0.9
    assert rough.max() <= 1
    for grey in np.linspace(-0.5, 0.5, 20):
        plain = Windows(torch.full((6, 7), grey, dtype=torch.float32), 1).texture
        assert (plain >= 0).all()
        assert (plain < 1e-3).all()


@pytest.mark.parametrize("count", range(1, 6))
def test_mean_of_the_better_half(count: int) -> None:
    values = [picture(i)[None] for i in range(count)]
    expected = torch.stack(values).sort(0, descending=True).values[: (count + 1) // 2].mean(0)
    torch.testing.assert_close(_better_half(values), expected)


def sideways(shift: float, focal: float = 100.0) -> torch.Tensor:
    """Projection into a camera that is moved to the right, looking the same way: disparity is focal shift / depth."""
    return torch.tensor([[1, 0, 0, -focal * shift], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.float32)


def test_the_true_depth_agrees_best() -> None:
    wide = torch.nn.functional.interpolate(picture(5, 10, 40)[None, None], scale_factor=4, mode="bicubic")[0, 0]
    view, right, left = wide[:, 20:120], wide[:, 26:126], wide[:, 14:114]  # disparities of 6 pixels
    surface = torch.full(view.shape, 2.0)
    factors = torch.tensor([0.5, 0.8, 1.0, 1.25, 2.0])
    projections = torch.stack([sideways(0.12), sideways(-0.12)])
    scores = agreement(view, surface, factors, torch.stack([right, left]), projections, radius=3)
    inner = scores[:, 5:-5, 10:-10]
    assert (inner.argmax(0) == 2).float().mean() > 0.99
    assert inner[2].min() > 0.97
    # A tenth of the columns is outside of one of the two sources; the other one speaks for them.
    assert scores[2, 5:-5].min() > 0.9


def test_nothing_agrees_outside_and_behind() -> None:
    view = picture(5)
    surface, factors = torch.full(view.shape, 2.0), torch.ones(1)
    far_off = agreement(view, surface, factors, view[None], sideways(10.0)[None], radius=2)
    assert (far_off == 0).all()
    # Upside down and 4 ahead of the view: what is 2 away lies behind it, at the pixel where the view has it.
    behind = torch.tensor([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, -4]])
    assert (agreement(view, surface, factors, view[None], behind[None], radius=2) == 0).all()
