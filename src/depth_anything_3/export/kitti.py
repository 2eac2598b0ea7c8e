"""``kitti``: the trajectory in the format of the KITTI odometry benchmark, ``kitti.txt``.

Rows of 12 numbers, a 3x4 camera-to-world matrix row after row, OpenCV axes. The format has no comments: frame and unit
stand in ``exports.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.export._point_options import Frame
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics"})
FILE = "kitti.txt"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The frame.

    Attributes:
        frame: ``input`` (the world of the poses), ``first_camera`` (as in KITTI's own files), or ``z_up``.
    """

    frame: Frame = "input"


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write one row per view.

    Raises:
        InputError: a pose is not finite.
    """
    from depth_anything_3.export._trajectory import kitti_lines, world_from_cameras

    lines = kitti_lines(world_from_cameras(prediction, options.frame))
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return [folder / FILE]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
