"""``glb``: coloured points and cameras in one binary glTF file, with previews of the depth beside it.

Pixels are unprojected from their centres, at half-integer coordinates; the published exporter takes whole numbers.
Colours are linear, as glTF wants them, and shown without lights. Points are thinned out evenly and reproducibly.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export import depth_vis
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})
FILE, THUMBNAIL = "scene.glb", "scene.jpg"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which pixels become points, and what else is written.

    A pixel needs a confidence of ``min(max(conf_thresh, P(conf_thresh_percentile)), P(ensure_thresh_percentile))``,
    where P are percentiles over all pixels of all views. Predictions without confidence keep every valid pixel.

    Attributes:
        num_max_points: at most so many points; more are thinned out evenly.
        conf_thresh: the lowest confidence that is ever enough.
        filter_black_bg: leave out pixels that are nearly black (all channels below 16).
        filter_white_bg: leave out pixels that are nearly white (all channels at least 240).
        conf_thresh_percentile: the share of pixels, in percent, that is left out as least confident.
        ensure_thresh_percentile: above this percentile pixels are kept, however uncertain the scene is.
        show_cameras: draw every camera as a pyramid of lines. Poses and lenses are in the file either way.
        camera_size: height of these pyramids as a share of the size of the scene.
        export_depth_vis: also write ``depth_vis/*.jpg``, and the first of them again as ``scene.jpg``.
    """

    num_max_points: int = 1_000_000
    conf_thresh: float = 1.05
    filter_black_bg: bool = False
    filter_white_bg: bool = False
    conf_thresh_percentile: float = 40.0
    ensure_thresh_percentile: float = 90.0
    show_cameras: bool = True
    camera_size: float = 0.03
    export_depth_vis: bool = True

    def __post_init__(self) -> None:
        if self.num_max_points < 1:
            raise InputError("num_max_points", str(self.num_max_points), "at least 1")
        if math.isnan(self.conf_thresh):
            raise InputError("conf_thresh", "nan", "a confidence")
        for name in ("conf_thresh_percentile", "ensure_thresh_percentile"):
            if not 0 <= getattr(self, name) <= 100:
                raise InputError(name, str(getattr(self, name)), "a percentage from 0 to 100")
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

    _warn_without_effect(prediction, options)
    paths = [build_scene(prediction, options).write(folder / FILE)]
    if options.export_depth_vis:
        previews = depth_vis.export(prediction, folder, depth_vis.Options())
        with atomic_path(folder / THUMBNAIL) as temporary:
            shutil.copyfile(previews[0], temporary)
        paths += [*previews, folder / THUMBNAIL]
    return paths


def _warn_without_effect(prediction: Prediction, options: Options) -> None:
    if options.conf_thresh_percentile > options.ensure_thresh_percentile:
        warnings.warn(
            f"glb: conf_thresh_percentile={options.conf_thresh_percentile:g} has no effect above "
            f"ensure_thresh_percentile={options.ensure_thresh_percentile:g}",
            stacklevel=3,
        )
    names = ("conf_thresh", "conf_thresh_percentile", "ensure_thresh_percentile")
    published = {field.name: field.default for field in dataclasses.fields(options)}
    changed = [name for name in names if getattr(options, name) != published[name]]
    if prediction.conf is None and changed:
        warnings.warn(f"glb: {', '.join(changed)} without effect, the prediction has no confidence", stacklevel=3)


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
