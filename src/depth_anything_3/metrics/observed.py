"""How near two clouds are where a scanner saw (numpy): the rules of the DTU benchmark (Aanæs et al., IJCV 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3._optional import require
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.reconstruction import nearest_distances

Array = npt.NDArray[np.float64]

SPACING = 0.2
"""Predicted points are thinned out to this distance."""

FARTHEST = 20.0
"""Distances from here on are left out of the means."""

BELOW, ABOVE = 60.0, 120.0
"""How far the box of predicted points reaches out of that of the mask, below and above."""


@dataclass(frozen=True, kw_only=True)
class ObservedScores:
    """Mean distances in the unit of the points.

    Attributes:
        accuracy: from predicted points in the mask to the nearest true one.
        completeness: from true points above the plane to the nearest predicted one in the box.
    """

    accuracy: float
    completeness: float

    @property
    def chamfer(self) -> float:
        """Mean of both."""
        return (self.accuracy + self.completeness) / 2


def observed_cloud_scores(
    predicted: Float[np.ndarray, "n 3"],
    true: Float[np.ndarray, "m 3"],
    *,
    mask: Bool[np.ndarray, "x y z"],
    low: Float[np.ndarray, " 3"],
    high: Float[np.ndarray, " 3"],
    resolution: float,
    plane: Float[np.ndarray, " 4"],
    seed: int = 42,
) -> ObservedScores:
    """Accuracy and completeness, in millimetres for DTU.

    Predicted points are shuffled and thinned out; those in the widened box take part. Accuracy looks at those whose
    voxel was seen, completeness at true points above the plane. Distances of :data:`FARTHEST` and more are left out.

    Args:
        predicted, true: points in the unit of the box, millimetres.
        mask: voxels that were seen.
        low, high: corners of the box of the mask.
        resolution: side of a voxel.
        plane: (a, b, c, d); above is where a x + b y + c z + d is positive.
        seed: of the shuffling.

    Raises:
        InputError: no predicted point is in the box, or no distance is left to average.
    """
    points = thinned(np.asarray(predicted, np.float64), SPACING, seed=seed)
    points = points[((points >= low - BELOW) & (points < high + ABOVE)).all(1)]
    if not len(points):
        raise InputError("predicted", "no point in the box", "points where the scanner saw")
    voxel = np.rint((points - low) / resolution).astype(int)
    inside = ((voxel >= 0) & (voxel < mask.shape)).all(1)
    seen = np.zeros(len(points), bool)
    seen[inside] = mask[tuple(voxel[inside].T)]
    above = true @ plane[:3] + plane[3] > 0
    return ObservedScores(
        accuracy=_mean_near("predicted", points[seen], true),
        completeness=_mean_near("true", true[above], points),
    )


def thinned(points: Float[np.ndarray, "n 3"], spacing: float, *, seed: int) -> Float[np.ndarray, "m 3"]:
    """Points of which no two are nearer than ``spacing``: in a random order, each removes its neighbours.

    Args:
        points: any.
        spacing: positive.
        seed: of the order.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    shuffled = points[np.random.default_rng(seed).permutation(len(points))]
    tree = require("scipy.spatial", extra="bench").cKDTree(shuffled)
    keep = np.ones(len(shuffled), bool)
    step = 100_000
    for start in range(0, len(shuffled), step):
        rows = np.flatnonzero(keep[start : start + step]) + start
        for row, around in zip(rows, tree.query_ball_point(shuffled[rows], spacing), strict=True):
            if keep[row]:
                keep[around] = False
                keep[row] = True
    return shuffled[keep]


def _mean_near(name: str, points: Array, others: Array) -> float:
    distances = nearest_distances(points, others, within=FARTHEST)
    near = distances[distances < FARTHEST]
    if not len(near):
        raise InputError(name, f"no point within {FARTHEST:g}", "clouds in one place")
    return float(near.mean())
