"""The scale of depth from known cameras alone: the one with which the views' depth maps agree.

A pixel of one view, put into the world with the depth times ``s`` and looked at from another view, has a depth there
that must be ``s`` times that of the other map. Where cameras stand apart only one ``s`` does that for most pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.metrics.depth import valid_pixels

Array = npt.NDArray[np.float64]

_SAMPLES = 40  # along each side of a map
_NEIGHBOURS = 4  # views before and after
_NEAREST, _FARTHEST = 0.5, 200.0  # median depth over the largest baseline, between which the scale is looked for
_STEPS = 120
_TRUNCATION = 0.3  # of |log ratio|: what is hidden counts no more
_LEAST_INSIDE = 0.1
_AGREE, _TELLING, _APART = 0.1, 1.3, 1.5  # the cost must be low, and this much higher for scales that far away


@dataclass(frozen=True)
class DepthRatioScale:
    """Attributes:
    scale: what depth must be multiplied by to be in the unit of the cameras.
    error: median of ``|log ratio|`` then.
    """

    scale: float
    error: float


def scale_from_depth_ratios(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    sky: npt.NDArray[np.bool_] | None = None,
) -> DepthRatioScale | None:
    """The scale with which depth maps agree under known cameras; None where none stands out.

    Args:
        depth: z-depth of all views in one unknown unit.
        intrinsics: in pixels of the depth.
        extrinsics: world-to-camera, in the wanted unit.
        sky: pixels without a depth.
    """
    centres = camera_centres(extrinsics.astype(np.float64))
    baseline = float(np.linalg.norm(centres[:, None] - centres[None], axis=-1).max())
    valid = valid_pixels(depth) if sky is None else valid_pixels(depth) & ~sky
    if baseline <= 1e-9 * max(1.0, float(np.abs(centres).max())) or not valid.any():
        return None
    log_depth = np.where(valid, np.log(np.where(valid, depth, 1.0)), np.nan).astype(np.float64)
    pairs = [_Pair.of(log_depth, intrinsics, extrinsics, i, j) for i, j in _pairs(len(depth))]
    typical = baseline / float(np.median(depth[valid]))
    logs = np.log(typical) + np.linspace(np.log(_NEAREST), np.log(_FARTHEST), _STEPS)
    costs = np.array([_cost(pairs, s) for s in logs])
    k = int(np.argmin(costs))
    if not np.isfinite(costs[k]) or k in (0, _STEPS - 1):
        return None
    fine = np.linspace(logs[k - 1], logs[k + 1], 41)
    values = np.array([_cost(pairs, s) for s in fine])
    best = float(fine[np.argmin(values)])
    sides = [_cost(pairs, best + side * np.log(_APART)) for side in (-1, 1)]
    error = float(np.nanmedian(np.abs(np.concatenate([pair.ratios(best)[0] for pair in pairs]))))
    if error > _AGREE or min(sides) < _TELLING * values.min():
        return None
    return DepthRatioScale(float(np.exp(best)), error)


def _pairs(count: int) -> list[tuple[int, int]]:
    return [(i, j) for i, j in permutations(range(count), 2) if abs(i - j) <= _NEIGHBOURS]


@dataclass(frozen=True)
class _Pair:
    """Points of one view in the frame of another: ``scale * along + shift``, and what is compared there."""

    along: Array
    shift: Array
    lens: Array
    log_depth: Array

    @classmethod
    def of(
        cls,
        log_depth: Array,
        intrinsics: Float[np.ndarray, "n 3 3"],
        extrinsics: Float[np.ndarray, "n 3 4"],
        i: int,
        j: int,
    ) -> _Pair:
        height, width = log_depth.shape[1:]
        rows, columns = (np.linspace(0, n - 1, min(n, _SAMPLES)).astype(int) for n in (height, width))
        z = np.exp(log_depth[i][np.ix_(rows, columns)]).ravel()
        x, y = (v.ravel() + 0.5 for v in np.meshgrid(columns, rows))
        local = z[:, None] * (np.stack([x, y, np.ones_like(x)], 1) @ np.linalg.inv(intrinsics[i]).T)
        pose = extrinsics.astype(np.float64)
        turn = pose[j, :, :3] @ pose[i, :, :3].T
        shift = pose[j, :, 3] - turn @ pose[i, :, 3]
        return cls((local @ turn.T)[np.isfinite(z)], shift, intrinsics[j].astype(np.float64), log_depth[j])

    def ratios(self, log_scale: float) -> tuple[Array, int]:
        """Log of the depth there over that of the map, for points inside of it; and how many points there were."""
        height, width = self.log_depth.shape
        points = np.exp(log_scale) * self.along + self.shift
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = (points @ self.lens.T)[:, :2] / points[:, 2:]
        inside = (points[:, 2] > 0) & (xy > 0).all(1) & (xy < (width, height)).all(1)
        column, row = np.floor(xy[inside]).astype(np.int64).T
        return np.log(points[inside, 2]) - log_scale - self.log_depth[row, column], len(points)


def _cost(pairs: list[_Pair], log_scale: float) -> float:
    found, total = [], 0
    for pair in pairs:
        ratios, count = pair.ratios(log_scale)
        found.append(ratios[np.isfinite(ratios)])
        total += count
    values = np.concatenate(found) if found else np.zeros(0)
    if len(values) < _LEAST_INSIDE * max(total, 1):
        return float("inf")
    return float(np.minimum(np.abs(values), _TRUNCATION).mean())
