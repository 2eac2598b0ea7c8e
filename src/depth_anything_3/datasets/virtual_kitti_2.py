"""Virtual KITTI 2: five simulated drives in ten kinds of weather and directions of the cameras, as stereo pairs.

Cabon et al., "Virtual KITTI 2", 2020. Layout: ``{Scene01,...}/{variant}/`` with ``intrinsic.txt``, ``extrinsic.txt``
and ``frames/{rgb,depth}/Camera_{0,1}/{rgb_00000.jpg,depth_00000.png}``. The archives may be unpacked into folders of
their own beside each other. Cars move between the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    counted_from_corner,
    folders,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, read_grey_16, read_image, read_image_size
from depth_anything_3.datasets.base import CorruptSample, View

SKY = 65535
"""The stored value of the sky, and of what is beyond 655 metres."""

_SIDES = (0, 1)

Table = dict[tuple[int, int], Float[np.ndarray, " _"]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drive(SceneFiles):
    images: Path
    depths: Path
    intrinsics: Table
    extrinsics: Table


class VirtualKitti2(FolderDataset[_Drive]):
    """Virtual KITTI 2; scenes are ``virtual_kitti_2/Scene01/clone``, frames ``00000-0`` (frame and camera), ..."""

    name = "virtual_kitti_2"
    metric = True
    real = False
    layout = "folders SCENE/VARIANT that hold intrinsic.txt and extrinsic.txt"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=5):
            if {"intrinsic.txt", "extrinsic.txt"} <= set(files):
                inner.clear()
                yield "/".join(folder.parts[-2:]), folder

    def _open(self, scene: str, place: Path) -> _Drive:
        images, depths = (self._part(place, kind) for kind in ("rgb", "depth"))
        intrinsics, extrinsics = _table(place / "intrinsic.txt", 4), _table(place / "extrinsic.txt", 16)
        pairs: list[tuple[str, int]] = []
        incomplete = unposed = 0
        for side in _SIDES:
            shown = names_matching(images / f"Camera_{side}", "rgb_", ".jpg")
            complete = shown & names_matching(depths / f"Camera_{side}", "depth_", ".png")
            posed = [n for n in complete if n.isdecimal() and (int(n), side) in intrinsics.keys() & extrinsics.keys()]
            incomplete, unposed = incomplete + len(shown - complete), unposed + len(complete) - len(posed)
            pairs += ((name, side) for name in posed)
        if not pairs:
            raise CorruptSample(place, "no frame has an image, depth and a camera")
        return _Drive(
            place=place,
            frames=tuple(by_number({f"{name}-{side}" for name, side in pairs})),
            skipped={"no depth": incomplete, "no camera": unposed},
            images=images,
            depths=depths,
            intrinsics=intrinsics,
            extrinsics=extrinsics,
        )

    def _part(self, place: Path, kind: str) -> Path:
        """The folder of one kind of frames: in the scene, or in the same scene of an archive unpacked beside."""
        parts = place.parts[-2:]
        beside = sorted(other.joinpath(*parts) for other in place.parents[2].glob("*/"))
        found = (at / "frames" / kind for at in (place, *beside))
        return next((at for at in found if at.is_dir()), place / "frames" / kind)

    def _camera(self, files: _Drive, index: int) -> CameraOfFrame:
        name, side = files.frames[index].split("-")
        fx, fy, cx, cy = files.intrinsics[int(name), int(side)]
        size = read_image_size(_image(files, name, side))
        matrix = counted_from_corner(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), size)
        return matrix, files.extrinsics[int(name), int(side)].reshape(4, 4)[:3]

    def _view(
        self,
        files: _Drive,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        name, side = files.frames[index].split("-")
        depth_file = files.depths / f"Camera_{side}" / f"depth_{name}.png"
        image, stored = read_image(_image(files, name, side)), read_grey_16(depth_file)
        sky = stored == SKY
        depth = np.where(sky, 0, stored).astype(np.float32) / np.float32(100)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)


def _image(files: _Drive, name: str, side: str) -> Path:
    return files.images / f"Camera_{side}" / f"rgb_{name}.jpg"


def _table(file: Path, count: int) -> Table:
    """(frame, camera) -> numbers, of a text file with a line of headings."""
    with damage_in(file):
        rows = np.loadtxt(file, skiprows=1, ndmin=2)
    if rows.shape[1] != 2 + count:
        raise CorruptSample(file, f"{rows.shape[1]} numbers a line instead of {2 + count}")
    return {(int(row[0]), int(row[1])): row[2:] for row in rows}


DATASET = VirtualKitti2
