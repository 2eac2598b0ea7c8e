"""How far apart the principal points of a rectified pair are."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.refine.rectified import disparity_offset


@pytest.mark.parametrize("offset", [-3.0, 8.0, 31.0])
def test_a_rough_depth_map_tells_the_offset(offset: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(1.5, 8.0, 600)
    disparity = 190.0 / truth - offset + rng.normal(scale=0.2, size=600)
    rough = 0.3 * truth * np.exp(0.1 * rng.normal(size=600))
    rough[:60] *= rng.uniform(0.3, 3, 60)
    assert disparity_offset(disparity, rough) == pytest.approx(offset, abs=3 + 0.1 * abs(offset))


def test_depth_that_says_nothing_moves_nothing() -> None:
    rng = np.random.default_rng(1)
    disparity = rng.uniform(10, 60, 500)
    assert disparity_offset(disparity, rng.uniform(1, 9, 500)) == 0.0
    assert disparity_offset(disparity, np.full(500, np.nan)) == 0.0
    assert disparity_offset(disparity[:10], 1 / disparity[:10]) == 0.0


def test_a_pair_without_an_offset_keeps_it() -> None:
    disparity = np.random.default_rng(2).uniform(10, 60, 500)
    assert disparity_offset(disparity, 100 / disparity) == 0.0
