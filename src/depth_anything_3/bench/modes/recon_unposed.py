"""Surfaces from pictures alone: predicted depth, camera matrices and poses, laid over the truth by a similarity."""

from __future__ import annotations

import numpy as np

from depth_anything_3.bench.modes._placed import Placed
from depth_anything_3.bench.modes._surface import COLUMNS, surface_scores
from depth_anything_3.bench.modes.base import Mode, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.alignment import align_trajectories


def _score(task: Task) -> Scores:
    estimate = task.predict()
    if estimate.depth is None or estimate.extrinsics is None or estimate.intrinsics is None:
        raise InputError("model", "no depth, poses or camera matrices", "a predictor that gives all three")
    world = align_trajectories(task.poses, np.asarray(estimate.extrinsics, np.float64), robust=True)
    placed = Placed(
        depth=np.asarray(estimate.depth) * world.scale,
        intrinsics=np.asarray(estimate.intrinsics),
        extrinsics=world.on_extrinsics(np.asarray(estimate.extrinsics, np.float64)),
    )
    return surface_scores(task, placed)


MODE = Mode(
    name="recon_unposed",
    about="Surfaces from pictures alone: predicted depth, camera matrices and poses, moved onto the true camera path "
    "by one robust similarity; depth only where the truth is known; fused, sampled and compared with the true surface.",
    columns=COLUMNS,
    score=_score,
    needs=frozenset({"poses"}),
)
