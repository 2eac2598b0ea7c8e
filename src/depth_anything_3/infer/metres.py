"""Metres that do not depend on ``process_res``: detail from the size that was asked for, the unit from another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depth_anything_3.geometry.units import in_other_unit
from depth_anything_3.infer.resized import resized_inputs, size_times
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.prediction import Prediction, usable_pixels


def at_metric_size(inputs: ModelInputs, side: int) -> ModelInputs | None:
    """The same pictures with a longest side of about ``side`` pixels; None where they have that size already."""
    height, width = inputs.images.shape[2:]
    size = size_times(inputs, side / max(height, width))
    return None if size == (height, width) else resized_inputs(inputs, size)


def with_metres_of(prediction: Prediction, again: Prediction) -> Prediction:
    """The prediction times the median ratio of the depth of ``again`` to its own.

    One factor for everything where there are cameras, else one for each view. Sky and what is masked out have no say.

    Args:
        prediction: in metres.
        again: in metres, of the same views seen at another size.
    """
    depth = resized_nearest(again.depth, *prediction.depth.shape[1:])
    known = usable_pixels(prediction) & np.isfinite(depth) & (depth > 0)
    ratio = np.divide(depth, prediction.depth, out=np.ones_like(depth), where=known)
    if prediction.extrinsics is not None:
        return in_other_unit(prediction, float(np.median(ratio[known]))) if known.any() else prediction
    factors = [float(np.median(r[k])) if k.any() else 1.0 for r, k in zip(ratio, known, strict=True)]
    return replace(prediction, depth=prediction.depth * np.array(factors, np.float32)[:, None, None])
