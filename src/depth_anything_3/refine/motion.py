"""What moves between the views: pixels that the others look through, or see at another depth.

A point that stands still is, in every view that it is not hidden from, where that view sees a surface. A point of
something that moves is not: most views look through the place where it was. So residuals between the views, freed from
what can be explained by noise, tell the two apart, wherever the background behind a moving thing is seen by others.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from depth_anything_3.errors import InputError
from depth_anything_3.refine.consistency import residuals
from depth_anything_3.refine.points import require_cameras
from depth_anything_3.types.prediction import Prediction, usable_pixels

_LEAST_TOLERANCE = 0.03  # share of the depth
_SPREADS = 4.0  # robust standard deviations of the residuals
_QUARTER_OF_A_NORMAL = 0.3186  # standard deviations: a quarter of a normal distribution is nearer to its middle
_WINDOW = 5  # pixels along a side over which votes are joined
_SAME_SURFACE = 0.05  # share of the depth within which neighbours count
_SEEN_THROUGH = 2.0  # votes: what is slow is still where it was in some views, what stands still is never seen through
_SEEDS = 0.25  # of a surface must be found moving before the rest, of which nothing is known, is too
_LEAST_AREA = 5e-4  # of a picture
_MOST_MOVING = 0.5  # of a picture: what moves more looks like a wrong camera


def still_pixels(
    prediction: Prediction, *, neighbours: int = 8, tolerance: float | None = None
) -> Bool[np.ndarray, "n h w"]:
    """Where nothing moves, as far as the views can tell: False on things that are elsewhere in other views.

    Use it as ``masked_out(prediction, still_pixels(prediction))``. What only one view sees, and what has no depth or is
    sky, counts as still: nothing is known of it.

    Args:
        prediction: with cameras, of two or more views at different times.
        neighbours: each view is compared with so many others: those that share most with it.
        tolerance: share of the depth by which views may differ on what stands still; None takes four times the spread
            of the residuals of each two views, and at least 0.03.

    Raises:
        CapabilityError: the prediction has no cameras.
        InputError: a tolerance that is not positive.
    """
    require_cameras(prediction)
    if tolerance is not None and not tolerance > 0:
        raise InputError("tolerance", repr(tolerance), "a positive share of the depth, or None")
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    keep = usable_pixels(prediction)
    still, moved = np.zeros((2, *keep.shape), np.float32)
    for pair in residuals(prediction.depth, prediction.intrinsics, prediction.extrinsics, keep, neighbours=neighbours):
        allowed = _allowed(pair.residual) if tolerance is None else float(np.log1p(tolerance))
        with np.errstate(invalid="ignore"):
            still[pair.view][keep[pair.view]] += np.abs(pair.residual) <= allowed
            moved[pair.view][keep[pair.view]] += pair.residual > allowed
    found = [_regions(*maps) for maps in zip(still, moved, prediction.depth, keep, strict=True)]
    return ~np.stack(found) if found else keep


def _allowed(residual: npt.NDArray[np.float64]) -> float:
    """What noise may make of the depth of one surface, in log depth; occlusion is one-sided and large."""
    known = np.abs(residual[np.isfinite(residual)])
    # A quarter of what two views share stands still even where much moves or is hidden.
    spread = float(np.quantile(known, 0.25)) / _QUARTER_OF_A_NORMAL if known.size else 0.0
    return max(_LEAST_TOLERANCE, _SPREADS * spread)


def _regions(
    still: npt.NDArray[np.float32], moved: npt.NDArray[np.float32], depth: npt.NDArray[np.float32],
    keep: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:  # fmt: skip
    """Moving pixels of one view: votes for it outweigh those against it around them on their surface; no specks."""
    for_it, against = _summed_on_surface(moved, still, np.where(keep, depth, 0))
    moving = (keep & (_SEEN_THROUGH * for_it > against)).astype(np.uint8)
    moving = np.asarray(cv2.morphologyEx(moving, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), np.uint8)
    moving |= _untold(moving, still, depth, keep)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(moving, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= max(4, _LEAST_AREA * moving.size)
    large[0] = False
    result: npt.NDArray[np.bool_] = large[labels] if count > 1 else np.zeros(moving.shape, np.bool_)
    return result if result.mean() <= _MOST_MOVING else np.zeros_like(result)


def _untold(
    moving: npt.NDArray[np.uint8], still: npt.NDArray[np.float32], depth: npt.NDArray[np.float32],
    keep: npt.NDArray[np.bool_],
) -> npt.NDArray[np.uint8]:  # fmt: skip
    """What no view calls still, on surfaces of which a good part moves: no other view may see the place behind it."""
    z = np.where(keep, depth, 0).astype(np.float32)
    around = np.ones((3, 3), np.uint8)
    smooth = cv2.dilate(z, around) <= (1 + _SAME_SURFACE) * cv2.erode(z, around)
    area = (keep & smooth & ((still == 0) | (moving > 0))).astype(np.uint8)
    count, labels = cv2.connectedComponents(area, connectivity=4)
    total = np.bincount(labels.ravel(), minlength=count)
    seeds = np.bincount(labels.ravel(), weights=moving.ravel(), minlength=count)
    joined = seeds >= _SEEDS * np.maximum(total, 1)
    joined[0] = False
    whole = cv2.dilate(joined[labels].astype(np.uint8), around)  # back over the edges that set the surface apart
    return whole & (keep & (still == 0)).astype(np.uint8)


def _summed_on_surface(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], depth: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Sums of two maps over a window, of the pixels whose depth is like that in its middle."""
    half = _WINDOW // 2
    edges = ((half, half), (half, half))
    maps = [np.pad(values, edges) for values in (first, second, depth)]
    height, width = depth.shape
    sums = np.zeros((2, height, width), np.float32)
    for row in range(_WINDOW):
        for column in range(_WINDOW):
            a, b, z = (values[row : row + height, column : column + width] for values in maps)
            like = np.abs(z - depth) <= _SAME_SURFACE * depth
            sums += np.where(like, np.stack((a, b)), np.float32(0))
    return sums[0], sums[1]
