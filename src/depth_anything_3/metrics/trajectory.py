"""Errors of whole camera paths (numpy; world-to-camera, OpenCV axes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.alignment import Similarity, align_trajectories
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.metrics.pose import rotation_angle_deg

Array = npt.NDArray[np.float64]

TrajectoryAlignment = Literal["sim3", "se3", "none"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrajectoryErrors:
    """Distances between predicted and true camera centres after alignment.

    Attributes:
        distances: (N,) in the unit of the true poses.
        similarity: what was applied to the prediction; None for no alignment. Its ``scale`` is 1 for ``"se3"``. Its
            ``rule`` says whether the centres could decide (``"umeyama"``) or the orientations had to.
    """

    distances: Array
    similarity: Similarity | None

    @property
    def rmse(self) -> float:
        """The absolute trajectory error (ATE): root of the mean of the squared distances."""
        return float(np.sqrt(np.mean(self.distances**2)))


@dataclass(frozen=True, kw_only=True, eq=False)
class StepErrors:
    """Errors of the motion over a fixed number of frames.

    Attributes:
        translation: (N - step,) in the unit of the true poses.
        rotation_deg: (N - step,) degrees.
    """

    translation: Array
    rotation_deg: Array

    @property
    def translation_rmse(self) -> float:
        """Root of the mean squared translation error."""
        return float(np.sqrt(np.mean(self.translation**2)))

    @property
    def rotation_rmse_deg(self) -> float:
        """Root of the mean squared rotation error in degrees."""
        return float(np.sqrt(np.mean(self.rotation_deg**2)))


def trajectory_errors(
    predicted: Float[np.ndarray, "n rows 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    alignment: TrajectoryAlignment = "sim3",
) -> TrajectoryErrors:
    """Absolute trajectory error (Sturm et al., IROS 2012).

    ``"sim3"`` and ``"se3"`` move the centres by least squares (Umeyama 1991), with and without a scale. Where centres
    cannot fix a rotation (one or two views, or a straight path) the orientations of the cameras help, as in
    :func:`~depth_anything_3.geometry.alignment.align_trajectories`. One view always has an error of zero.

    Args:
        predicted: world-to-camera poses, 3x4 or 4x4.
        true: of the same views.
        alignment: ``"sim3"``, ``"se3"`` or ``"none"``.

    Raises:
        InputError: a shape is wrong, a pose is not finite, there is no view, or the alignment is unknown.
    """
    if alignment not in ("sim3", "se3", "none"):
        raise InputError("alignment", repr(alignment), "a way to align", ("sim3", "se3", "none"))
    e_predicted, e_true = _finite_poses(predicted, true)
    source, target = camera_centres(e_predicted), camera_centres(e_true)
    if alignment == "none":
        return TrajectoryErrors(distances=np.linalg.norm(source - target, axis=1), similarity=None)
    similarity = align_trajectories(e_true, e_predicted)
    if alignment == "se3":
        # The best rotation does not depend on the scale; the best translation then joins the centroids.
        shift = target.mean(0) - similarity.rotation @ source.mean(0)
        similarity = Similarity(similarity.rotation, shift, 1.0, similarity.rule)
    distances = np.linalg.norm(similarity.on_points(source) - target, axis=1)
    return TrajectoryErrors(distances=distances, similarity=similarity)


def step_errors(
    predicted: Float[np.ndarray, "n rows 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    step: int = 1,
    scale: float = 1.0,
) -> StepErrors:
    """Relative pose error (Sturm et al., IROS 2012): drift over ``step`` frames, whatever the world frame.

    With ``P`` camera-to-world, the error of frame i is ``(Q_i^-1 Q_i+step)^-1 (P_i^-1 P_i+step)``.

    Args:
        predicted: world-to-camera poses, 3x4 or 4x4.
        true: of the same views.
        step: frames between the two ends of a motion.
        scale: factor for the predicted translations, such as ``similarity.scale`` of :func:`trajectory_errors`.

    Raises:
        InputError: a shape is wrong, a pose is not finite, or the step is below 1 or not below N.
    """
    e_predicted, e_true = _finite_poses(predicted, true)
    if not 1 <= step < len(e_true):
        raise InputError("step", repr(step), f"at least 1 and below the number of views, {len(e_true)}")
    r_predicted, t_predicted = _motions(e_predicted, step)
    r_true, t_true = _motions(e_true, step)
    # The true motion's inverse only turns the difference of the translations.
    return StepErrors(
        translation=np.linalg.norm(scale * t_predicted - t_true, axis=-1),
        rotation_deg=rotation_angle_deg(r_true.swapaxes(-1, -2) @ r_predicted),
    )


def align_by_orientations(
    predicted: Float[np.ndarray, "n rows 4"], true: Float[np.ndarray, "n rows 4"], *, scale: float
) -> Similarity:
    """The similarity with a known scale that fits the worlds by the cameras' axes: no camera decides alone.

    The rotation is the chordal mean of the rotations between the two worlds that each view votes for; the translation
    joins the centroids of the centres. Unlike a fit to the centres it is defined for one view, and does not turn the
    world about when a short path is noisy.

    Args:
        predicted: world-to-camera poses, 3x4 or 4x4.
        true: of the same views.
        scale: factor for the predicted world.

    Raises:
        InputError: a shape is wrong, a pose is not finite, or there is no view.
    """
    e_predicted, e_true = _finite_poses(predicted, true)
    votes = np.einsum("nji,njk->ik", e_true[..., :3], e_predicted[..., :3])
    rotation = nearest_rotation(votes)
    shift = camera_centres(e_true).mean(0) - scale * rotation @ camera_centres(e_predicted).mean(0)
    return Similarity(rotation, shift, scale, "orientations")


def _motions(poses: Array, step: int) -> tuple[Array, Array]:
    """Pose of camera i + step in camera i: E_i E_(i+step)^-1."""
    rotation = poses[:-step, :, :3] @ poses[step:, :, :3].swapaxes(-1, -2)
    return rotation, poses[:-step, :, 3] - (rotation @ poses[step:, :, 3:])[..., 0]


def _finite_poses(predicted: npt.NDArray[np.floating], true: npt.NDArray[np.floating]) -> tuple[Array, Array]:
    """Both as float64 (N, 3, 4)."""
    for name, value in (("predicted", predicted), ("true", true)):
        if np.ndim(value) != 3 or not len(value) or np.shape(value)[1:] not in ((3, 4), (4, 4)):
            raise InputError(name, f"shape {np.shape(value)}", "at least one pose, shape (N, 3, 4) or (N, 4, 4)")
        if not np.isfinite(value).all():
            raise InputError(name, "poses that are not finite", "finite poses")
    if len(predicted) != len(true):
        raise InputError("predicted", f"{len(predicted)} poses", f"as many as in `true`, {len(true)}")
    return np.asarray(predicted, np.float64)[:, :3], np.asarray(true, np.float64)[:, :3]
