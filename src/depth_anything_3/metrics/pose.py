"""Errors of camera poses and intrinsics (numpy; world-to-camera, OpenCV axes; errors in degrees).

Poses are compared by the relative pose of each pair of views, so that neither the world frame nor the scale of the
prediction matters. There are two conventions:

``"standard"``, the default: the pose of view j relative to view i is ``E_j E_i^-1``, and the translation error is the
    angle between the two directions as seen from view j, 0 to 180 degrees. It does not change when the world of either
    side is moved, turned or scaled. (Listing the views in another order lets some pairs be seen from their other view,
    which changes the direction error a little.)
``"da3"``: what the benchmark code of the published model computes, for comparison with its tables. All poses are
    expressed relative to view 0, then ``E_i^-1 E_j`` is taken. In matrices that act on columns this is the motion as
    seen from camera 0, and its translation contains the distance to that camera: an error of camera 0 alone enters all
    pairs. The angle is folded to 0 to 90 degrees, so that the opposite direction is no error.

The direction of a translation that is zero is not defined. In the standard convention, a pair whose true baseline is
at most ``min_baseline * scene_size`` has no translation error (NaN) and counts by its rotation alone; a predicted
baseline of exactly zero where the true one is not counts as 180 degrees. In ``"da3"`` no pair is left out, and a
translation of zero on either side counts as 90 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError

Array = npt.NDArray[np.float64]

PoseConvention = Literal["standard", "da3"]
AucRule = Literal["histogram", "exact"]

MIN_BASELINE = 0.01
"""Baselines up to this part of the size of the scene have no direction."""

AUC_THRESHOLDS_DEG = (5, 15, 30)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairErrors:
    """Errors of all pairs of views i < j, in the order (0, 1), (0, 2), ..., (1, 2), ...

    Attributes:
        rotation_deg: (P,) angle between the relative rotations; NaN where the prediction is not finite.
        translation_deg: (P,) angle between the directions of the relative translations; NaN where the truth has no
            direction, inf where the prediction is not finite.
    """

    rotation_deg: Array
    translation_deg: Array

    @property
    def pair_deg(self) -> Array:
        """(P,) the larger of both errors; the rotation error where the translation has none; NaN as a miss."""
        larger = np.fmax(self.rotation_deg, self.translation_deg)
        return np.where(np.isnan(self.rotation_deg), np.nan, larger)


def pair_errors(
    predicted: Float[np.ndarray, "n rows 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    convention: PoseConvention = "standard",
    scene_size: float | None = None,
    min_baseline: float = MIN_BASELINE,
) -> PairErrors:
    """Rotation and translation errors of all pairs of views.

    Args:
        predicted: world-to-camera poses, 3x4 or 4x4. One that is not finite makes its pairs misses.
        true: world-to-camera poses of the same views.
        convention: see the module.
        scene_size: a length that the baselines are measured against, in the unit of the true translations; the median
            true depth is a good one. By default the largest true baseline. Without effect on ``"da3"``.
        min_baseline: see the module.

    Returns:
        Errors of the N (N - 1) / 2 pairs; none for one view.

    Raises:
        InputError: a shape is wrong, a true pose is not finite, or the convention is unknown.
    """
    if convention not in ("standard", "da3"):
        raise InputError("convention", repr(convention), "a convention for relative poses", ("standard", "da3"))
    e_predicted, e_true = _poses("predicted", predicted), _poses("true", true)
    _check_count("poses", len(e_predicted), len(e_true))
    if convention == "standard":
        return errors_of_pairs(relative_poses(e_predicted), e_true, scene_size=scene_size, min_baseline=min_baseline)
    _check_finite(e_true)
    r_true, t_true = _relative_da3(e_true)
    with np.errstate(invalid="ignore"):  # a prediction that is not finite
        r_predicted, t_predicted = _relative_da3(e_predicted)
        rotation = rotation_angle_deg(r_predicted.swapaxes(-1, -2) @ r_true)
    return PairErrors(rotation_deg=rotation, translation_deg=_folded_angle_deg(t_predicted, t_true))


def relative_poses(poses: Float[np.ndarray, "n rows 4"]) -> Float[np.ndarray, "p 3 4"]:
    """Pose of view j relative to view i, ``E_j E_i^-1``, of all pairs in the order of :class:`PairErrors`.

    Args:
        poses: world-to-camera, 3x4 or 4x4. One that is not finite makes its pairs NaN.

    Raises:
        InputError: the shape is wrong.
    """
    e = _poses("poses", poses)
    i, j = np.triu_indices(len(e), 1)
    with np.errstate(invalid="ignore"):
        rotation = e[j, :, :3] @ e[i, :, :3].swapaxes(-1, -2)
        translation = e[j, :, 3:] - rotation @ e[i, :, 3:]
    return np.concatenate([rotation, translation], -1)


def errors_of_pairs(
    predicted: Float[np.ndarray, "p 3 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    scene_size: float | None = None,
    min_baseline: float = MIN_BASELINE,
) -> PairErrors:
    """As :func:`pair_errors` in the standard convention, of pairs that were predicted each by itself.

    Args:
        predicted: one pose per pair, as from :func:`relative_poses`. One that is not finite is a miss.
        true, scene_size, min_baseline: as there.

    Raises:
        InputError: a shape is wrong, or a true pose is not finite.
    """
    pairs, e_true = _poses("predicted", predicted), _poses("true", true)
    _check_finite(e_true)
    known = relative_poses(e_true)
    _check_count("pairs", len(pairs), len(known))
    with np.errstate(invalid="ignore"):  # a prediction that is not finite
        rotation = rotation_angle_deg(pairs[..., :3].swapaxes(-1, -2) @ known[..., :3])
    translation = angle_between_deg(pairs[..., 3], known[..., 3])
    baseline = np.linalg.norm(known[..., 3], axis=-1)
    size = float(baseline.max(initial=0.0)) if scene_size is None else scene_size
    translation[baseline <= min_baseline * size] = np.nan
    return PairErrors(rotation_deg=rotation, translation_deg=translation)


def auc(errors_deg: Float[np.ndarray, " p"], max_deg: int, *, rule: AucRule = "histogram") -> float:
    """Area under the curve of recall against allowed error, from 0 to 1.

    Args:
        errors_deg: one error per pair; NaN is a miss.
        max_deg: the largest allowed error T, whole degrees.
        rule: ``"histogram"``, as in the published tables: the mean over k = 1, ..., T of the part of the pairs with an
            error below k degrees (at T itself: at most T). With T = 3 that is three numbers.
            ``"exact"``: the integral, which is the mean of ``max(0, 1 - error / T)``.

    Raises:
        InputError: there is no pair, the threshold is below 1, or the rule is unknown.
    """
    if not len(errors_deg):
        raise InputError("errors_deg", "no pair", "at least one pair of views")
    if max_deg < 1:
        raise InputError("max_deg", repr(max_deg), "at least 1 degree")
    if rule not in ("histogram", "exact"):
        raise InputError("rule", repr(rule), "a rule for the area", ("histogram", "exact"))
    errors = np.where(np.isnan(errors_deg), np.inf, errors_deg)
    if rule == "exact":
        return float(np.mean(np.maximum(0.0, 1 - errors / max_deg)))
    counts, _ = np.histogram(errors, bins=max_deg, range=(0, max_deg))
    return float(np.mean(np.cumsum(counts)) / len(errors))


def recall_within(errors_deg: Float[np.ndarray, " p"], max_deg: float) -> float:
    """Part of the pairs with an error below a limit, from 0 to 1: RRA of rotation errors, RTA of translation errors.

    Args:
        errors_deg: one error per pair; NaN is a miss, so leave out pairs without a true direction.
        max_deg: the limit in degrees.

    Raises:
        InputError: there is no pair.
    """
    if not len(errors_deg):
        raise InputError("errors_deg", "no pair", "at least one pair of views")
    with np.errstate(invalid="ignore"):
        return float(np.mean(errors_deg < max_deg))


def pose_auc(
    predicted: Float[np.ndarray, "n rows 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    thresholds_deg: Sequence[int] = AUC_THRESHOLDS_DEG,
    rule: AucRule = "histogram",
    convention: PoseConvention = "standard",
    scene_size: float | None = None,
) -> dict[int, float]:
    """:func:`auc` of the larger of rotation and translation error over all pairs, by threshold.

    Arguments as in :func:`pair_errors` and :func:`auc`, whose errors are raised; one view has no pair.
    """
    errors = pair_errors(predicted, true, convention=convention, scene_size=scene_size)
    return {t: auc(errors.pair_deg, t, rule=rule) for t in thresholds_deg}


def rotation_auc(
    predicted: Float[np.ndarray, "n rows 4"],
    true: Float[np.ndarray, "n rows 4"],
    *,
    thresholds_deg: Sequence[int] = AUC_THRESHOLDS_DEG,
    rule: AucRule = "histogram",
) -> dict[int, float]:
    """:func:`auc` of the rotation errors alone, for scenes whose cameras hardly move.

    Arguments as in :func:`pair_errors` and :func:`auc`, whose errors are raised; one view has no pair.
    """
    errors = pair_errors(predicted, true)
    return {t: auc(errors.rotation_deg, t, rule=rule) for t in thresholds_deg}


def median_rotation_error_deg(predicted: Float[np.ndarray, "n rows 4"], true: Float[np.ndarray, "n rows 4"]) -> float:
    """Median over all pairs of views of the relative rotation error in degrees; a pose that is not finite counts 180.

    Raises:
        InputError: as in :func:`pair_errors`, or there is no pair.
    """
    errors = pair_errors(predicted, true).rotation_deg
    if not len(errors):
        raise InputError("predicted", "one view", "at least two views")
    return float(np.median(np.where(np.isnan(errors), 180.0, errors)))


def focal_errors(predicted: Float[np.ndarray, "n 3 3"], true: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, " n"]:
    """Relative error of the focal length of each view: mean over both axes of ``|f / f_true - 1|``.

    Args:
        predicted: camera matrices; what is not finite gives inf.
        true: camera matrices in the same pixels.
    """
    f, g = (np.asarray(k, np.float64)[:, [0, 1], [0, 1]] for k in (predicted, true))
    if f.shape != g.shape:
        raise InputError("predicted", f"{len(f)} matrices", f"as many as in `true`, {len(g)}")
    errors: Array = np.abs(f / g - 1).mean(1)
    return np.where(np.isfinite(errors), errors, np.inf)


def fov_errors_deg(
    predicted: Float[np.ndarray, "n 3 3"], true: Float[np.ndarray, "n 3 3"], height: int, width: int
) -> Float[np.ndarray, "n 2"]:
    """Absolute error of the horizontal and the vertical field of view of each view, in degrees.

    The field of view is that of a centred principal point, ``2 atan(W / 2 fx)``.

    Args:
        predicted, true: camera matrices in pixels of one image size.
        height, width: that size.
    """
    size = np.array([width, height], np.float64)
    f, g = (np.asarray(k, np.float64)[:, [0, 1], [0, 1]] for k in (predicted, true))
    errors: Array = np.degrees(np.abs(2 * np.arctan2(size, 2 * f) - 2 * np.arctan2(size, 2 * g)))
    return errors


def rotation_angle_deg(rotation: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch"]:
    """Angle of rotations in degrees, 0 to 180, accurate at both ends; NaN where an entry is not finite."""
    m = np.asarray(rotation, np.float64)
    axis = np.stack((m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]), -1)
    angle: Array = np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(m, axis1=-2, axis2=-1) - 1))
    return angle


def angle_between_deg(
    a: Float[np.ndarray, "*batch 3"], b: Float[np.ndarray, "*batch 3"]
) -> Float[np.ndarray, "*batch"]:
    """Angle between vectors in degrees, 0 to 180; 180 where either is zero, inf where either is not finite."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit_a, unit_b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    # Kahan's formula: unlike the arc cosine it keeps its digits for small angles.
    angle = 2 * np.arctan2(np.linalg.norm(unit_a - unit_b, axis=-1), np.linalg.norm(unit_a + unit_b, axis=-1))
    finite = np.isfinite(a).all(-1) & np.isfinite(b).all(-1)
    return np.where(finite, np.where(np.isnan(angle), 180.0, np.degrees(angle)), np.inf)


def _poses(name: str, value: npt.NDArray[np.floating]) -> Array:
    if np.ndim(value) != 3 or np.shape(value)[1:] not in ((3, 4), (4, 4)):
        raise InputError(name, f"shape {np.shape(value)}", "world-to-camera poses of shape (N, 3, 4) or (N, 4, 4)")
    return np.asarray(value, np.float64)[:, :3]


def _check_finite(true: Array) -> None:
    if not np.isfinite(true).all():
        raise InputError("true", "poses that are not finite", "finite poses")


def _check_count(what: str, count: int, wanted: int) -> None:
    if count != wanted:
        raise InputError("predicted", f"{count} {what}", f"as many as in `true`, {wanted}")


def _relative_da3(poses: Array) -> tuple[Array, Array]:
    """E_i^-1 E_j of all pairs i < j after E = E E_0^-1."""
    rotation = poses[:, :, :3] @ poses[:1, :, :3].swapaxes(-1, -2)
    translation = poses[:, :, 3] - (rotation @ poses[0, :, 3])
    i, j = np.triu_indices(len(poses), 1)
    back = rotation[i].swapaxes(-1, -2)
    return back @ rotation[j], (back @ (translation[j] - translation[i])[..., None])[..., 0]


def _folded_angle_deg(a: Array, b: Array) -> Array:
    """Angle between lines, 0 to 90 degrees; 90 where a vector is zero, inf where one is not finite."""
    angle = angle_between_deg(a, b)
    folded = np.minimum(angle, 180 - angle)
    zero = (np.linalg.norm(a, axis=-1) == 0) | (np.linalg.norm(b, axis=-1) == 0)
    return np.where(np.isfinite(angle), np.where(zero, 90.0, folded), np.inf)
