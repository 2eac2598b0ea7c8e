"""MegaDepth: photographs of sights from the internet, with cameras and sparse depth from COLMAP.

Li and Snavely, "MegaDepth: Learning Single-View Depth Prediction from Internet Photos", 2018. Layout, of the package
with the reconstructions: ``{0000}/images/*`` and ``{0000}/sparse/manhattan/{0,1,...}/{cameras,images,points3D}.txt``,
one scene for each reconstruction. The dense depth maps of the other package are not read: they belong to pictures that
were freed from distortion in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from depth_anything_3.datasets._colmap import ColmapDataset
from depth_anything_3.datasets._folder import folders
from depth_anything_3.io.colmap import find_model

NOVEL_VIEW_SCENES = tuple(f"{number}/0" for number in range(5000, 5019))
"""The scenes on which novel views are scored, here by their first reconstruction, which is not stated; they share their
places with Tanks and Temples."""

_NUMBER = re.compile(r"[0-9]{4}")


class MegaDepth(ColmapDataset):
    """MegaDepth; scenes are ``megadepth/{0000}/{k}``, frames have the names of the pictures.

    See :class:`~depth_anything_3.datasets._colmap.ColmapDataset` for pictures, cameras and depth. Pictures differ in
    size, light and orientation.

    Args:
        root: the folder of numbers, or one of them.
        clean: weak points give no depth.
    """

    name = "megadepth"
    layout = "folders named 0000 to 5018 that hold images/ and sparse/manhattan/0/ with a COLMAP model"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=5):
            if not _NUMBER.fullmatch(folder.name) or "images" not in inner:
                continue
            inner.clear()
            for model in sorted((folder / "sparse" / "manhattan").glob("*/")):
                if find_model(model, deep=False) is not None:
                    yield f"{folder.name}/{model.name}", model

    def _pictures(self, model: Path) -> Path:
        return model.parents[2] / "images"


DATASET = MegaDepth
