"""Cameras and pixels at the resolution of the caller's pictures."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]


def source_from_processed(prediction: Prediction) -> Array:
    """(N, 3, 3) matrices from pixels of the processed images to those of the upright source pictures.

    The inverse of ``processed = scale * source + offset``; the identity for predictions without records.
    """
    if not prediction.records:
        return np.tile(np.eye(3), (len(prediction.depth), 1, 1))
    return np.stack([record.source_from_processed for record in prediction.records])


def source_intrinsics(prediction: Prediction) -> Array:
    """(N, 3, 3) camera matrices in pixels of the upright source pictures."""
    assert prediction.intrinsics is not None
    return source_from_processed(prediction) @ prediction.intrinsics.astype(np.float64)


def source_sizes(prediction: Prediction) -> list[tuple[int, int]]:
    """Height and width of every source picture; of the processed image where there is no record."""
    if prediction.records:
        return [record.source_hw for record in prediction.records]
    _, height, width = prediction.depth.shape
    return [(height, width)] * len(prediction.depth)


def distinct_names(prediction: Prediction, exporter: str) -> list[str]:
    """A name per view; equal ones are told apart by a number in front.

    Warns:
        UserWarning: names are not distinct.
    """
    if not prediction.names:
        return [f"view_{view:04d}.png" for view in range(len(prediction.depth))]
    if len(set(prediction.names)) == len(prediction.names):
        return list(prediction.names)
    warnings.warn(f"{exporter}: several views have the same name; a number is put in front", stacklevel=3)
    return [f"{view:04d}_{name}" for view, name in enumerate(prediction.names)]
