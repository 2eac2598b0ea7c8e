"""Rays against a height field of bilinear patches.

A ray that is F above the field can go F / c further without meeting it, where c bounds how fast the gap can close: the
steepest slope of the field times the horizontal part of the direction, minus its vertical part. Steps of that length
never jump over a hill; Newton's method then finishes inside the last patch. Rays that climb faster than the steepest
slope are done before the first step, which is most shadow rays.
"""

from __future__ import annotations

import torch
from torch import Tensor

from depth_anything_3.synth.shapes import Terrain, Vector

_MOST_STEPS = 512
_NEWTON_STEPS = 3
_GAP = 2e-4  # of the distance; within it Newton's method takes over


def steepest(terrain: Terrain) -> float:
    """The largest slope anywhere on the field (rise over run); a bilinear patch is steepest at a corner."""
    h = terrain.heights
    across, along = (h[:, 1:] - h[:, :-1]).abs() / terrain.cell, (h[1:] - h[:-1]).abs() / terrain.cell
    across, along = torch.maximum(across[1:], across[:-1]), torch.maximum(along[:, 1:], along[:, :-1])
    return float(torch.hypot(across, along).max())


def height_at(terrain: Terrain, x: Tensor, y: Tensor) -> Tensor:
    """Height of the field at points of the plane; outside it, that of the nearest border point."""
    return _patch(_coefficients(terrain), terrain, x, y)[0]


def terrain_normal(terrain: Terrain, x: Tensor, y: Tensor) -> Vector:
    """Upward unit normals of the field."""
    _, slope_x, slope_y = _patch(_coefficients(terrain), terrain, x, y)
    inverse = torch.rsqrt(slope_x * slope_x + slope_y * slope_y + 1)
    return -slope_x * inverse, -slope_y * inverse, inverse


def hit_terrain(terrain: Terrain, origin: Vector, direction: Vector, limit: Tensor) -> Tensor:
    """Ray parameter of the first hit before ``limit``, or inf.

    Args:
        terrain: the height field.
        origin: metres; components broadcast with those of the direction and with ``limit``.
        direction: any length.
        limit: ray parameter beyond which nothing matters; 0 leaves a ray out.
    """
    result = torch.full_like(limit, torch.inf)
    start, stop = _span(terrain, origin, direction, limit)
    slope = steepest(terrain)
    closing = slope * torch.hypot(direction[0], direction[1]) - direction[2]
    going = ((start < stop) & (closing > 0)).flatten().nonzero()[:, 0]
    if going.numel():
        rays = [v.expand_as(limit).flatten().index_select(0, going) for v in (*origin, *direction)]
        values = (start.expand_as(limit).flatten()[going], stop.expand_as(limit).flatten()[going])
        closing = closing.expand_as(limit).flatten()[going]
        result.view(-1)[going] = _march(terrain, rays, *values, closing)
    return result


def _span(terrain: Terrain, origin: Vector, direction: Vector, limit: Tensor) -> tuple[Tensor, Tensor]:
    """Parameters between which a ray is over the rectangle and between the lowest and the highest point."""
    h = terrain.heights
    low = [*terrain.corner.tolist(), float(h.min()) - 1e-3]
    extent = [(n - 1) * terrain.cell for n in (h.shape[1], h.shape[0])]
    high = [low[0] + extent[0], low[1] + extent[1], float(h.max()) + 1e-3]
    start, stop = torch.full_like(limit, 1e-4), limit
    for o, d, a, b in zip(origin, direction, low, high, strict=True):
        inverse = 1 / torch.where(d.abs() < 1e-12, 1e-12, d)
        first, second = (a - o) * inverse, (b - o) * inverse
        start = torch.maximum(start, torch.minimum(first, second))
        stop = torch.minimum(stop, torch.maximum(first, second))
    return start, stop


def _march(terrain: Terrain, rays: list[Tensor], start: Tensor, stop: Tensor, closing: Tensor) -> Tensor:
    table = _coefficients(terrain)
    answer = torch.full_like(start, torch.inf)
    here, t = torch.arange(start.numel(), device=start.device), start
    arrived: list[tuple[Tensor, Tensor]] = []
    reach, rate, live = stop, closing, rays
    for step in range(_MOST_STEPS):
        gap = _gap(table, terrain, live, t)[0]
        close = gap <= _GAP * t.clamp_min(0.05)
        t_next = t + gap / rate
        keep = ~close & (t_next < reach)
        if step % 2 or step > 8:  # leaving rays out costs about as much as a step
            arrived.append((here[close], t[close]))
            remaining = keep.nonzero()[:, 0]
            if not remaining.numel():
                break
            here, t, reach, rate = (v.index_select(0, remaining) for v in (here, t_next, reach, rate))
            live = [v.index_select(0, remaining) for v in live]
        else:
            t = torch.where(close, t, t_next)
    index = torch.cat([a for a, _ in arrived]) if arrived else here[:0]
    guess = torch.cat([b for _, b in arrived]) if arrived else t[:0]
    answer[index] = _polish(table, terrain, [v[index] for v in rays], guess)
    return torch.where(answer < stop, answer, torch.inf)


def _polish(table: Tensor, terrain: Terrain, rays: list[Tensor], t: Tensor) -> Tensor:
    for _ in range(_NEWTON_STEPS):
        gap, rate = _gap(table, terrain, rays, t)
        # A grazing ray has next to no rate; a step is no longer than the gap that was left allows.
        step = torch.where(rate < -1e-3, -gap / rate.clamp_max(-1e-3), 0.0)
        t = t + step.clamp(-0.01 * t, 0.01 * t)
    return t


def _gap(table: Tensor, terrain: Terrain, rays: list[Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Height of the rays above the field, and its rate of change along them."""
    ox, oy, oz, dx, dy, dz = rays
    height, slope_x, slope_y = _patch(table, terrain, torch.addcmul(ox, dx, t), torch.addcmul(oy, dy, t))
    return torch.addcmul(oz, dz, t) - height, dz - slope_x * dx - slope_y * dy


def _coefficients(terrain: Terrain) -> Tensor:
    """h = a + b u + c v + d u v of every patch: (4, patches)."""
    h = terrain.heights
    a, right, up, far = h[:-1, :-1], h[:-1, 1:], h[1:, :-1], h[1:, 1:]
    return torch.stack([a, right - a, up - a, far - right - up + a]).flatten(1)


def _patch(table: Tensor, terrain: Terrain, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Height and slopes in x and y."""
    rows, columns = terrain.heights.shape[0] - 1, terrain.heights.shape[1] - 1
    left, bottom = terrain.corner.tolist()
    u, v = ((x - left) / terrain.cell).clamp(0, columns), ((y - bottom) / terrain.cell).clamp(0, rows)
    j, i = u.floor().clamp_max(columns - 1), v.floor().clamp_max(rows - 1)
    u, v = u - j, v - i
    a, b, c, d = table.index_select(1, (i * columns + j).int()).unbind(0)
    height = a + b * u + (c + d * u) * v
    return height, (b + d * v) / terrain.cell, (c + d * u) / terrain.cell
