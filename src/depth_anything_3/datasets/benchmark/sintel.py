"""MPI Sintel, the final pass of the training sequences with depth and cameras (Butler et al., 2012).

Layout: ``training/final/SEQUENCE/frame_0001.png``, ``training/depth/SEQUENCE/frame_0001.dpt`` and
``training/camdata_left/SEQUENCE/frame_0001.cam``; both begin with the number 202021.25. The unit is no metre.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from depth_anything_3.datasets._folder import folders, names_matching
from depth_anything_3.datasets._reading import damage_in
from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark._listed import Listed, ListedDataset

TAG = np.float32(202021.25)


class Sintel(ListedDataset):
    """Scenes are sequences (``sintel/alley_1``)."""

    name = "sintel"
    title = "Sintel"
    modes = ("mono", "pose", "odometry")
    real = False
    metric = False
    depth_range = (0.0, 70.0)
    max_frames = None
    ordered = True
    layout = "training/final/SEQUENCE/, training/depth/SEQUENCE/ and training/camdata_left/SEQUENCE/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, _ in folders(self.root, depth=4):
            if folder.parent.name == "final" and (folder.parent.parent / "depth" / folder.name).is_dir():
                inner.clear()
                yield folder.name, folder

    def _open(self, scene: str, place: Path) -> Listed:
        top = place.parent.parent
        depth, cameras = (top / part / place.name for part in ("depth", "camdata_left"))
        pictures = names_matching(place, "", ".png")
        names = sorted(pictures & names_matching(depth, "", ".dpt"))
        read = [_camera(cameras / f"{name}.cam") for name in names]
        return Listed(
            place=place,
            frames=tuple(names),
            skipped={"no depth": len(pictures) - len(names)},
            images=tuple(place / f"{name}.png" for name in names),
            depths=tuple(depth / f"{name}.dpt" for name in names),
            intrinsics=np.reshape([k for k, _ in read], (-1, 3, 3)),
            extrinsics=np.reshape([pose for _, pose in read], (-1, 3, 4)),
        )

    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        with damage_in(file):
            data = file.read_bytes()
            _check_tag(file, data)
            width, height = np.frombuffer(data, "<i4", 2, 4)
            return np.frombuffer(data, "<f4", int(width) * int(height), 12).reshape(int(height), int(width))


def _camera(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Camera matrix and world-to-camera pose."""
    with damage_in(file):
        data = file.read_bytes()
        _check_tag(file, data)
        numbers = np.frombuffer(data, "<f8", 21, 4)
    return numbers[:9].reshape(3, 3).copy(), numbers[9:].reshape(3, 4).copy()


def _check_tag(file: Path, data: bytes) -> None:
    if len(data) < 4 or np.frombuffer(data, "<f4", 1)[0] != TAG:
        raise CorruptSample(file, "does not begin with 202021.25")


DATASET = Sintel
