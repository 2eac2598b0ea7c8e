"""``gs_video``: a flight through the 3D Gaussians, ``gs_video/0000_<trj_mode>.mp4``.

The path of the camera is one of :data:`~depth_anything_3.splat.options.TRAJECTORIES`, made from the cameras of the
prediction; or it is given: as a file of cameras, or as matrices. Frames are drawn and written one at a time. The film
is an MP4 with MPEG-4 Part 2 (``mp4v``), which every build of OpenCV writes and reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import Exporter
from depth_anything_3.splat.options import TRAJECTORIES, CleanOptions, Trajectory, possible_trajectory
from depth_anything_3.types.options import check_choice

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"gaussians", "extrinsics", "intrinsics"})

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Options(CleanOptions):
    """The path, the pictures, and which Gaussians are drawn: by default all, so that nothing is missing behind others.

    Attributes:
        trj_mode: the path, see :func:`depth_anything_3.splat.trajectories.camera_path`; a single view always
            gets ``wander`` or ``dolly_zoom``.
        cameras: a file of cameras in the world of the prediction, in any format that the package reads, one frame
            each; instead of ``trj_mode``. Poses without intrinsics take those of the first view.
        extrinsics: the same as world-to-camera matrices, M x 3 x 4 or M x 4 x 4.
        intrinsics: M x 3 x 3 in pixels of the film, beside ``extrinsics``; None takes those of the first view.
        out_image_hw: height and width of a frame; None takes those of the network's pictures. Where another shape is
            asked for, the picture is not stretched: it shows more or less of the scene.
        fps: frames per second.
        vis_depth: put the depth beside (``hcat``) or below (``vcat``) the picture, or leave it out (None).
        background: colour behind everything, red, green and blue from 0 to 1.
        output_name: name of the file without its ending; None takes ``0000_<trj_mode>``.
        rasteriser: see :func:`depth_anything_3.splat.base.render`.
    """

    border: float = 0.0
    max_depth_percentile: float = 100.0
    max_depth_jump: float = 0.0
    drop_sky: bool = False
    trj_mode: Trajectory = "extend"
    cameras: str | None = None
    extrinsics: tuple[Matrix, ...] | None = None
    intrinsics: tuple[Matrix, ...] | None = None
    out_image_hw: tuple[int, int] | None = None
    fps: float = 24.0
    vis_depth: Literal["hcat", "vcat"] | None = "hcat"
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    output_name: str | None = None
    rasteriser: str | None = None

    def __post_init__(self) -> None:
        CleanOptions.__post_init__(self)
        check_choice("trj_mode", self.trj_mode, TRAJECTORIES)
        if not 0 < self.fps < math.inf:
            raise InputError("fps", str(self.fps), "a positive number of frames per second")
        if self.vis_depth not in ("hcat", "vcat", None):
            raise InputError("vis_depth", repr(self.vis_depth), "one of the valid names", ("hcat", "vcat", None))
        if self.out_image_hw is not None and min(self.out_image_hw) < 2:
            raise InputError("out_image_hw", repr(self.out_image_hw), "height and width, at least 2 pixels")
        if self.output_name is not None and (not self.output_name or Path(self.output_name).name != self.output_name):
            raise InputError("output_name", repr(self.output_name), "a file name without folders")
        if self.cameras is not None and self.extrinsics is not None:
            raise InputError("cameras", repr(self.cameras), "None beside extrinsics: there is one path")
        if self.intrinsics is not None and self.extrinsics is None:
            raise InputError("intrinsics", "matrices without extrinsics", "poses that they belong to")

    @property
    def given(self) -> bool:
        """Whether the path comes from the caller."""
        return self.cameras is not None or self.extrinsics is not None


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    path = "given" if options.given else possible_trajectory(options.trj_mode, count)
    return [f"gs_video/{options.output_name or f'0000_{path}'}.mp4"]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Draw and write the film.

    Raises:
        InputError: the path asked for needs more views, or given matrices are no cameras.
        CameraFileError: the file of cameras cannot be read, or has no poses.
        DA3Error: OpenCV cannot write films here.

    Warns:
        UserWarning: no Gaussian is left.
    """
    from depth_anything_3.export._film import write_film
    from depth_anything_3.export._flight import frames

    path = folder / planned_files(len(prediction.depth), options)[0]
    write_film(path, frames(prediction, options), options.fps)
    return [path]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
