"""A prediction in a few numbers, for answers that people and programs read without opening a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

GRID = 8
"""Rows and columns of the coarse depth in a summary."""


def summarise(prediction: Prediction) -> dict[str, Any]:
    """Scale, model and, per view, size, depth and cameras, as plain data.

    Returns:
        ``model_name``, ``scale`` (``"metric"`` or ``"relative"``), ``unit`` (``"metre"`` or None), ``metric_focal``
        (whose focal length made metres), ``processed_size`` ``[width, height]`` and ``views``. A view has ``name``,
        ``source_size`` ``[width, height]``, ``depth`` (``min``, ``median``, ``max`` and ``grid``: the medians of 8 x 8
        cells, rows from the top), ``confidence`` (``median``), ``extrinsics`` (3 x 4, world to camera, OpenCV axes) and
        ``intrinsics`` (3 x 3, pixels of the processed image); what a model does not predict is None.
    """
    _, height, width = prediction.depth.shape
    return {
        "model_name": prediction.model_name,
        "scale": prediction.scale,
        "unit": "metre" if prediction.is_metric else None,
        "metric_focal": prediction.metric_focal,
        "processed_size": [width, height],
        "views": [_view(prediction, index) for index in range(len(prediction.depth))],
    }


def _view(prediction: Prediction, index: int) -> dict[str, Any]:
    depth = prediction.depth[index]
    source = prediction.records[index].source_hw if prediction.records else None
    conf = prediction.conf
    return {
        "name": prediction.names[index] if prediction.names else None,
        "source_size": None if source is None else [source[1], source[0]],
        "depth": {
            "min": _number(np.nanmin(depth)),
            "median": _number(np.nanmedian(depth)),
            "max": _number(np.nanmax(depth)),
            "grid": _grid(depth),
        },
        "confidence": None if conf is None else {"median": _number(np.median(conf[index]))},
        "extrinsics": _matrix(prediction.extrinsics, index),
        "intrinsics": _matrix(prediction.intrinsics, index),
    }


def _grid(depth: npt.NDArray[np.float32]) -> list[list[float | None]]:
    bands = np.array_split(depth, min(GRID, depth.shape[0]), axis=0)
    cells = (np.array_split(band, min(GRID, depth.shape[1]), axis=1) for band in bands)
    return [[_number(np.median(cell)) for cell in row] for row in cells]


def _matrix(matrices: npt.NDArray[np.float32] | None, index: int) -> list[list[float | None]] | None:
    return None if matrices is None else [[_number(value) for value in row] for row in matrices[index]]


def _number(value: Any) -> float | None:
    """Six significant digits, which is what float32 holds; None for what JSON cannot say."""
    return float(f"{float(value):.6g}") if np.isfinite(value) else None
