"""``colmap``: cameras, images and points as a COLMAP model, for the resolution of the caller's pictures.

``cameras``, ``images`` and ``points3D``, binary or text, in the folder itself as published, or in ``sparse/0``. Cameras
are PINHOLE (which knows no skew), in pixels of the upright pictures, and images have the names of the inputs.
Versions of COLMAP that know rigs make one per camera when they read the model.

Observations, in fractions of a pixel, are the matches of the refinement where there was one: keypoints that several
views were found to share. Their points come first; pixels where views agree on depth fill up the model, as points
without observations, so that they do not speak in a bundle adjustment. Without a refinement these have observations:
other views observe a pixel's point where it projects to, if their depth there is the same. That follows from depth and
poses and tells a bundle adjustment nothing that those do not hold already.

``bundle_adjustment`` lets COLMAP correct the cameras before all is written; ``bundle_adjustment.json`` and the manifest
say what it did.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from depth_anything_3.errors import InputError
from depth_anything_3.export._point_options import Frame, PointOptions, warn_without_effect
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

REPORT = "bundle_adjustment.json"
NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})


@dataclass(frozen=True, kw_only=True)
class Options(PointOptions):
    """What is written, and how; for the points see also :class:`PointOptions`.

    Attributes:
        num_max_points: at most so many points; every view gets the same share.
        encoding: ``binary`` or ``text``.
        layout: ``flat`` for files in the folder itself, ``sparse`` for ``sparse/0``.
        frame: ``input`` (the world of the poses), ``first_camera``, or ``z_up``.
        shared_camera: one camera, the mean of all, instead of one for every image.
        min_views: points seen by fewer views are left out, but never more than there are views.
        depth_tolerance: two views agree where their depths differ by at most this share.
        tracks: where observations come from: ``matches`` of the refinement alone, whatever the confidence is there;
            ``depth`` that views agree on; or ``auto``, matches with points from depth around them, and depth where
            there was no refinement.
        bundle_adjustment: ``poses`` lets COLMAP (pycolmap, the extra ``colmap``) correct these before they are written,
            ``cameras`` the focal lengths too. The world keeps frame and unit.
    """

    num_max_points: int = 100_000
    encoding: Literal["binary", "text"] = "binary"
    layout: Literal["flat", "sparse"] = "flat"
    frame: Frame = "input"
    shared_camera: bool = False
    min_views: int = 2
    depth_tolerance: float = 0.02
    tracks: Literal["auto", "matches", "depth"] = "auto"
    bundle_adjustment: Literal["off", "poses", "cameras"] = "off"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_views < 1:
            raise InputError("min_views", str(self.min_views), "at least 1")
        if not 0 < self.depth_tolerance < 1:
            raise InputError("depth_tolerance", str(self.depth_tolerance), "a share between 0 and 1")


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    return model_files(options) + ([] if options.bundle_adjustment == "off" else [REPORT])


def model_files(options: Options) -> list[str]:
    """The three files of the model, relative to the folder."""
    folder = "sparse/0/" if options.layout == "sparse" else ""
    suffix = "bin" if options.encoding == "binary" else "txt"
    return [f"{folder}{name}.{suffix}" for name in ("cameras", "images", "points3D")]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the model; views without a usable camera are not in it.

    Raises:
        InputError: no view has a usable camera, ``shared_camera`` for pictures of different sizes, or matches for a
            prediction without any.
        MissingExtraError: bundle adjustment without pycolmap.

    Warns:
        UserWarning: an option has no effect, bundle adjustment has no matches, a view has no usable camera, names are
            not distinct, or no point is left.
    """
    from depth_anything_3.export._colmap_files import write_model
    from depth_anything_3.export._colmap_model import build_model
    from depth_anything_3.export._json import write_json

    warn_without_effect(prediction, options, "colmap")
    if options.encoding == "text" and any(" " in name for name in prediction.names):
        warnings.warn(
            "colmap: COLMAP cuts names at their first blank when it reads text; it reads binary", stacklevel=2
        )
    paths = [folder / name for name in model_files(options)]
    report = []
    if options.bundle_adjustment != "off":
        from depth_anything_3.export._colmap_bundle import adjusted

        prediction, found = adjusted(prediction, options)
        report = [write_json(folder / REPORT, asdict(found))]
    write_model(build_model(prediction, options), paths, binary=options.encoding == "binary")
    return paths + report


def facts(folder: Path, options: Options) -> dict[str, Any]:
    """What bundle adjustment did, for the manifest."""
    if options.bundle_adjustment == "off":
        return {}
    return {"bundle_adjustment": json.loads((folder / REPORT).read_text(encoding="utf-8"))}


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS, facts=facts)
