"""``rerun``: a recording for the viewer of rerun.io, ``scene.rrd``: points, cameras, pictures, depth, confidence.

Views lie on the timeline ``view``. Needs the extra ``rerun``. Two recordings of the same prediction are equal in
content but not byte for byte: rerun notes when each entry was logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.export._point_options import Frame, PointOptions, warn_without_effect
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})
FILE = "scene.rrd"


@dataclass(frozen=True, kw_only=True)
class Options(PointOptions):
    """Which pixels become points, in which frame; see also :class:`PointOptions`.

    Attributes:
        frame: ``z_up``, ``input`` (the world of the poses), or ``first_camera``.
    """

    frame: Frame = "z_up"


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the recording.

    Raises:
        MissingExtraError: rerun is not installed.
        InputError: no view has a usable camera.

    Warns:
        UserWarning: an option has no effect, or a view has no usable camera.
    """
    from depth_anything_3.export._recording import write_recording

    warn_without_effect(prediction, options, "rerun")
    return [write_recording(prediction, folder / FILE, options)]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
