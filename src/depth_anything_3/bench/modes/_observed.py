"""Scores of DTU: from depth maps to points without a volume, and only where the scanner saw.

With predicted cameras every pixel of the object becomes a point. With true ones, a pixel of a view is kept where at
least four views, itself among them, agree on it: of all points of a view the one that falls into the pixel and lies
within 0.2 mm of its point. Its place is the mean of those.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.modes._placed import Placed
from depth_anything_3.bench.modes.base import Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.benchmark.base import ObservedVolume
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.metrics.observed import observed_cloud_scores

Array = npt.NDArray[np.float64]

MOST_POINTS = 4_000_000
AGREEING, AGREEMENT = 4, 0.2  # views; millimetres

_NEAREST = 0.001


def observed_scores(task: Task, placed: Placed, volume: ObservedVolume, *, merged: bool) -> Scores:
    """Accuracy, completeness and their mean, in millimetres.

    Args:
        task: which scene.
        placed: the prediction.
        volume: where the scanner saw.
        merged: keep only what several views agree on.

    Raises:
        InputError: the scene has no true points, or nothing is left of the prediction.
    """
    surface = task.surface()
    if surface is None:
        raise InputError("scene", f"{task.scene} without points", "a scene with true points")
    clouds = [_points(task, placed, i) for i in range(len(task.frames))]
    points = _agreed(clouds, placed) if merged else np.concatenate([c[np.isfinite(c).all(-1)] for c in clouds])
    if len(points) > MOST_POINTS:
        rng = np.random.default_rng(task.options.seed)
        points = points[rng.choice(len(points), MOST_POINTS, replace=False)]
    found = observed_cloud_scores(
        points,
        surface.points,
        mask=volume.mask,
        low=volume.low,
        high=volume.high,
        resolution=volume.resolution,
        plane=volume.plane,
        seed=task.options.seed,
    )
    return {"accuracy": found.accuracy, "completeness": found.completeness, "chamfer": found.chamfer}


def _points(task: Task, placed: Placed, index: int) -> npt.NDArray[np.float32]:
    """(H, W, 3) at the size of the picture; NaN where nothing counts."""
    view = task.view(index)
    height, width = view.image.shape[:2]
    h, w = placed.depth.shape[1:]
    depth = resized_nearest(np.asarray(placed.depth[index : index + 1], np.float64), height, width)[0]
    k = np.asarray(placed.intrinsics[index], np.float64) * np.array([[width / w], [height / h], [1.0]])
    good = depth > _NEAREST
    if view.mask is not None:
        good &= view.mask
    points = unproject(np.where(good, depth, np.nan), k, np.asarray(placed.extrinsics[index], np.float64))
    return points.astype(np.float32)  # 49 views of 1600 x 1200 are a gigabyte so


def _agreed(clouds: list[npt.NDArray[np.float32]], placed: Placed) -> Array:
    points = [cloud[np.isfinite(cloud).all(-1)] for cloud in clouds]
    return np.concatenate([_agreed_in(clouds[i], points, placed, i) for i in range(len(clouds))])


def _agreed_in(
    own: npt.NDArray[np.float32], clouds: list[npt.NDArray[np.float32]], placed: Placed, reference: int
) -> Array:
    """Points of the pixels of one view that enough views agree on: its own by pixel, and the clouds of all views."""
    height, width = own.shape[:2]
    h, w = placed.depth.shape[1:]
    k = np.asarray(placed.intrinsics[reference], np.float64) * np.array([[width / w], [height / h], [1.0]])
    pose = np.asarray(placed.extrinsics[reference], np.float64)
    hits, total = np.zeros((height, width), np.int32), np.zeros((height, width, 3))
    counted = np.empty(height * width, np.int64)
    for cloud in clouds:
        if not len(cloud):
            continue
        points = cloud.astype(np.float64)
        xy, z = project(points, k, pose)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < width) & (xy[:, 1] < height)
        points, (column, row) = points[inside], xy[inside].astype(int).T
        near = np.linalg.norm(points - own[row, column], axis=1) < AGREEMENT
        pixel, points = row[near] * width + column[near], points[near]
        # Of points of one view that fall into one pixel, one counts: the first, which is written last.
        number = np.arange(len(pixel))
        counted[pixel[::-1]] = number[::-1]
        first = counted[pixel] == number
        hits.ravel()[pixel[first]] += 1
        total.reshape(-1, 3)[pixel[first]] += points[first]
    kept = hits >= AGREEING
    return total[kept] / hits[kept][:, None]
