"""``glb``: coloured points and cameras in one binary glTF file, with previews of the depth beside it.

Pixels are unprojected from their centres, at half-integer coordinates; the published exporter takes whole numbers.
Colours are linear, as glTF wants them, and shown without lights. Points are thinned out evenly and reproducibly.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export import depth_vis
from depth_anything_3.export._point_options import Frame, PointOptions, warn_without_effect
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})
FILE, THUMBNAIL = "scene.glb", "scene.jpg"


@dataclass(frozen=True, kw_only=True)
class Options(PointOptions):
    """Which pixels become points, see :class:`PointOptions`, and what else is written.

    Attributes:
        show_cameras: draw every camera as a pyramid of lines. Poses and lenses are in the file either way.
        camera_size: height of these pyramids as a share of the size of the scene.
        frame: axes and place of the scene, always with y up as glTF wants it: ``first_camera`` as published, with the
            origin moved to the median of the points; ``z_up``, level as far as the cameras tell, moved in the same way;
            or ``input``, the world of the poses, turned by 180 degrees around x and not moved.
        export_depth_vis: also write ``depth_vis/*.jpg``, and the first of them again as ``scene.jpg``.
    """

    show_cameras: bool = True
    camera_size: float = 0.03
    frame: Frame = "first_camera"
    export_depth_vis: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.camera_size < math.inf:
            raise InputError("camera_size", str(self.camera_size), "a positive share of the scene's size")


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    previews = depth_vis.planned_files(count, depth_vis.Options()) if options.export_depth_vis else []
    return [FILE, *previews, *([THUMBNAIL] if previews else [])]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the scene, the previews and the thumbnail.

    Raises:
        InputError: no view has a usable camera.

    Warns:
        UserWarning: an option has no effect, a view has no usable camera, or no point is left.
    """
    from depth_anything_3.export._glb_scene import build_scene

    warn_without_effect(prediction, options, "glb")
    paths = [build_scene(prediction, options).write(folder / FILE)]
    if options.export_depth_vis:
        previews = depth_vis.export(prediction, folder, depth_vis.Options())
        with atomic_path(folder / THUMBNAIL) as temporary:
            shutil.copyfile(previews[0], temporary)
        paths += [*previews, folder / THUMBNAIL]
    return paths


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
