"""Agreement of views at hypotheses of depth, in torch and in OpenCV."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from depth_anything_3.refine.plane_sweep import _run_sums, agreement, better_half, contrast, texture
from depth_anything_3.refine.plane_sweep_cpu import agreement_on_cpu

both_ways = pytest.mark.parametrize("agree", [agreement, agreement_on_cpu])
Agree = Callable[..., torch.Tensor]


def picture(seed: int, height: int = 20, width: int = 24) -> torch.Tensor:
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("length", range(1, 10))
def test_sums_of_runs(length: int) -> None:
    values = picture(0)[None]
    expected = values.unfold(2, length, 1).sum(-1)
    torch.testing.assert_close(_run_sums(values, length, 2), expected)


def test_contrast_is_that_of_the_windows() -> None:
    one = picture(1)
    flat = np.zeros((16, 20))
    for row, column in np.ndindex(16, 20):
        window = one[row : row + 5, column : column + 5].numpy().astype(np.float64)
        flat[row, column] = (window[2, 2] - window.mean()) / window.std()
    found = contrast(one[None], 2)[0]
    for row, column in ((4, 4), (9, 11), (15, 19)):
        energy = (flat[row - 4 : row + 1, column - 4 : column + 1] ** 2).mean()
        assert abs(float(found[row, column]) - flat[row - 2, column - 2] / np.sqrt(energy + 0.05)) < 2e-3


@both_ways
def test_brightness_and_contrast_do_not_matter_and_plain_areas_score_nothing(agree: Agree) -> None:
    still = torch.eye(3, 4)[None]

    def with_itself(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        pair = contrast(torch.stack([one, other]), 2)
        return agree(pair[0], torch.ones_like(one), torch.ones(1), pair[1:], still, radius=2)

    assert with_itself(picture(1), 0.5 * picture(1) + 0.2)[:, 2:-2, 2:-2].mean() > 0.9
    plain = 0.8 + 1e-3 * picture(3)
    assert with_itself(plain, plain).max() < 0.1


def test_texture() -> None:
    rough = texture(picture(1)[None], 1)
    assert rough.min() > 0.9
    assert rough.max() <= 1
    for grey in np.linspace(0, 1, 20):
        plain = texture(torch.full((1, 6, 7), grey, dtype=torch.float32), 1)
        assert (plain >= 0).all()
        assert (plain < 1e-3).all()


@pytest.mark.parametrize("count", range(1, 6))
def test_mean_of_the_better_half(count: int) -> None:
    values = [picture(i)[None] for i in range(count)]
    expected = torch.stack(values).sort(0, descending=True).values[: (count + 1) // 2].mean(0)
    torch.testing.assert_close(better_half(values, torch.maximum, torch.minimum), expected)


def sideways(shift: float, focal: float = 100.0) -> torch.Tensor:
    """Projection into a camera that is moved to the right, looking the same way: disparity is focal shift / depth."""
    return torch.tensor([[1, 0, 0, -focal * shift], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.float32)


@both_ways
def test_the_true_depth_agrees_best(agree: Agree) -> None:
    wide = torch.nn.functional.interpolate(picture(5, 20, 80)[None, None], scale_factor=2, mode="bicubic")
    wide = contrast(wide[0], 3)[0]
    view, right, left = wide[:, 20:120], wide[:, 26:126], wide[:, 14:114]  # disparities of 6 pixels
    surface = torch.full(view.shape, 2.0)
    factors = torch.tensor([0.5, 0.8, 1.0, 1.25, 2.0])
    projections = torch.stack([sideways(0.12), sideways(-0.12)])
    scores = agree(view, surface, factors, torch.stack([right, left]), projections, radius=3)
    inner = scores[:, 5:-5, 10:-10]
    assert (inner.argmax(0) == 2).float().mean() > 0.99
    assert inner[2].mean() > 0.95
    # A tenth of the columns is outside of one of the two sources; the other one speaks for them.
    assert scores[2, 5:-5].mean() > 0.95


@both_ways
def test_nothing_agrees_outside_and_behind(agree: Agree) -> None:
    view = contrast(picture(5)[None], 2)[0]
    surface, factors = torch.full(view.shape, 2.0), torch.ones(1)
    far_off = agree(view, surface, factors, view[None], sideways(10.0)[None], radius=2)
    assert (far_off == 0).all()
    # Upside down and 4 ahead of the view: what is 2 away lies behind it, at the pixel where the view has it.
    behind = torch.tensor([[-1.0, 0, 0, 0.1], [0, -1, 0, 0.1], [0, 0, 1, -4]])
    assert (agree(view, surface, factors, view[None], behind[None], radius=2) == 0).all()


def test_opencv_says_what_torch_says() -> None:
    rng = np.random.default_rng(0)
    pictures = contrast(torch.stack([picture(i, 50, 70) for i in range(4)]), 2)
    surface = torch.from_numpy(rng.uniform(1.0, 4.0, (50, 70)).astype(np.float32))
    projections = torch.eye(3, 4).repeat(3, 1, 1) + torch.from_numpy(rng.normal(0, 0.02, (3, 3, 4)).astype(np.float32))
    projections[:, :2, 3] *= 300
    projections[:, 2, :2] *= 0.02
    factors = torch.linspace(0.8, 1.25, 5)
    given = (pictures[0], surface, factors, pictures[1:], projections)
    one, other = (agree(*given, radius=2) for agree in (agreement, agreement_on_cpu))
    assert one.std() > 0.05
    # OpenCV before version 5 looks pictures up at 32nds of a pixel.
    assert (one - other).abs().mean() < 5e-3
    assert (one - other).abs().max() < 0.1
