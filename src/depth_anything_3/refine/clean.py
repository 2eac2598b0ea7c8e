"""Which pixels of a prediction become points."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool

from depth_anything_3.errors import InputError
from depth_anything_3.refine.consistency import votes
from depth_anything_3.refine.flying import flying_pixels
from depth_anything_3.types.options import CleanOptions, clean_preset
from depth_anything_3.types.prediction import Prediction, usable_pixels, valid_pixels

Mask = npt.NDArray[np.bool_]


def keep_pixels(
    prediction: Prediction, options: CleanOptions | str = "clean", *, mask: Bool[np.ndarray, "n h w"] | None = None
) -> Bool[np.ndarray, "n h w"]:
    """Pixels that the cleaning leaves; the prediction itself stays as it is.

    Args:
        prediction: any.
        options: what to leave out, or the name of a preset of :data:`~depth_anything_3.types.options.CLEAN_PRESETS`.
            Of its fields, those about points have no effect here.
        mask: False where a pixel must not become a point, whatever else is true of it.

    Raises:
        InputError: an unknown preset, or a mask of another shape or type.

    Warns:
        UserWarning: ``agreeing_views`` without ``consistency``. What the prediction lacks (sky, confidence, cameras)
            is passed over without one: a preset is for every model.
    """
    chosen = clean_preset(options) if isinstance(options, str) else options
    keep = usable_pixels(prediction) if chosen.drop_sky else valid_pixels(prediction)
    keep &= _checked_mask(mask, prediction.depth.shape)
    looked_at = keep.copy()  # the criteria below see the same pixels, so that their order does not matter
    if chosen.flying:
        keep &= ~flying_pixels(
            prediction.depth,
            looked_at,
            tolerance=chosen.flying,
            width=chosen.flying_width,
            gap=chosen.flying_gap,
        )
    keep &= _confident(prediction, looked_at, chosen.conf_percentile)
    return keep & _consistent(prediction, looked_at, chosen)


def _checked_mask(mask: Mask | None, shape: tuple[int, ...]) -> Mask:
    if mask is None:
        return np.ones(shape, np.bool_)
    if np.shape(mask) != shape or np.asarray(mask).dtype != np.bool_:
        got = f"shape {np.shape(mask)} and dtype {np.asarray(mask).dtype}"
        raise InputError("mask", got, f"shape {shape} and dtype bool")
    return np.asarray(mask)


def _confident(prediction: Prediction, among: Mask, percentile: float) -> Mask:
    """At or above the percentile of the finite confidences among some pixels."""
    if not percentile:
        return among
    if prediction.conf is None:
        # A preset is a set of wishes for any model; only some have confidence.
        return among
    values = prediction.conf[among & np.isfinite(prediction.conf)]
    if not values.size:
        return np.zeros_like(among)
    return prediction.conf >= np.percentile(values, percentile, method="lower")


def _consistent(prediction: Prediction, among: Mask, options: CleanOptions) -> Mask:
    if not options.consistency:
        if options.agreeing_views:
            warnings.warn("agreeing_views has no effect without consistency", stacklevel=3)
        return among
    if prediction.extrinsics is None or prediction.intrinsics is None or len(prediction.depth) < 2:
        return among
    confirmed, contradicted = votes(
        prediction.depth,
        prediction.intrinsics,
        prediction.extrinsics,
        among,
        tolerance=options.consistency,
        neighbours=options.neighbours,
    )
    able = np.minimum(confirmed + contradicted, options.agreeing_views)
    return (contradicted <= confirmed) & (confirmed >= able)
