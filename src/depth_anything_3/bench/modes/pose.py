"""Relative poses of all pairs of views, in two gauges: see :mod:`depth_anything_3.metrics.pose`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.bench.evaluate import Estimate
from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.pose import PairErrors, auc, errors_of_pairs, pair_errors, recall_within, relative_poses

AUC_DEG = (3, 5, 15, 30)
RECALL_DEG = (5, 15, 30)

FIRST_CAMERA = "first_camera"
"""What names of scores in the published gauge end in."""


def pose_scores(estimate: Estimate, true: npt.NDArray[np.float64]) -> Scores:
    """AUC in both gauges, RRA and RTA.

    Args:
        estimate: with poses, or poses of pairs.
        true: (N, 3, 4) world-to-camera.

    Raises:
        InputError: the estimate has no poses, or there is one view.
    """
    if len(true) < 2:
        raise InputError("scene", "one view", "at least two for relative poses")
    pairs = estimate.pair_poses if estimate.extrinsics is None else relative_poses(estimate.extrinsics)
    if pairs is None:
        raise InputError("model", "no poses", "a predictor that gives poses")
    gauge_free = errors_of_pairs(pairs, true)
    directed = gauge_free.translation_deg[~np.isnan(gauge_free.translation_deg)]
    scores = {f"auc_{t}": auc(gauge_free.pair_deg, t) for t in AUC_DEG}
    scores |= {f"auc_{t}_{FIRST_CAMERA}": auc(_published(estimate, true).pair_deg, t) for t in AUC_DEG}
    scores |= {f"rra_{t}": recall_within(gauge_free.rotation_deg, t) for t in RECALL_DEG}
    if len(directed):
        scores |= {f"rta_{t}": recall_within(directed, t) for t in RECALL_DEG}
    return scores


def _published(estimate: Estimate, true: npt.NDArray[np.float64]) -> PairErrors:
    """Errors in the gauge of the first camera; pairs alone are put into a world by those of the first view."""
    if estimate.extrinsics is not None:
        return pair_errors(estimate.extrinsics, true, convention="da3")
    assert estimate.pair_poses is not None
    from_first = np.concatenate([np.eye(4)[None, :3], estimate.pair_poses[: len(true) - 1]])
    return pair_errors(from_first, true, convention="da3")


def _score(task: Task) -> Scores:
    return pose_scores(task.predict(), task.poses)


def _columns() -> dict[str, Column]:
    columns = {f"auc_{t}": Column(title=f"AUC@{t}", better="higher") for t in AUC_DEG}
    columns |= {
        f"auc_{t}_{FIRST_CAMERA}": Column(title=f"AUC@{t}, first-camera gauge", better="higher") for t in AUC_DEG
    }
    columns |= {f"rra_{t}": Column(title=f"RRA@{t}", better="higher") for t in RECALL_DEG}
    return columns | {f"rta_{t}": Column(title=f"RTA@{t}", better="higher") for t in RECALL_DEG}


MODE = Mode(
    name="pose",
    about="Relative poses of all pairs of views from pictures alone. AUC@T: area under the curve of the larger of "
    "rotation and translation error up to T degrees, in steps of a degree; RRA and RTA: part of the pairs whose "
    "rotation, or direction of translation, is within T degrees. The plain columns are gauge-free (pose of view j in "
    "view i); 'first-camera gauge' is what the published evaluation computes: motions as seen from the first camera, "
    "whose error enters all pairs. Published tables compare with that one alone.",
    columns=_columns(),
    score=_score,
    needs=frozenset({"poses", "pairs"}),
)
