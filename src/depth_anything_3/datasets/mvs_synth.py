"""MVS-Synth: 120 short sequences from a computer game.

Huang et al., "DeepMVS: Learning Multi-view Stereopsis", 2018. Layout: ``GTAV_{540|720|1080}/{0000...0119}/`` with
``images/0000.png``, ``depths/0000.exr`` and ``poses/0000.json``. Traffic moves between the frames.
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
    counted_from_corner,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import (
    damage_in,
    read_exr,
    read_image,
    read_image_size,
    read_json,
    valid_depth,
)
from depth_anything_3.datasets.base import View

UNIT = 0.1
"""Metres for each unit of depth and translation. Not stated by the authors; cars and people have the right size so."""

CLIP = 1000.0
"""Metres from which there is no depth: the game's far values (10 000 units and more) are not sky and not measured."""

# The world is left-handed and the cameras are not: one axis of the world is turned round.
_RIGHT_HANDED = np.diag([1.0, -1.0, 1.0, 1.0])


class MvsSynth(FolderDataset[SceneFiles]):
    """MVS-Synth; scenes are ``mvs_synth/0000``, frames ``0000``, ``0001``, ...

    Where the data set lies there at more than one size, the first of them is read and the others count as copies.

    Args:
        root: the folder of sizes, or one of them.
        clean: no depth from :data:`CLIP` on.
    """

    name = "mvs_synth"
    metric = True
    real = False
    layout = "folders SEQUENCE that hold images/, depths/ and poses/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "images", "depths", "poses", depth=4):
            yield folder.name, folder

    def _open(self, scene: str, place: Path) -> SceneFiles:
        images, depths = names_matching(place / "images", "", ".png"), names_matching(place / "depths", "", ".exr")
        complete = images & depths & names_matching(place / "poses", "", ".json")
        skipped = {"no image, depth or pose": len((images | depths) - complete)}
        return SceneFiles(place=place, frames=tuple(by_number(complete)), skipped=skipped)

    def _camera(self, files: SceneFiles, index: int) -> CameraOfFrame:
        file = files.place / "poses" / f"{files.frames[index]}.json"
        with damage_in(file):
            content = read_json(file)
            fx, fy, cx, cy = (float(content[key]) for key in ("f_x", "f_y", "c_x", "c_y"))
            stored = np.array(content["extrinsic"], np.float64).reshape(4, 4)
        size = read_image_size(files.place / "images" / f"{files.frames[index]}.png")
        matrix = counted_from_corner(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), size)
        return matrix, (stored @ _RIGHT_HANDED)[:3] * [1, 1, 1, UNIT]

    def _view(
        self,
        files: SceneFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        depth_file = files.place / "depths" / f"{frame}.exr"
        image, stored = read_image(files.place / "images" / f"{frame}.png"), read_exr(depth_file)
        sky = np.isposinf(stored)
        depth, _ = valid_depth(stored * np.float32(UNIT), far=CLIP if self.clean else np.inf)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)


DATASET = MvsSynth
