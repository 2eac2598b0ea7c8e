"""How near two point clouds are (numpy, any unit), once ``geometry.alignment`` has brought them into one frame."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Shaped

from depth_anything_3._optional import require
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.voxels import occupied_voxels, sum_by

Array = npt.NDArray[np.float64]

NeighbourSearch = Literal["fastest", "tree", "brute force"]

_CELLS = 1 << 22  # distances that are held at a time


@dataclass(frozen=True, kw_only=True)
class CloudScores:
    """Agreement of a predicted with a true point cloud; lengths in the unit of the points.

    Attributes:
        accuracy: mean distance from a predicted point to the nearest true one.
        completeness: mean distance from a true point to the nearest predicted one.
        precision: part of the predicted points nearer than the threshold to a true one.
        recall: part of the true points nearer than the threshold to a predicted one.
    """

    accuracy: float
    completeness: float
    precision: float
    recall: float

    @property
    def chamfer(self) -> float:
        """Mean of accuracy and completeness ("overall" in the published tables; some sum them, or square first)."""
        return (self.accuracy + self.completeness) / 2

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall; 0 where both are 0."""
        return _harmonic_mean(self.precision, self.recall)


def cloud_scores(
    predicted: Float[np.ndarray, "n 3"],
    true: Float[np.ndarray, "m 3"],
    *,
    threshold: float,
    voxel: float | None = None,
    search: NeighbourSearch = "fastest",
) -> CloudScores:
    """Accuracy, completeness, precision and recall by nearest neighbours.

    With a tree, distances beyond ten thresholds may be too long by 1 %: points far from everything cost most of the
    time, and tell least.

    Args:
        predicted: points. None of them gives infinite distances, and a precision and recall of 0.
        true: points, at least one.
        threshold: a distance counts where it is strictly below.
        voxel: first replace the points of each cube of this size by their mean, in both clouds, so that dense places
            count no more than others.
        search: see :func:`nearest_distances`.

    Raises:
        InputError: a shape is wrong, a point is not finite, there is no true point, or a length is not positive.
    """
    source, target = _clouds(predicted, true, threshold, voxel)
    if not len(source):
        return CloudScores(accuracy=float("inf"), completeness=float("inf"), precision=0.0, recall=0.0)
    to_true = _near_exactly(source, target, threshold, search)
    to_predicted = _near_exactly(target, source, threshold, search)
    return CloudScores(
        accuracy=float(to_true.mean()),
        completeness=float(to_predicted.mean()),
        precision=float(np.mean(to_true < threshold)),
        recall=float(np.mean(to_predicted < threshold)),
    )


def f_score(
    predicted: Float[np.ndarray, "n 3"],
    true: Float[np.ndarray, "m 3"],
    *,
    threshold: float,
    voxel: float | None = None,
    search: NeighbourSearch = "fastest",
) -> float:
    """The F-score of :func:`cloud_scores` alone, which is much faster where clouds are far apart.

    Arguments and errors as there.
    """
    source, target = _clouds(predicted, true, threshold, voxel)
    if not len(source):
        return 0.0
    pairs = ((source, target), (target, source))
    near = [float(np.mean(nearest_distances(a, b, within=threshold, search=search) < threshold)) for a, b in pairs]
    return _harmonic_mean(*near)


def nearest_distances(
    points: Float[np.ndarray, "n 3"],
    others: Float[np.ndarray, "m 3"],
    *,
    within: float = float("inf"),
    search: NeighbourSearch = "fastest",
    tolerance: float = 0.0,
) -> Float[np.ndarray, " n"]:
    """Distance from each point to the nearest of the others; exact by default.

    Args:
        points: from where.
        others: to where, at least one.
        within: look no farther than this; inf where the nearest point is not nearer.
        search: ``"tree"`` needs scipy (the extra ``bench``); ``"brute force"`` compares all with all in bounded
            memory; ``"fastest"`` takes the tree where scipy is installed.
        tolerance: a tree may give distances that are too long by up to this share, which is faster.

    Raises:
        InputError: a shape is wrong, a point is not finite, there is no other point, or the search is unknown.
        MissingExtraError: a tree was asked for and scipy is not installed.
    """
    if search not in ("fastest", "tree", "brute force"):
        raise InputError("search", repr(search), "a way to search", ("fastest", "tree", "brute force"))
    source, target = _points("points", points), _points("others", others)
    if not len(target):
        raise InputError("others", "no point", "at least one point")
    if search == "brute force" or (search == "fastest" and find_spec("scipy") is None):
        found = _brute_force(source, target)
        return np.where(found < within, found, np.inf)
    tree = require("scipy.spatial", extra="bench").cKDTree(target)
    distances: Array = tree.query(source, distance_upper_bound=within, eps=tolerance)[0]
    return distances


def sample_mesh(
    vertices: Float[np.ndarray, "v 3"], faces: Shaped[np.ndarray, "t 3"], count: int, *, seed: int
) -> Float[np.ndarray, "count 3"]:
    """Points spread evenly over the area of triangles (Osada et al., "Shape distributions", 2002, section 4.1).

    Args:
        vertices: corners.
        faces: indices of the corners of each triangle.
        count: how many points; none come where the triangles have no area.
        seed: of the generator.
    """
    a, b, c = (np.asarray(vertices, np.float64)[faces[:, i]] for i in range(3))
    ends = np.cumsum(np.linalg.norm(np.cross(b - a, c - a), axis=1))
    if not len(ends) or not ends[-1] > 0:
        return np.zeros((0, 3))
    rng = np.random.default_rng(seed)
    which = np.searchsorted(ends, rng.uniform(0, ends[-1], count), side="right").clip(max=len(ends) - 1)
    u, v = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return (1 - u) * a[which] + u * (1 - v) * b[which] + u * v * c[which]


def voxel_downsample(points: Float[np.ndarray, "n 3"], voxel: float) -> Float[np.ndarray, "m 3"]:
    """The mean of the points in each occupied cube of a grid through the origin, ordered by cube.

    Args:
        points: finite points.
        voxel: side of a cube.

    Raises:
        InputError: a shape is wrong, a point is not finite, or the cubes are not positive or too small to be counted.
    """
    array = _points("points", points)
    cube, count = occupied_voxels(array, voxel)
    return sum_by(cube, array, len(count)) / count[:, None]


def _clouds(
    predicted: npt.NDArray[np.floating], true: npt.NDArray[np.floating], threshold: float, voxel: float | None
) -> tuple[Array, Array]:
    """Both clouds, checked and thinned out."""
    if not threshold > 0:
        raise InputError("threshold", repr(threshold), "a positive distance")
    source, target = _points("predicted", predicted), _points("true", true)
    if not len(target):
        raise InputError("true", "no point", "at least one point")
    if voxel is None:
        return source, target
    return voxel_downsample(source, voxel), voxel_downsample(target, voxel)


def _near_exactly(points: Array, others: Array, threshold: float, search: NeighbourSearch) -> Array:
    """Distances to the nearest of the others, those beyond ten thresholds within 1 %."""
    found = nearest_distances(points, others, within=10 * threshold, search=search)
    far = np.isinf(found)
    if far.any():
        found[far] = nearest_distances(points[far], others, search=search, tolerance=0.01)
    return found


def _harmonic_mean(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def _brute_force(points: Array, others: Array) -> Array:
    rows = max(_CELLS // len(others), 1)
    return np.concatenate(
        [np.empty(0), *(_all_to_all(points[i : i + rows], others) for i in range(0, len(points), rows))]
    )


def _all_to_all(points: Array, others: Array) -> Array:
    squared = np.zeros((len(points), len(others)))
    for axis in range(3):
        squared += np.subtract.outer(points[:, axis], others[:, axis]) ** 2
    nearest: Array = np.sqrt(squared.min(1))
    return nearest


def _points(name: str, value: npt.NDArray[np.floating]) -> Array:
    if np.ndim(value) != 2 or np.shape(value)[1] != 3:
        raise InputError(name, f"shape {np.shape(value)}", "points of shape (N, 3)")
    if not np.isfinite(value).all():
        raise InputError(name, "points that are not finite", "finite points")
    return np.asarray(value, np.float64)
