"""Surfaces from pictures with true cameras: predicted depth times one scale, placed by the true cameras."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.modes._placed import Placed
from depth_anything_3.bench.modes._surface import COLUMNS, surface_scores
from depth_anything_3.bench.modes.base import Mode, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.datasets.base import View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.alignment import align_trajectories


def _score(task: Task) -> Scores:
    estimate = task.predict(given_cameras=True)
    if estimate.depth is None:
        raise InputError("model", "no depth", "a predictor that gives depth")
    placed = Placed(
        depth=np.asarray(estimate.depth) * _scale(estimate, task),
        intrinsics=np.stack([_at_size(task.view(i), *estimate.depth.shape[1:]) for i in range(len(task.frames))]),
        extrinsics=task.poses,
    )
    return surface_scores(task, placed, merged=True)


def _at_size(view: View, height: int, width: int) -> npt.NDArray[np.float64]:
    """The true camera matrix in pixels of another size."""
    rows, columns = view.image.shape[:2]
    return view.intrinsics * np.array([[width / columns], [height / rows], [1.0]])


def _scale(estimate: Estimate, task: Task) -> float:
    """From the predictor's unit to the true one: 1 where it hands the given poses back."""
    if estimate.extrinsics is None:
        return 1.0
    return align_trajectories(task.poses, np.asarray(estimate.extrinsics, np.float64), robust=True).scale


MODE = Mode(
    name="recon_posed",
    about="Surfaces from pictures with true poses and camera matrices handed in: predicted depth, times the scale "
    "between the poses that come back and the true ones, placed by the true cameras; then as recon_unposed.",
    columns=COLUMNS,
    score=_score,
    given_cameras=True,
)
