"""The path of the camera over a sequence."""

from __future__ import annotations

import numpy as np

from depth_anything_3.bench.modes.base import Column, Mode, Scores
from depth_anything_3.bench.task import Task
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.metrics.trajectory import step_errors, trajectory_errors


def _score(task: Task) -> Scores:
    estimate = task.predict()
    if estimate.extrinsics is None:
        raise InputError("model", "no poses in one world", "a predictor that gives a path")
    predicted, true = np.asarray(estimate.extrinsics, np.float64), task.poses
    if len(true) < 2:
        raise InputError("scene", "one frame", "at least two for a path")
    similar, rigid = (trajectory_errors(predicted, true, alignment=kind) for kind in ("sim3", "se3"))
    assert similar.similarity is not None
    steps = step_errors(predicted, true, scale=similar.similarity.scale)
    length = float(np.linalg.norm(np.diff(camera_centres(true), axis=0), axis=1).sum())
    scores = {
        "ate": similar.rmse,
        "ate_rigid": rigid.rmse,
        "rpe_translation": steps.translation_rmse,
        "rpe_rotation_deg": steps.rotation_rmse_deg,
        "scale": similar.similarity.scale,
        "length": length,
    }
    return scores | ({"ate_percent": 100 * similar.rmse / length} if length > 0 else {})


MODE = Mode(
    name="odometry",
    about="The path of the camera from pictures alone. ATE: root mean square distance of the camera centres after a "
    "least-squares similarity ('rigid': without its scale), in the unit of the data set, and as a part of the length "
    "of the path. RPE: the same of the motion from one scored frame to the next, after the scale of that similarity.",
    columns={
        "ate": Column(title="ATE", better="lower"),
        "ate_percent": Column(title="ATE [% of the path]", better="lower"),
        "ate_rigid": Column(title="ATE, rigid", better="lower"),
        "rpe_translation": Column(title="RPE", better="lower"),
        "rpe_rotation_deg": Column(title="RPE [deg]", better="lower"),
        "scale": Column(title="scale"),
    },
    score=_score,
    needs=frozenset({"poses"}),
)
