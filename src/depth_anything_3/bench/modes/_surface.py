"""What both reconstruction modes share: from depth maps to a cloud, and from two clouds to scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.bench.modes._observed import observed_scores
from depth_anything_3.bench.modes._placed import Placed
from depth_anything_3.bench.modes.base import Column, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.base import View
from depth_anything_3.datasets.benchmark.base import Fusion, Surface
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.metrics.reconstruction import cloud_scores, sample_mesh, voxel_downsample
from depth_anything_3.refine.tsdf import allocate, extract, integrate

Array = npt.NDArray[np.float64]

COLUMNS = {
    "f_score": Column(title="F-score", better="higher"),
    "precision": Column(title="precision", better="higher"),
    "recall": Column(title="recall", better="higher"),
    "accuracy": Column(title="accuracy", better="lower"),
    "completeness": Column(title="completeness", better="lower"),
    "chamfer": Column(title="Chamfer", better="lower"),
}

_MAX_BLOCKS = 400_000  # 4 GiB of volume
_REACH = 10.0  # thresholds outside the box of the truth, beyond which nothing is fused
_RELATIVE_POINTS = 400_000  # of all true depth maps together, where they stand for the surface


def surface_scores(task: Task, placed: Placed, *, merged: bool = False) -> Scores:
    """Fuse, sample and compare with the true surface, or with the true depth maps where there is none.

    Data sets that say what was observed are scored as DTU is: see :mod:`depth_anything_3.bench.modes._observed`.

    Args:
        task: which scene.
        placed: the prediction.
        merged: of DTU, keep only points that several views agree on, as is published for true cameras.

    Raises:
        InputError: the data set has neither parameters nor a surface, or nothing can be fused.
    """
    volume = task.dataset.observed(task.scene)
    if volume is not None:
        return observed_scores(task, placed, volume, merged=merged)
    fusion, unit = _fusion(task)
    true = _true_points(task, fusion)
    points = _fused_points(task, placed, fusion, true)
    if fusion.margin is not None:
        low, high = true.min(0) - fusion.margin, true.max(0) + fusion.margin
        points = points[((points >= low) & (points <= high)).all(1)]
    if not len(points):  # as wrong as can be, and a number: infinity would swallow the mean
        farthest = float(np.linalg.norm(true.max(0) - true.min(0))) / unit
        worst = dict.fromkeys(("accuracy", "completeness", "chamfer"), farthest)
        return {"f_score": 0.0, "precision": 0.0, "recall": 0.0, **worst}
    found = cloud_scores(points, true, threshold=fusion.threshold, voxel=fusion.voxel)
    return {
        "f_score": found.f_score,
        "precision": found.precision,
        "recall": found.recall,
        "accuracy": found.accuracy / unit,
        "completeness": found.completeness / unit,
        "chamfer": found.chamfer / unit,
    }


def _fusion(task: Task) -> tuple[Fusion, float]:
    """Lengths in the unit of the scene, and the length that distances are told in."""
    fusion = task.dataset.fusion
    if fusion is None:
        raise InputError("data", task.dataset.name, "a data set with parameters of fusion")
    if task.dataset.fusion_unit == "data set":
        return fusion, 1.0
    median = _median_depth(task)
    return fusion.scaled(median), median


def _median_depth(task: Task) -> float:
    depths = [view.depth[view.depth > 0] for i in range(len(task.frames)) if (view := task.view(i)).depth is not None]
    if not sum(map(len, depths)):
        raise InputError("scene", f"{task.scene}, which has no depth", "a scene with depth")
    return float(np.median(np.concatenate(depths)))


def _fused_points(task: Task, placed: Placed, fusion: Fusion, true: Array) -> Array:
    """Points on the surface that the predicted depth maps fuse to; every view is read twice and none is kept.

    What lies outside the box of the truth by more than ten thresholds is not fused, but stays as points: wrong as it
    is, it would need a volume without bounds.
    """
    low, high = true.min(0), true.max(0)
    reach = _REACH * fusion.threshold
    near, stray = [], [np.zeros((0, 3))]
    for i in range(len(task.frames)):
        depth, k = _at_picture(task.view(i), placed, i, fusion)
        cloud = voxel_downsample(unproject(depth, k, placed.extrinsics[i])[depth > 0], fusion.voxel)
        inside = ((cloud > low - reach) & (cloud < high + reach)).all(1)
        near.append(torch.from_numpy(cloud[inside]))
        stray.append(cloud[~inside])
    if not sum(map(len, near)):
        return np.concatenate(stray)
    volume = allocate(near, fusion.voxel, fusion.truncation / fusion.voxel, max_blocks=_MAX_BLOCKS)
    for i in range(len(task.frames)):
        view = task.view(i)
        depth, k = _at_picture(view, placed, i, fusion)
        integrate(volume, depth, view.image, k, placed.extrinsics[i])
    mesh = extract(volume)
    points = sample_mesh(mesh.vertices, mesh.faces, task.options.surface_points, seed=task.options.seed)
    return np.concatenate([points, *stray])


def _at_picture(view: View, placed: Placed, index: int, fusion: Fusion) -> tuple[Array, Array]:
    """Depth at the size of the picture, 0 where the truth is not known, and its camera matrix."""
    height, width = view.image.shape[:2]
    h, w = placed.depth.shape[1:]
    depth = resized_nearest(np.asarray(placed.depth[index : index + 1], np.float64), height, width)[0]
    k = np.asarray(placed.intrinsics[index], np.float64) * np.array([[width / w], [height / h], [1.0]])
    known = np.isfinite(depth) & (depth > 0) & (depth <= fusion.max_depth)
    if view.depth is not None:
        known &= view.depth > 0
    if view.mask is not None:
        known &= view.mask
    return np.where(known, depth, 0.0), k


def _true_points(task: Task, fusion: Fusion) -> Array:
    surface = task.surface()
    if surface is None:
        return _points_of_depth(task, fusion)
    return surface_points(surface, task.options.surface_points, task.options.seed)


def surface_points(surface: Surface, count: int, seed: int) -> Array:
    """A cloud as it is; so many points on a mesh."""
    if surface.faces is None:
        return surface.points
    return sample_mesh(surface.points, surface.faces, count, seed=seed)


def _points_of_depth(task: Task, fusion: Fusion) -> Array:
    """Points of the true depth maps up to the depth that is fused, evenly thinned out."""
    clouds = []
    for i in range(len(task.frames)):
        view = task.view(i)
        if view.depth is None or view.extrinsics is None:
            continue
        known = (view.depth > 0) & (view.depth <= fusion.max_depth)
        step = int(np.ceil(np.sqrt(view.depth.size * len(task.frames) / _RELATIVE_POINTS)))
        kept = np.zeros_like(known)
        kept[::step, ::step] = known[::step, ::step]
        clouds.append(unproject(view.depth.astype(np.float64), view.intrinsics, view.extrinsics)[kept])
    return np.concatenate(clouds)
