"""``mesh``: one coloured surface fused from all views, ``mesh.ply``, ``mesh.glb`` or ``mesh.obj``.

The depth maps are cleaned and fused as :mod:`depth_anything_3.refine.tsdf` says. ``ply`` and ``obj`` have the axes of
the chosen frame; glTF knows only y up, so ``glb`` is turned to that. Colours are sRGB, but linear in ``glb``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from depth_anything_3.export._point_options import Frame
from depth_anything_3.export.base import Exporter
from depth_anything_3.types.options import CLEAN_PRESETS, FuseOptions, check_choice

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"extrinsics", "intrinsics", "processed_images"})


@dataclass(frozen=True, kw_only=True)
class Options(FuseOptions):
    """How the surface is made, see :class:`~depth_anything_3.types.options.FuseOptions`, and written.

    Attributes:
        encoding: ``ply``, ``glb`` or ``obj``.
        clean: name of the preset that decides which pixels take part.
        frame: ``input`` (the world of the poses), ``first_camera``, or ``z_up``.
    """

    encoding: Literal["ply", "glb", "obj"] = "ply"
    clean: str = "clean"
    frame: Frame = "input"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("clean", self.clean, tuple(CLEAN_PRESETS))


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [f"mesh.{options.encoding}"]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Fuse and write the surface.

    Raises:
        InputError: no pixel takes part, or the voxels are too small for ``max_blocks``.

    Warns:
        UserWarning: the surface is empty.
    """
    from depth_anything_3.export._mesh_files import write_mesh

    return [write_mesh(prediction, folder / planned_files(1, options)[0], options)]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
