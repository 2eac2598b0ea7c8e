"""Semi-global matching against its definition."""

from __future__ import annotations

import numpy as np
import torch

from depth_anything_3.refine.semi_global import smooth_costs


def along(costs: np.ndarray, large: np.ndarray, small: float) -> np.ndarray:
    """One path over (steps, D), as the formula says it."""
    path = np.zeros_like(costs)
    path[0] = costs[0]
    for i in range(1, len(costs)):
        before = path[i - 1]
        for d in range(costs.shape[1]):
            ways = [before[d], before.min() + large[i]]
            ways += [before[k] + small for k in (d - 1, d + 1) if 0 <= k < costs.shape[1]]
            path[i, d] = costs[i, d] + min(ways) - before.min()
    return path


def test_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    costs, large = rng.uniform(0, 2, (2, 5, 6, 7)), rng.uniform(0.2, 0.9, (2, 6, 7))
    expected = np.zeros_like(costs)
    for v in range(2):
        for x in range(7):
            down, edge = costs[v, :, :, x].T, large[v, :, x]
            expected[v, :, :, x] += (along(down, edge, 0.1) + along(down[::-1], edge[::-1], 0.1)[::-1]).T
        for y in range(6):
            right, edge = costs[v, :, y].T, large[v, y]
            expected[v, :, y] += (along(right, edge, 0.1) + along(right[::-1], edge[::-1], 0.1)[::-1]).T
    found = smooth_costs(torch.tensor(costs), torch.tensor(large), small=0.1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_pixel_that_knows_nothing_follows_its_neighbours() -> None:
    costs = torch.ones(1, 5, 9, 9)
    costs[:, 3] = 0
    costs[0, :, 4, 4] = 1
    costs[0, 0, 4, 4] = 0.9
    assert (smooth_costs(costs, torch.full((1, 9, 9), 0.5), small=0.1).argmin(1) == 3).all()
