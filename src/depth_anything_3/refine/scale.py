"""The unit of a prediction from something whose length is known, and depth pinned to measured points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.units import in_other_unit
from depth_anything_3.metrics.depth import valid_pixels
from depth_anything_3.refine.depth_alignment import AlignedDepth, AlignmentOptions, SeenPoints, align_depth
from depth_anything_3.types.alignment import Alignment, ScaleRule
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.prediction import Prediction, usable_pixels

Array = npt.NDArray[np.float64]

_ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class KnownDistance:
    """The distance between two things that can be pointed at.

    Attributes:
        views: index of the view that each end is seen in; both may be the same.
        xy: pixel of each end in the picture as it was given.
        metres: between the two.
    """

    views: tuple[int, int]
    xy: tuple[tuple[float, float], tuple[float, float]]
    metres: float


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The distance between two cameras, such as those of a stereo pair.

    Attributes:
        metres: between their centres.
        views: their indices.
    """

    metres: float
    views: tuple[int, int] = (0, 1)


Reference = KnownDistance | Baseline | SeenPoints
"""What tells the unit. :class:`~depth_anything_3.refine.depth_alignment.SeenPoints` are in pixels of the pictures
as they were given, and in metres."""


def rescale_to(prediction: Prediction, reference: Reference) -> Prediction:
    """The prediction in metres: depth, poses and Gaussians times one factor.

    From points, the factor is a robust mean of ``log(known / predicted)`` that weighs each by its sigma; half of them
    may be wrong. ``Prediction.alignment`` says what was done.

    Args:
        prediction: any; cameras are needed for distances and baselines.
        reference: what is known. Pixels count in the picture as it was given, where the prediction has resize records,
            else in its maps.

    Raises:
        InputError: the reference does not fit the prediction, or nothing is known where it points.
    """
    rule: ScaleRule = "points"
    if isinstance(reference, SeenPoints):
        residual, sigma = _residuals(prediction, reference)
        factor = float(np.exp(_robust_mean(residual, sigma)))
        error: float | None = float(np.median(np.abs(residual - np.log(factor))))
    else:
        length = _predicted_length(prediction, reference)
        metres = reference.metres
        if not (np.isfinite(metres) and metres > 0):
            raise InputError("reference.metres", repr(metres), "a positive length")
        if not (np.isfinite(length) and length > 0):
            raise InputError("reference", f"a predicted length of {length:g} there", "two places apart, of known depth")
        factor, error = metres / length, None
        rule = "baseline" if isinstance(reference, Baseline) else "known distance"
    return _rescaled(prediction, factor, rule, error)


def pin_to_points(
    prediction: Prediction, points: SeenPoints, *, options: AlignmentOptions | None = None
) -> tuple[Prediction, AlignedDepth]:
    """The prediction in metres with the depth of each view laid onto measured points, such as those of a LiDAR.

    First :func:`rescale_to` for everything, then by view one scale or a smooth field of scales, whichever tells points
    best that it has not seen: see :func:`~depth_anything_3.refine.depth_alignment.align_depth`.

    Args:
        prediction: any; Gaussians follow the depth of their pixels.
        points: in pixels of the pictures as they were given, in metres.
        options: when a view gets a field, and when it keeps the common scale.

    Returns:
        the prediction, and the report with residuals before and after.

    Raises:
        InputError: the points do not fit the prediction, none of them meets a known depth, or Gaussians are not one
            per pixel.
    """
    scaled = rescale_to(prediction, points)
    there = replace(points, xy=_in_maps(prediction, points.view, points.xy))
    height, width = prediction.depth.shape[1:]
    report = align_depth(scaled.depth, there, (height, width), masks=usable_pixels(prediction), options=options)
    assert scaled.alignment is not None
    error = float(np.nanmedian(report.residual_after))
    alignment = replace(scaled.alignment, error=error)
    pinned = replace(scaled, depth=report.depth.astype(np.float32), alignment=alignment)
    if scaled.gaussians is not None:
        from depth_anything_3.refine.prediction import with_gaussians_of

        pinned = with_gaussians_of(scaled, pinned)
    return pinned, report


def _rescaled(prediction: Prediction, factor: float, rule: ScaleRule, error: float | None) -> Prediction:
    before = prediction.alignment
    return replace(
        in_other_unit(prediction, factor),
        is_metric=True,
        alignment=Alignment(rule=rule, scale=factor * (1.0 if before is None else before.scale), error=error),
    )


def _predicted_length(prediction: Prediction, reference: KnownDistance | Baseline) -> float:
    if prediction.extrinsics is None or prediction.intrinsics is None:
        raise InputError("prediction", "no cameras", "a prediction of a model with cameras")
    for view in reference.views:
        _check_view(prediction, view)
    poses = prediction.extrinsics.astype(np.float64)
    if isinstance(reference, Baseline):
        first, second = camera_centres(poses[list(reference.views)])
        return float(np.linalg.norm(first - second))
    ends = []
    for view, xy in zip(reference.views, reference.xy, strict=True):
        spot = _in_maps(prediction, np.array([view]), np.array([xy], np.float64))
        z = _depth_at(prediction, np.array([view]), spot)[0]
        ray = np.linalg.solve(prediction.intrinsics[view].astype(np.float64), np.append(spot[0], 1.0))
        ends.append(poses[view, :, :3].T @ (z * ray - poses[view, :, 3]))
    return float(np.linalg.norm(ends[0] - ends[1]))


def _check_view(prediction: Prediction, view: int) -> None:
    if not 0 <= view < len(prediction.depth):
        raise InputError("reference.views", str(view), f"an index from 0 to {len(prediction.depth) - 1}")


def _residuals(prediction: Prediction, points: SeenPoints) -> tuple[Array, Array]:
    """Log of known over predicted depth at the points that meet a known depth, and their sigmas."""
    for view in np.unique(points.view):
        _check_view(prediction, int(view))
    z = _depth_at(prediction, points.view, _in_maps(prediction, points.view, points.xy))
    known = valid_pixels(z)
    if not known.any():
        raise InputError("reference", f"{len(z)} points, none of them where depth is known", "points in the pictures")
    return np.log(points.depth[known] / z[known]), points.sigma[known]


def _robust_mean(residual: Array, sigma: Array) -> float:
    """Mean with Cauchy weights, starting from the median, so that half of the values may be far off."""
    mean = float(np.median(residual))
    for _ in range(_ROUNDS):
        off = residual - mean
        noise = max(1.4826 * float(np.median(np.abs(off))), 1e-6)
        variance = noise**2 + sigma**2
        weight = 1 / (variance * (1 + off**2 / (4 * variance)))
        mean = float(weight @ residual / weight.sum())
    return mean


def _in_maps(prediction: Prediction, view: npt.NDArray[np.integer], xy: Array) -> Array:
    """Pixels of the given pictures as pixels of the maps."""
    if not prediction.records:
        return xy
    records: Sequence[ResizeRecord] = [prediction.records[int(v)] for v in view]
    scale = np.array([record.scale_xy for record in records]).reshape(-1, 2)
    offset = np.array([record.offset_xy for record in records]).reshape(-1, 2)
    return scale * xy + offset


def _depth_at(prediction: Prediction, view: npt.NDArray[np.integer], xy: Float[np.ndarray, "o 2"]) -> Array:
    """Depth of the pixel that each place falls on; NaN outside of the map, in the sky and where it is masked out."""
    height, width = prediction.depth.shape[1:]
    column, row = np.floor(xy).astype(np.int64).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    at = view, row.clip(0, height - 1), column.clip(0, width - 1)
    inside &= usable_pixels(prediction)[at]
    return np.where(inside, prediction.depth[at].astype(np.float64), np.nan)
