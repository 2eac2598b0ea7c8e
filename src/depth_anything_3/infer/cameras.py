"""Cameras that the caller gives: brought into the network's frame before, and used to place the result after."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.alignment import Similarity, align_trajectories
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.metrics.pose import rotation_angle_deg
from depth_anything_3.types.alignment import Alignment, ScaleRule

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MIN_MEDIAN_DISTANCE = 0.1  # of the published rule, in the caller's unit
_COINCIDENT = 1e-6
_HARDLY_FITS = 0.5
_TELLING_DEG = 10.0


def normalise_extrinsics(extrinsics: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4 4"]:
    """World-to-camera poses as the pose encoder expects them: first view at the origin, typical distance one.

    Translations are divided by the lower median of the distances of all N camera centres from the first (its own zero
    included, as published), but by no less than 0.1. With two views that median would be the zero; their distance
    is used instead.
    """
    relative = extrinsics @ np.linalg.inv(extrinsics[:1])
    distances = np.linalg.norm(camera_centres(relative[:, :3]), axis=1)
    if len(relative) == 2:
        unit = distances[1] if distances[1] > _COINCIDENT else 1.0
    else:
        unit = max(float(np.sort(distances)[(len(distances) - 1) // 2]), _MIN_MEDIAN_DISTANCE)
    relative[:, :3, 3] /= unit
    return relative


def align_to_given(
    given: Float[np.ndarray, "n _ 4"], predicted: Float[np.ndarray, "n _ 4"]
) -> tuple[Similarity, Alignment]:
    """The similarity from the world of the given poses to the predicted one, and a report of it.

    Camera centres and orientations decide, see :func:`~depth_anything_3.geometry.alignment.align_trajectories`; a
    third of five or more views may be wrong.

    Args:
        given: NaN for views without a pose; at least one has one.
        predicted: of all views.
    """
    given, predicted = (np.asarray(poses, np.float64)[:, :3] for poses in (given, predicted))
    known: Mask = np.asarray(np.isfinite(given).all(axis=(1, 2)))
    found = align_trajectories(predicted[known], given[known], robust=True)
    return found, _report(found, _RULES[found.rule], given, predicted, known)


_RULES: dict[str, ScaleRule] = {
    "umeyama": "centres",
    "orientations": "distances",
    "orientations, scale unknown": "unknown",
}


def _report(found: Similarity, rule: ScaleRule, given: Array, predicted: Array, known: Mask) -> Alignment:
    moved = found.inverse.on_extrinsics(predicted[known][:, :3])
    there = given[known][:, :3]
    distance = np.linalg.norm(camera_centres(moved) - camera_centres(there), axis=1)
    angle = rotation_angle_deg(moved[:, :, :3] @ there[:, :, :3].swapaxes(1, 2))
    views = np.flatnonzero(known)
    outliers = set(views[list(found.outliers)].tolist())
    values = {int(view): (float(d), float(a)) for view, d, a in zip(views, distance, angle, strict=True)}
    return Alignment(
        rule=rule,
        scale=1 / found.scale,
        used=tuple(i in values and i not in outliers for i in range(len(known))),
        distance=tuple(values[i][0] if i in values else None for i in range(len(known))),
        angle_deg=tuple(values[i][1] if i in values else None for i in range(len(known))),
    )


def poor_scale(report: Alignment, given: Float[np.ndarray, "n _ 4"]) -> str | None:
    """Why given poses do not set the scale of the depth through the predicted places, or hardly; None where they do."""
    if report.rule == "unknown":
        return (
            "extrinsics: one view, or views that share one place, cannot tell the scale of the given poses; "
            "the depth keeps its own scale"
        )
    distances = [d for d, used in zip(report.distance, report.used, strict=True) if used and d is not None]
    off = float(np.sqrt(np.mean(np.square(distances))))
    kept = camera_centres(given[list(report.used), :3])
    spread = float(np.sqrt(((kept - kept.mean(0)) ** 2).sum(1).mean()))
    if off <= _HARDLY_FITS * spread:
        return None
    return (
        f"extrinsics: the given camera positions hardly fit the predicted ones (off by {off:.3g} in a path of size "
        f"{spread:.3g}); the scale of the depth is uncertain"
    )


def with_scale(
    found: Similarity,
    scale: float,
    error: float,
    given: Float[np.ndarray, "n _ 4"],
    predicted: Float[np.ndarray, "n _ 4"],
) -> tuple[Similarity, Alignment]:
    """As :func:`align_to_given`, whose rotation is kept, with a scale that depth ratios set.

    Args:
        found: from the given world to the predicted one.
        scale: of the depth: from the predicted unit to the given one.
        error: of the depth ratios.
        given, predicted: as there.
    """
    given, predicted = (np.asarray(poses, np.float64)[:, :3] for poses in (given, predicted))
    known: Mask = np.asarray(np.isfinite(given).all(axis=(1, 2)))
    middle, seen = camera_centres(given[known]).mean(0), camera_centres(predicted[known]).mean(0)
    moved = replace(found, scale=1 / scale, translation=seen - found.rotation @ middle / scale, outliers=())
    return moved, replace(_report(moved, "depth ratios", given, predicted, known), error=error)


# --- camera-to-world given as world-to-camera --------------------------------------------------------------------


def warn_if_inverted(given: Float[np.ndarray, "n _ 4"], predicted: Float[np.ndarray, "n _ 4"]) -> None:
    """Warn where the relative rotations that came in fit the predicted ones better after inversion.

    Only pairs of views count whose relative rotation would change by 10 degrees and more. Of those, the median must be
    clear on both sides: the inverted one off by less than a quarter of that change, the given one by more than three
    quarters, and four of five pairs must prefer the inverted one. A network that sees no rotation, or any, does not
    lead to a warning.

    Args:
        given: NaN for views without a pose.
        predicted: of the same views.
    """
    known = np.isfinite(given).all(axis=(1, 2))
    R, P = given[known][:, :3, :3].astype(np.float64), predicted[known][:, :3, :3].astype(np.float64)
    i, j = np.triu_indices(len(R), 1)
    as_given, inverted = R[i] @ R[j].swapaxes(1, 2), R[i].swapaxes(1, 2) @ R[j]
    seen = P[i] @ P[j].swapaxes(1, 2)
    change = _angle_deg(as_given, inverted)
    telling = (change >= _TELLING_DEG) & (_angle_deg(as_given, np.eye(3)) >= _TELLING_DEG)
    if not telling.any():
        return
    off, off_inverted = (_angle_deg(way, seen)[telling] for way in (as_given, inverted))
    change = change[telling]
    better = np.mean(off_inverted < off) >= 0.8
    if better and np.median(off_inverted / change) < 1 / 4 and np.median(off / change) > 3 / 4:
        warnings.warn(
            "extrinsics: the rotations between the views fit the predicted ones better after inversion (off "
            f"by {np.median(off_inverted):.1f} instead of {np.median(off):.1f} degrees). World-to-camera poses are "
            "expected; for camera-to-world ones pass extrinsics_convention='opencv_c2w' (or 'opengl_c2w')",
            stacklevel=4,
        )


def _angle_deg(a: Array, b: Array) -> Array:
    angles: Array = rotation_angle_deg(a @ np.broadcast_to(b, a.shape).swapaxes(1, 2))
    return angles
