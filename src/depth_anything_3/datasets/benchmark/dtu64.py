"""DTU, 13 scans of 64 pictures, for poses alone.

Layout: ``SCAN/image/*.png``, and ``Cameras/00000000_cam.txt`` for all scans: after the word ``extrinsic`` the
world-to-camera pose in four lines, after ``intrinsic`` the camera matrix in three; millimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders
from depth_anything_3.datasets._reading import read_mvsnet_camera
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset

SCANS = (24, 37, 40, 55, 63, 65, 69, 83, 97, 105, 114, 118, 122)
"""Scans of the published evaluation."""

REFERENCE = 33
"""Position of the picture that comes first, and so is the reference view."""


class Dtu64(ListedDataset):
    """Scenes are scans (``dtu64/scan24``)."""

    name = "dtu64"
    title = "DTU-64"
    modes = ("pose",)
    metric = False  # millimetres
    layout = "folders SCAN/image/ and Cameras/00000000_cam.txt"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=3):
            if "image" in inner and _number(folder.name) in SCANS:
                inner.clear()
                yield folder.name, folder

    def _open(self, scene: str, place: Path) -> Listed:
        pictures = sorted((place / "image").glob("*.png"))
        return reference_first(place, pictures, lambda p: place.parent / "Cameras" / f"{_number(p.stem):08d}_cam.txt")

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        raise CorruptSample(file, "DTU-64 has no depth")


def reference_first(place: Path, pictures: list[Path], camera_of: Callable[[Path], Path]) -> Listed:
    """A scene of pictures without depth; the reference view comes first, where there are so many.

    Args:
        place: of the scene.
        pictures: in the order of their numbers.
        camera_of: the file of the camera of a picture.
    """
    if len(pictures) > REFERENCE:
        pictures = [pictures[REFERENCE], *pictures[:REFERENCE], *pictures[REFERENCE + 1 :]]
    cameras = [read_mvsnet_camera(camera_of(picture)) for picture in pictures]
    return Listed(
        place=place,
        frames=tuple(p.stem for p in pictures),
        images=tuple(pictures),
        depths=(None,) * len(pictures),
        intrinsics=np.reshape([k for k, _ in cameras], (-1, 3, 3)),
        extrinsics=np.reshape([pose for _, pose in cameras], (-1, 3, 4)),
    )


def _number(text: str) -> int:
    digits = "".join(filter(str.isdecimal, text))
    return int(digits) if digits else -1


DATASET = Dtu64
