"""Tanks and Temples: places filmed with a camera in the hand, with cameras and sparse depth from COLMAP.

Knapitsch et al., "Tanks and Temples: Benchmarking Large-Scale Scene Reconstruction", 2017. Layout, as novel-view
benchmarks have it: ``{scene}/images/*`` and ``{scene}/sparse/0/{cameras,images,points3D}.{bin,txt}``. The official
download has no intrinsics; where it is all there is, COLMAP has to be run first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from depth_anything_3.datasets._colmap import ColmapDataset
from depth_anything_3.datasets._folder import folders
from depth_anything_3.io.cameras.colmap import model_in

NOVEL_VIEW_SCENES = ("Barn", "Caterpillar", "Church", "Ignatius", "Meetingroom", "Truck")
"""The scenes on which novel views are scored: those for training, without Courthouse."""


class TanksAndTemples(ColmapDataset):
    """Tanks and Temples; scenes are ``tanks_and_temples/{scene}``, frames ``000001``, ...

    See :class:`~depth_anything_3.datasets._colmap.ColmapDataset` for pictures, cameras and depth. All scenes are for
    evaluation.

    Args:
        root: the folder of scenes, or one of them.
        clean: weak points give no depth.
    """

    name = "tanks_and_temples"
    layout = "folders of scenes that hold images/ and sparse/0/ with a COLMAP model"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=3):
            if "images" in inner and "sparse" in inner and (model := model_in(folder)) is not None:
                inner.clear()
                yield folder.name, model

    def _pictures(self, model: Path) -> Path:
        scene = next(parent for parent in model.parents if (parent / "sparse").is_dir())
        return scene / "images"


DATASET = TanksAndTemples
