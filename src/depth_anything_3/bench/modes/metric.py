"""Depth of one picture at a time in metres, with the true focal length and without any alignment."""

from __future__ import annotations

from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.modes.mono import mean_over_images, single_depths
from depth_anything_3.bench.task import Task
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import abs_rel, delta, log_rmse, rmse, scale_factor, sq_rel


def _score(task: Task) -> Scores:
    if not task.dataset.metric:
        raise InputError("data", f"{task.dataset.name}, which is not in metres", "a data set in metres")
    rows, (low, high) = [], task.dataset.depth_range
    for predicted, true, mask in single_depths(task, given_intrinsics=True):
        kept = predicted.clip(max(low, 1e-6), high)
        rows.append(
            {
                "delta": delta(kept, true, mask),
                "absrel": abs_rel(kept, true, mask),
                "sqrel": sq_rel(kept, true, mask),
                "rmse": rmse(kept, true, mask),
                "log_rmse": log_rmse(kept, true, mask),
                "scale": scale_factor(predicted, true, mask),
            }
        )
    return mean_over_images(rows)


MODE = Mode(
    name="metric",
    about="One picture at a time with its true focal length, in metres: nothing is aligned, depth is clamped to the "
    "range of the data set. Means over pictures. 'Scale' is the median of true / predicted depth, 1 at best: a network "
    "of relative depth, which has no metres, shows there and nowhere else how it was meant.",
    columns={
        "delta": Column(title="δ1", better="higher"),
        "absrel": Column(title="AbsRel", better="lower"),
        "sqrel": Column(title="SqRel", better="lower"),
        "rmse": Column(title="RMSE [m]", better="lower"),
        "log_rmse": Column(title="log RMSE", better="lower"),
        "scale": Column(title="scale"),
    },
    score=_score,
)
