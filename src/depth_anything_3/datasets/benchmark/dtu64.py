"""DTU, 13 scans of 64 pictures, for poses alone.

Layout: ``SCAN/image/*.png``, and ``Cameras/00000000_cam.txt`` for all scans: after the word ``extrinsic`` the
world-to-camera pose in four lines, after ``intrinsic`` the camera matrix in three; millimetres.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        pictures = reference_first(sorted((place / "image").glob("*.png")))
        cameras = [read_mvsnet_camera(place.parent / "Cameras" / f"{_number(p.stem):08d}_cam.txt") for p in pictures]
        return Listed(
            place=place,
            frames=tuple(p.stem for p in pictures),
            images=tuple(pictures),
            depths=(None,) * len(pictures),
            intrinsics=np.stack([k for k, _ in cameras]),
            extrinsics=np.stack([pose for _, pose in cameras]),
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        raise CorruptSample(file, "DTU-64 has no depth")


def reference_first(pictures: list[Path]) -> list[Path]:
    """The pictures with the reference view moved to the front, where there are so many."""
    if len(pictures) <= REFERENCE:
        return pictures
    return [pictures[REFERENCE], *pictures[:REFERENCE], *pictures[REFERENCE + 1 :]]


def _number(text: str) -> int:
    digits = "".join(filter(str.isdecimal, text))
    return int(digits) if digits else -1


DATASET = Dtu64
