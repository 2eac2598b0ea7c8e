"""The height field against a slow twin that solves every patch in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.synth.shapes import Terrain, Vector
from depth_anything_3.synth.terrain import height_at, hit_terrain, steepest, terrain_normal


def hills(rough: float) -> Terrain:
    generator = torch.Generator().manual_seed(1)
    return Terrain(heights=torch.rand(7, 9, generator=generator) * rough, corner=torch.tensor([-4.0, -3.0]), cell=1.0)


def slow_hit(terrain: Terrain, origin: np.ndarray, direction: np.ndarray) -> float:
    """The smallest root over all patches."""
    best = np.inf
    h = terrain.heights.double().numpy()
    for i in range(h.shape[0] - 1):
        for j in range(h.shape[1] - 1):
            u, v = (origin[0] + 4 - j, direction[0]), (origin[1] + 3 - i, direction[1])
            a, b, c = h[i, j], h[i, j + 1] - h[i, j], h[i + 1, j] - h[i, j]
            d = h[i + 1, j + 1] - h[i, j + 1] - c
            constant = a + b * u[0] + c * v[0] + d * u[0] * v[0] - origin[2]
            linear = b * u[1] + c * v[1] + d * (u[0] * v[1] + u[1] * v[0]) - direction[2]
            for t in np.roots([d * u[1] * v[1], linear, constant]):
                inside = all(-1e-9 <= p + t.real * q <= 1 + 1e-9 for p, q in (u, v))
                if abs(t.imag) < 1e-12 and t.real > 1e-4 and inside:
                    best = min(best, t.real)
    return best


def split(points: torch.Tensor) -> Vector:
    x, y, z = points.unbind(1)
    return x, y, z


@pytest.mark.parametrize("rough", [0.4, 2.0])
def test_hits_equal_the_slow_twin(rough: float) -> None:
    terrain, generator = hills(rough), torch.Generator().manual_seed(2)
    count = 150
    origins = (torch.rand(count, 3, generator=generator) - 0.5) * torch.tensor([8.0, 6.0, 2.0])
    origins[:, 2] += rough + 1.1
    directions = torch.randn(count, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.6]) - torch.tensor([0, 0, 0.6])
    found = hit_terrain(terrain, split(origins), split(directions), torch.full((count,), torch.inf)).double().numpy()
    slow = np.array(
        [slow_hit(terrain, o, d) for o, d in zip(origins.double().numpy(), directions.double().numpy(), strict=True)]
    )
    assert 0.2 < np.isfinite(slow).mean() < 0.9
    assert (np.isfinite(found) == np.isfinite(slow)).all()
    met = np.isfinite(slow)
    np.testing.assert_allclose(found[met], slow[met], rtol=2e-4)
    assert np.median(np.abs(found[met] / slow[met] - 1)) < 1e-6


def test_limit_leaves_rays_out() -> None:
    terrain = hills(0.4)
    origin, direction = torch.tensor([[0.0, 0.0, 3.0]] * 2), torch.tensor([[0.0, 0.0, -1.0]] * 2)
    hit = hit_terrain(terrain, split(origin), split(direction), torch.tensor([1.0, 10.0]))
    assert hit[0] == torch.inf
    assert float(hit[1]) == pytest.approx(3 - float(height_at(terrain, torch.zeros(1), torch.zeros(1))), rel=1e-6)


def test_heights_at_the_grid_points_and_between() -> None:
    terrain = hills(1.0)
    assert float(height_at(terrain, torch.tensor([-3.0]), torch.tensor([-1.0]))) == pytest.approx(
        float(terrain.heights[2, 1])
    )
    between = float(height_at(terrain, torch.tensor([-2.5]), torch.tensor([-1.0])))
    assert between == pytest.approx(float(terrain.heights[2, 1:3].mean()))


def test_normals_and_steepest() -> None:
    heights = torch.arange(5.0)[None].repeat(4, 1) * 0.5
    slope = Terrain(heights=heights, corner=torch.zeros(2), cell=1.0)
    assert steepest(slope) == pytest.approx(0.5)
    normal = torch.stack(terrain_normal(slope, torch.tensor([1.3]), torch.tensor([0.7])))[:, 0]
    torch.testing.assert_close(normal, torch.tensor([-0.5, 0.0, 1.0]) / 1.25**0.5)
