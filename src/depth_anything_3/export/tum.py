"""``tum``: the trajectory in the format of the TUM RGB-D benchmark, ``tum.txt``.

Rows of ``time tx ty tz qx qy qz qw``: camera-to-world, OpenCV axes, after comments with frame and unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export._point_options import Frame
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics"})
FILE = "tum.txt"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Frame and time stamps.

    Attributes:
        frame: ``input`` (the world of the poses), ``first_camera``, or ``z_up``.
        views_per_second: view i is stamped i / views_per_second seconds. None takes the times of the prediction where
            it has any (views of a video), else 1.
    """

    frame: Frame = "input"
    views_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.views_per_second is not None and not 0 < self.views_per_second < math.inf:
            raise InputError("views_per_second", str(self.views_per_second), "a positive number")


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write one row per view.

    Raises:
        InputError: a pose is not finite.
    """
    from depth_anything_3.export._trajectory import header, tum_lines, world_from_cameras

    poses = world_from_cameras(prediction, options.frame)
    times = [_time(prediction, view, options) for view in range(len(poses))]
    lines = [*header(prediction, options.frame), *tum_lines(poses, times)]
    with atomic_path(folder / FILE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return [folder / FILE]


def _time(prediction: Prediction, view: int, options: Options) -> float:
    if options.views_per_second is None and prediction.timestamps:
        return prediction.timestamps[view]
    return view / (options.views_per_second or 1.0)


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
