"""TartanAir (first version): photo-realistic flights through simulated worlds.

Wang et al., "TartanAir: A Dataset to Push the Limits of Visual SLAM", 2020. The left camera is loaded.
Layout: ``{env}/{Easy|Hard}/P000/`` with ``image_left/000000_left.png``, ``depth_left/000000_left_depth.npy`` (metres)
and ``pose_left.txt``; unpacked archives often repeat the name of the environment.
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
    check_size,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, read_image, read_npy, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.stored_poses import invert_rigid, rotation_from_quat_wxyz

DROPPED = frozenset({"amusement"})
"""Environments left out: an invisible dome caps the sky of this one."""

CLIP = {"carwelding": 80.0, "hospital": 30.0, "ocean": 1000.0, "office": 30.0, "office2": 30.0}
"""Metres from which depth is not to be trusted, as published for these environments."""

SKY = 1000.0
"""The sky is stored as a large number; metres from which depth means sky, in all environments."""

INDOOR = frozenset({"carwelding", "hospital", "office", "office2"})
"""Environments where what is far is no sky."""

SIZE = (480, 640)
INTRINSICS = np.array([[320.0, 0, 320], [0, 320, 240], [0, 0, 1]])
"""The one camera of the simulator (90 degrees wide); its centre is that of the image."""

# Rows of x, y, z: the simulator's cameras look along x, with y to the right and z down.
_OPENCV_FROM_NED = [1, 2, 0]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sequence(SceneFiles):
    environment: str
    poses: Float[np.ndarray, "n 7"]


class TartanAir(FolderDataset[_Sequence]):
    """TartanAir, version 1; scenes are sequences (``tartanair/{env}/{level}/{sequence}``)."""

    name = "tartanair"
    metric = True
    real = False
    layout = "folders ENVIRONMENT/LEVEL/SEQUENCE that hold pose_left.txt, image_left/ and depth_left/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "pose_left.txt", "image_left", depth=6):
            yield "/".join(folder.parts[-3:]), folder

    def _unwanted(self, scene: str) -> str | None:
        environment = scene.split("/")[0]
        return f"cleaning: environment {environment}" if environment in DROPPED else None

    def _open(self, scene: str, place: Path) -> _Sequence:
        file = place / "pose_left.txt"
        with damage_in(file):
            poses = np.loadtxt(file, ndmin=2)
        if poses.shape[1] != 7:
            raise CorruptSample(file, f"{poses.shape[1]} numbers a line instead of 7")
        images = names_matching(place / "image_left", "", "_left.png")
        depths = names_matching(place / "depth_left", "", "_left_depth.npy")
        both = by_number({name for name in images & depths if name.isdecimal()})
        frames = tuple(name for name in both if int(name) < len(poses))
        skipped = {"no image or no depth": len(images ^ depths), "no pose": len(both) - len(frames)}
        return _Sequence(place=place, frames=frames, skipped=skipped, environment=scene.split("/")[1], poses=poses)

    def _camera(self, files: _Sequence, index: int) -> CameraOfFrame:
        row = files.poses[int(files.frames[index])]
        world_from_camera = np.column_stack((rotation_from_quat_wxyz(row[[6, 3, 4, 5]]), row[:3]))
        return INTRINSICS, invert_rigid(world_from_camera)[_OPENCV_FROM_NED]

    def _view(
        self,
        files: _Sequence,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        image_file = files.place / "image_left" / f"{frame}_left.png"
        depth_file = files.place / "depth_left" / f"{frame}_left_depth.npy"
        image = read_image(image_file)
        check_size(image_file, image, SIZE)
        far = min(SKY, CLIP.get(files.environment, SKY)) if self.clean else SKY
        depth, beyond = valid_depth(read_npy(depth_file), far=far)
        sky = np.zeros_like(beyond) if files.environment in INDOOR else beyond
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)


DATASET = TartanAir
