"""KITTI odometry, the eleven sequences with poses (Geiger et al., 2012).

Layout: ``sequences/00/`` with ``image_2/000000.png`` and ``calib.txt``, and ``poses/00.txt``: twelve numbers a line,
camera-to-world of camera 0. The pictures are those of camera 2, the left colour camera; its poses are made of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders, names_matching
from depth_anything_3.datasets._reading import damage_in
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset, same_camera
from depth_anything_3.geometry.stored_poses import invert_rigid


class KittiOdometry(ListedDataset):
    """Scenes are sequences (``kitti_odometry/00``)."""

    name = "kitti_odometry"
    title = "KITTI odometry"
    modes = ("odometry", "pose", "speed")
    max_frames = None
    ordered = True
    layout = "sequences/00/ with image_2/ and calib.txt, and poses/00.txt"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=4):
            if folder.parent.name == "sequences" and "calib.txt" in files and "image_2" in inner:
                inner.clear()
                yield folder.name, folder

    def _unwanted(self, scene: str) -> str | None:
        return None if scene.isdecimal() and int(scene) <= 10 else "no published poses"

    def _open(self, scene: str, place: Path) -> Listed:
        file = place.parent.parent / "poses" / f"{place.name}.txt"
        with damage_in(file):
            poses = np.loadtxt(file, ndmin=2)
        if poses.shape[1] != 12:
            raise CorruptSample(file, f"{poses.shape[1]} numbers a line instead of 12")
        pictures = sorted(n for n in names_matching(place / "image_2", "", ".png") if n.isdecimal())
        names = [name for name in pictures if int(name) < len(poses)]
        k, shift = _camera_two(place / "calib.txt")
        chosen = [invert_rigid(poses[int(name)].reshape(3, 4)) for name in names]
        return Listed(
            place=place,
            frames=tuple(names),
            skipped={"no pose": len(pictures) - len(names)},
            images=tuple(place / "image_2" / f"{name}.png" for name in names),
            depths=(None,) * len(names),
            intrinsics=same_camera(k, len(names)),
            extrinsics=np.reshape(chosen, (-1, 3, 4)) + shift,
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        raise CorruptSample(file, "KITTI odometry has no depth")


def _camera_two(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Its camera matrix, and what to add to the pose (3, 4) of camera 0: both look the same way."""
    with damage_in(file):
        for line in file.read_text().splitlines():
            if line.startswith("P2:"):
                p = np.array(line.split()[1:], np.float64).reshape(3, 4)
                shift = np.zeros((3, 4))
                shift[:, 3] = np.linalg.solve(p[:, :3], p[:, 3])
                k = p[:, :3].copy()
                k[:2, 2] += 0.5  # the first pixel's centre counts as (0, 0)
                return k, shift
    raise CorruptSample(file, "without P2")


DATASET = KittiOdometry
