"""Scores of DTU: from depth maps to points without a volume, and only where the scanner saw.

With predicted cameras every pixel of the object becomes a point. With true ones, a pixel of a view is kept where at
least four views, itself among them, agree on it: of all points of a view the one that falls into the pixel and lies
within 0.2 mm of its point. Its place is the mean of those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.modes._placed import Placed
from depth_anything_3.bench.modes.base import Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.benchmark.base import ObservedVolume
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.metrics.observed import observed_cloud_scores
from depth_anything_3.refine.threads import in_threads

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
    views = [_seen(task, placed, i) for i in range(len(task.frames))]
    points = _agreed(views) if merged else np.concatenate([view.points for view in views])
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """The points of one view, in single precision: 49 views of 1600 x 1200 are half a gigabyte so.

    Attributes:
        size: rows and columns of the picture.
        pixel: (K,) which pixel each point was seen in, counted row by row.
        points: (K, 3) in the world.
        camera: (3, 4) from the world to homogeneous pixels.
    """

    size: tuple[int, int]
    pixel: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    camera: npt.NDArray[np.float32]


def _seen(task: Task, placed: Placed, index: int) -> _Seen:
    """What counts of a view, at the size of its picture."""
    view = task.view(index)
    height, width = view.image.shape[:2]
    h, w = placed.depth.shape[1:]
    depth = resized_nearest(np.asarray(placed.depth[index : index + 1], np.float64), height, width)[0]
    good = depth > _NEAREST
    if view.mask is not None:
        good &= view.mask
    k = np.asarray(placed.intrinsics[index], np.float64) * np.array([[width / w], [height / h], [1.0]])
    pose = np.asarray(placed.extrinsics[index], np.float64)
    row, column = np.nonzero(good)
    ray = np.column_stack([column + 0.5, row + 0.5, np.ones(len(row))]) @ np.linalg.inv(k).T
    points = (ray * depth[good][:, None] - pose[:, 3]) @ np.linalg.inv(pose[:, :3]).T
    return _Seen(
        size=(height, width),
        pixel=row * width + column,
        points=points.astype(np.float32),
        camera=(k @ pose).astype(np.float32),
    )


def _agreed(views: Sequence[_Seen]) -> Array:
    return np.concatenate(in_threads(lambda view: _agreed_in(view, views), views))


def _agreed_in(reference: _Seen, views: Sequence[_Seen]) -> Array:
    """Points of the pixels of one view that enough views agree on: its own by pixel, and those of all views."""
    height, width = reference.size
    own = np.full((height * width, 3), np.nan, np.float32)
    own[reference.pixel] = reference.points
    hits, total = np.zeros(height * width, np.int32), np.zeros((height * width, 3))
    counted = np.empty(height * width, np.int64)
    for view in views:
        pixel, points = _in_pixels(view.points, reference)
        off = points - own[pixel]
        near = np.einsum("kc,kc->k", off, off) < AGREEMENT**2
        pixel, points = pixel[near], points[near]
        # Of points of one view that fall into one pixel, one counts: the first, which is written last.
        number = np.arange(len(pixel))
        counted[pixel[::-1]] = number[::-1]
        first = counted[pixel] == number
        hits[pixel[first]] += 1
        total[pixel[first]] += points[first]
    kept = hits >= AGREEING
    return total[kept] / hits[kept][:, None]


def _in_pixels(points: npt.NDArray[np.float32], view: _Seen) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The points that fall into a view, and into which pixels."""
    height, width = view.size
    x, y, z = view.camera[:, :3] @ points.T + view.camera[:, 3:]
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = x / z, y / z
        inside = np.flatnonzero((z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height))
    return y[inside].astype(np.int64) * width + x[inside].astype(np.int64), points[inside]
