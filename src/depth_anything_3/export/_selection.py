"""Which pixels become points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.types.prediction import Prediction, usable_pixels

_BLACK_BELOW, _WHITE_FROM = 16, 240
_LOWEST_CONF = 1.0
_SEED = 0


def background(images: npt.NDArray[np.uint8], *, black: bool, white: bool) -> npt.NDArray[np.bool_]:
    """Pixels of a plain backdrop: all channels below 16 (``black``), all at 240 or above (``white``).

    Args:
        images: (..., 3) RGB.
        black: whether nearly black pixels count.
        white: whether nearly white pixels count.
    """
    mask = np.zeros(images.shape[:-1], np.bool_)
    if black:
        mask |= (images < _BLACK_BELOW).all(axis=-1)
    if white:
        mask |= (images >= _WHITE_FROM).all(axis=-1)
    return mask


def confidence_threshold(
    conf: npt.NDArray[np.float32], *, lowest: float, percentile: float, ensure_percentile: float
) -> float:
    """``min(max(lowest, P_percentile), P_ensure)`` over all finite confidences; infinite if there are none.

    The upper percentile lets some points through even where the whole scene is uncertain.
    """
    finite = conf[np.isfinite(conf)]
    if not finite.size:
        return float("inf")
    low, high = np.percentile(finite, (percentile, ensure_percentile))
    return float(min(max(lowest, low), high))


def pixels_to_keep(
    prediction: Prediction,
    *,
    backdrop: npt.NDArray[np.bool_],
    conf_thresh: float,
    conf_thresh_percentile: float,
    ensure_thresh_percentile: float,
) -> npt.NDArray[np.bool_]:
    """(N, H, W) mask of pixels with a depth that is valid, confident, not sky and not backdrop.

    Backdrop counts as least confident in the percentiles, what is masked out not at all. Without confidence, that
    criterion is left out.
    """
    keep = usable_pixels(prediction) & ~backdrop
    if prediction.conf is not None:
        conf = np.where(backdrop, np.float32(_LOWEST_CONF), prediction.conf)
        threshold = confidence_threshold(
            conf if prediction.valid is None else conf[prediction.valid],
            lowest=conf_thresh,
            percentile=conf_thresh_percentile,
            ensure_percentile=ensure_thresh_percentile,
        )
        # float32: the threshold may be one of the values themselves, or 1.05, and neither may be lost to rounding.
        keep &= conf >= np.float32(threshold)
    return keep


def spread_indices(count: int, limit: int) -> npt.NDArray[np.intp]:
    """At most ``limit`` of ``count`` indices, ascending, evenly spread, the same in every run.

    One index is drawn from each of ``limit`` equal stretches: every view and every image region keeps its share, and
    no grid pattern appears as with a fixed stride.
    """
    if count <= limit:
        return np.arange(count)
    edges = np.arange(limit + 1) * count // limit
    random = np.random.default_rng(_SEED).random(limit)
    return edges[:-1] + (random * np.diff(edges)).astype(np.intp)
