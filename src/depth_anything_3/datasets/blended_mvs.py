"""BlendedMVS and BlendedMVG: pictures blended with renderings of the reconstructions that were made from them.

Yao et al., "BlendedMVS: A Large-Scale Dataset for Generalized Multi-View Stereo Networks", 2020. Layout: ``{project}/``
with ``blended_images/00000000.jpg``, ``cams/00000000_cam.txt``, ``cams/pair.txt`` and
``rendered_depth_maps/00000000.pfm``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, mvsnet_camera, read_image, read_pfm, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View

NEIGHBOURS = 10
"""Pictures with fewer source views in ``pair.txt`` are left out, as the authors advise."""


class BlendedMvs(FolderDataset[SceneFiles]):
    """BlendedMVS; scenes are projects (``blended_mvs/{24 hex digits}``), each in a unit of its own.

    Camera matrices are taken to count from the corner of the first pixel, which is not stated.

    Args:
        root: the folder of projects, or one of them.
        clean: leave out pictures with few neighbours; those whose nearest depth is not positive count as corrupt.
    """

    name = "blended_mvs"
    metric = False
    real = False  # rendered geometry: depth is exact, as the teacher's data must be
    layout = "folders PROJECT that hold blended_images/, cams/ and rendered_depth_maps/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "blended_images", "cams", "rendered_depth_maps", depth=4):
            yield folder.name, folder

    def _open(self, scene: str, place: Path) -> SceneFiles:
        images = {name for name in names_matching(place / "blended_images", "", ".jpg") if name.isdecimal()}
        complete = images & names_matching(place / "rendered_depth_maps", "", ".pfm")
        complete &= names_matching(place / "cams", "", "_cam.txt")
        few = _lonely(place / "cams" / "pair.txt") if self.clean else frozenset()
        kept = {name for name in complete if int(name) not in few}
        skipped = {"no depth or no camera": len(images - complete), "cleaning: neighbours": len(complete - kept)}
        return SceneFiles(place=place, frames=tuple(by_number(kept)), skipped=skipped)

    def _camera(self, files: SceneFiles, index: int) -> CameraOfFrame:
        file = files.place / "cams" / f"{files.frames[index]}_cam.txt"
        with damage_in(file):
            words = file.read_text().split()
            camera, nearest = mvsnet_camera(words), float(words[27])  # behind two words, 16 and 9 numbers
        if self.clean and not nearest > 0:
            raise CorruptSample(file, f"its nearest depth is {nearest:g}")
        return camera

    def _view(
        self,
        files: SceneFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        depth_file = files.place / "rendered_depth_maps" / f"{frame}.pfm"
        image = read_image(files.place / "blended_images" / f"{frame}.jpg")
        depth, _ = valid_depth(read_pfm(depth_file))
        if not depth.any():
            raise CorruptSample(depth_file, "an empty rendering")
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def _lonely(file: Path) -> frozenset[int]:
    """Numbers of the pictures with few neighbours; none where there is no such file.

    It holds the number of pictures, then for each two lines: its number; how many neighbours, with number and score.
    """
    if not file.is_file():
        return frozenset()
    with damage_in(file):
        lines = [line.split() for line in file.read_text().splitlines()[1:] if line.strip()]
        pairs = zip(lines[::2], lines[1::2], strict=True)
        return frozenset(int(number) for (number,), (count, *_) in pairs if int(count) < NEIGHBOURS)


DATASET = BlendedMvs
