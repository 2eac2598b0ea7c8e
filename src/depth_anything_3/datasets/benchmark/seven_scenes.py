"""7-Scenes (Shotton et al., 2013).

Layout: ``7Scenes/SCENE/seq-01/`` (``stairs``: ``seq-02``) with ``frame-000000.color.png``, ``.depth.png`` (millimetres,
65535 is invalid) and ``.pose.txt`` (camera-to-world), and ``7Scenes/meshes/SCENE.ply``. As in the published evaluation
the camera matrix of the depth camera serves for the colour picture, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders, names_matching
from depth_anything_3.datasets._reading import millimetres, read_numbers
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, read_surface, same_camera
from depth_anything_3.datasets.benchmark.base import Fusion, Surface
from depth_anything_3.geometry.stored_poses import invert_rigid

SEQUENCES = dict.fromkeys(("chess", "fire", "heads", "office", "pumpkin", "redkitchen"), "seq-01") | {
    "stairs": "seq-02"
}
"""The sequence of each scene that is scored."""

INTRINSICS = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])


class SevenScenes(ListedDataset):
    """Scenes are sequences (``seven_scenes/chess``)."""

    name = "seven_scenes"
    title = "7-Scenes"
    modes = ("pose", "recon_unposed", "recon_posed", "speed", "odometry")
    fusion = Fusion(voxel=4 / 512, truncation=0.04, max_depth=1e6, threshold=0.05)
    paper_stride = 11
    layout = "folders SCENE/seq-01 (stairs: seq-02) with frame-000000.color.png, .depth.png and .pose.txt"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=4):
            if SEQUENCES.get(folder.name) in inner:
                inner.clear()
                yield folder.name, folder / SEQUENCES[folder.name]

    def _open(self, scene: str, place: Path) -> Listed:
        pictures = names_matching(place, "frame-", ".color.png")
        names = sorted(pictures & names_matching(place, "frame-", ".pose.txt"))
        poses = [invert_rigid(read_numbers(place / f"frame-{n}.pose.txt", count=16).reshape(4, 4)) for n in names]
        return Listed(
            place=place,
            frames=tuple(names),
            skipped={"no pose": len(pictures) - len(names)},
            images=tuple(place / f"frame-{n}.color.png" for n in names),
            depths=tuple(place / f"frame-{n}.depth.png" for n in names),
            intrinsics=same_camera(INTRINSICS, len(names)),
            extrinsics=np.reshape(poses, (-1, 3, 4)),
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        return millimetres(file, invalid=65535)

    def surface(self, scene: str) -> Surface | None:
        """The mesh beside the scenes."""
        place = self._scene(scene).place
        return read_surface(place.parent.parent / "meshes" / f"{place.parent.name}.ply")


DATASET = SevenScenes
