"""Coloured points of a prediction as a PLY file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3.export._frames import AXES, first_usable, frame_from_world
from depth_anything_3.export._ply import Element, record, write_ply
from depth_anything_3.export._point_options import Frame, PointOptions
from depth_anything_3.export._points import finite_pixels, point_pixels, thinned, view_points
from depth_anything_3.types.prediction import Prediction

UNITS = {"metric": "metre", "relative": "unknown (relative scale)"}


def write_cloud(
    prediction: Prediction,
    path: Path,
    options: PointOptions,
    frame: Frame,
    exporter: str,
    *,
    usable: npt.NDArray[np.bool_],
    confidence: bool = False,
) -> Path:
    """Write the points that the options keep of the usable views, one view after the other.

    Warns:
        UserWarning: no point is left.
    """
    target_from_world = frame_from_world(prediction, frame, first_usable(prediction))
    keep = point_pixels(prediction, options) & usable[:, None, None]
    keep = thinned(finite_pixels(prediction, keep, target_from_world), options.num_max_points)
    if not keep.any():
        warnings.warn(f"{exporter}: no pixel has a valid, confident depth; {path.name} is empty", stacklevel=3)
    properties = [*(("float", name) for name in "xyz"), *(("uchar", name) for name in ("red", "green", "blue"))]
    if confidence and prediction.conf is not None:
        properties.append(("float", "confidence"))

    def blocks() -> Iterator[npt.NDArray[np.void]]:
        assert prediction.processed_images is not None
        for view in np.flatnonzero(keep.any((1, 2))).tolist():
            points = view_points(prediction, view, keep[view], target_from_world)
            block = np.empty(len(points), record(properties))
            block["x"], block["y"], block["z"] = points.T
            block["red"], block["green"], block["blue"] = prediction.processed_images[view][keep[view]].T
            if "confidence" in (block.dtype.names or ()):
                assert prediction.conf is not None
                block["confidence"] = prediction.conf[view][keep[view]]
            yield block

    comments = [f"frame: {AXES[frame]}", f"unit: {UNITS[prediction.scale]}"]
    return write_ply(path, [Element("vertex", int(keep.sum()), properties, blocks())], comments)
