"""``ply``: coloured points in ``points.ply``, which nearly every program for clouds opens.

Binary little-endian PLY, one vertex per point: x y z as float32, red green blue as bytes (sRGB), and the confidence
where it is asked for. Comments in the header say what the frame and the unit are.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.export._point_options import Frame, PointOptions, warn_without_effect
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})
FILE = "points.ply"


@dataclass(frozen=True, kw_only=True)
class Options(PointOptions):
    """Which pixels become points, in which frame; see also :class:`PointOptions`.

    Attributes:
        frame: ``input`` (the world of the poses), ``first_camera`` (OpenCV axes), or ``z_up`` (at the first camera).
        confidence: also write the confidence of every point, as the property ``confidence``.
    """

    frame: Frame = "input"
    confidence: bool = False


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the points view by view.

    Raises:
        InputError: no view has a usable camera.

    Warns:
        UserWarning: an option has no effect, a view has no usable camera, or no point is left.
    """
    from depth_anything_3.export._cloud import write_cloud
    from depth_anything_3.export._points import usable_cameras

    warn_without_effect(prediction, options, "ply")
    if options.confidence and prediction.conf is None:
        warnings.warn("ply: confidence without effect, the prediction has none", stacklevel=2)
    usable, path = usable_cameras(prediction, "ply"), folder / FILE
    return [write_cloud(prediction, path, options, options.frame, "ply", usable=usable, confidence=options.confidence)]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
