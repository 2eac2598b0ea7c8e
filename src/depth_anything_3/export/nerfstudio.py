"""``nerfstudio``: a folder to train radiance fields from: ``nerfstudio/transforms.json``, pictures and points.

``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward), in the chosen frame, and so are
the points. The pictures are those that the network saw, with their intrinsics; with ``images=False`` the frames name
the caller's own files instead, with intrinsics for their resolution.
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
FILE, POINTS = "nerfstudio/transforms.json", "nerfstudio/points.ply"


@dataclass(frozen=True, kw_only=True)
class Options(PointOptions):
    """What is written, in which frame; for the points see also :class:`PointOptions`.

    Attributes:
        frame: ``z_up``, which viewers of nerfstudio expect, ``input`` (the world of the poses), or ``first_camera``.
        images: write the pictures; else the frames name the caller's files, at their own resolution.
        points: write ``points.ply``, and name it as the cloud to start from.
    """

    frame: Frame = "z_up"
    images: bool = True
    points: bool = True


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    pictures = [f"nerfstudio/images/{index:04d}.png" for index in range(count)] if options.images else []
    return [FILE, *pictures, *([POINTS] if options.points else [])]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write cameras, pictures and points; views without a usable camera have a picture but no frame.

    Raises:
        InputError: no view has a usable camera, or ``images`` is False and the prediction does not know its inputs.

    Warns:
        UserWarning: an option has no effect, a view has no usable camera, or no point is left.
    """
    from depth_anything_3.export._nerfstudio import write_scene

    if options.points:
        warn_without_effect(prediction, options, "nerfstudio")
    return write_scene(prediction, [folder / name for name in planned_files(len(prediction.depth), options)], options)


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
