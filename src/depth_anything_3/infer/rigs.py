"""A prediction whose cameras are those of a rig, given or found in the prediction itself."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rigs import estimate_rig, place_rig
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.types.alignment import Alignment
from depth_anything_3.types.prediction import Prediction
from depth_anything_3.types.rig import Rig

_HARDLY_FITS = 0.5  # of the size of the rig


def check_rig(rig: Rig | int, views: int, *, with_poses: bool, infer_gs: bool) -> None:
    """Raise :class:`InputError` for a rig that does not fit what else was asked for."""
    cameras = rig if isinstance(rig, int) else len(rig)
    if isinstance(rig, bool) or cameras < 1 or views % cameras:
        expected = "a number of cameras that divides the number of views: all cameras of the first time come first"
        raise InputError("rig", f"{cameras} cameras for {views} views", expected)
    if with_poses:
        raise InputError("rig", "a rig beside extrinsics", "one or the other")
    if infer_gs:
        raise InputError("rig", "a rig with infer_gs", "one of the two, or gs_source='depth'")


def snap_to_rig(prediction: Prediction, rig: Rig | int) -> Prediction:
    """The prediction with the nearest poses that a rig can have, and its depth in the unit of the rig.

    Args:
        prediction: of T x C views, all cameras of the first time first; without Gaussians.
        rig: a known one; or how many cameras an unknown one has, which is then estimated from all times at once and
            keeps the prediction's unit.

    Raises:
        InputError: no cameras, or a number of views that is no multiple of the number of cameras.
    """
    if prediction.extrinsics is None or prediction.intrinsics is None:
        raise InputError("prediction", "no cameras", "a prediction of a model with cameras")
    poses = prediction.extrinsics.astype(np.float64)
    if isinstance(rig, int):
        found = estimate_rig(poses, rig)
        placed, _ = place_rig(poses, found)
        known, scale = Rig(camera_from_rig=found), 1.0
    else:
        placed, scale = place_rig(poses, rig.camera_from_rig)
        known = rig
    report = _report(prediction, poses, placed, scale, known)
    if not isinstance(rig, int):
        _warn_of_poor_fit(report, rig)
    told = isinstance(rig, int) or report.rule == "unknown"
    return replace(
        prediction,
        depth=(prediction.depth * scale).astype(np.float32),
        extrinsics=placed.astype(np.float32),
        is_metric=prediction.is_metric and told,
        scale_factor=None if prediction.scale_factor is None else prediction.scale_factor * scale,
        rig=known,
        alignment=report,
    )


def _report(
    prediction: Prediction,
    poses: Float[np.ndarray, "n 3 4"],
    placed: Float[np.ndarray, "n 3 4"],
    scale: float,
    rig: Rig,
) -> Alignment:
    distance = np.linalg.norm(scale * camera_centres(poses) - camera_centres(placed), axis=1)
    angle = rotation_angle_deg(poses[:, :, :3] @ placed[:, :, :3].swapaxes(1, 2))
    before = 1.0 if prediction.alignment is None else prediction.alignment.scale
    return Alignment(
        rule="rig" if _size(rig.camera_from_rig) > 0 else "unknown",
        scale=before * scale,
        used=(True,) * len(poses),
        distance=tuple(distance.tolist()),
        angle_deg=tuple(angle.tolist()),
    )


def _size(camera_from_rig: npt.NDArray[np.float64]) -> float:
    """Root mean square distance of the cameras from their middle; 0 where it is rounding noise."""
    centres = camera_centres(camera_from_rig)
    size = float(np.sqrt(np.square(centres - centres.mean(0)).sum(1).mean()))
    return size if size > 1e-9 * max(1.0, float(np.abs(centres).max())) else 0.0


def _warn_of_poor_fit(report: Alignment, rig: Rig) -> None:
    size = _size(rig.camera_from_rig)
    if report.rule == "unknown":
        warnings.warn(
            "rig: cameras in one place cannot tell the scale of the rig; depth and motion keep their own", stacklevel=4
        )
        return
    off = float(np.sqrt(np.mean([d * d for d in report.distance if d is not None])))
    if off > _HARDLY_FITS * size:
        warnings.warn(
            f"rig: the given places of the cameras hardly fit the predicted ones (off by {off:.3g} in a rig of size "
            f"{size:.3g}); the scale of depth and motion is uncertain",
            stacklevel=4,
        )
