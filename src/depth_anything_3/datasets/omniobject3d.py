"""OmniObject3D: renders of scanned objects.

Wu et al., "OmniObject3D: Large-Vocabulary 3D Object Dataset", 2023. Layout:
``blender_renders/{category}/{object}/render/`` with ``transforms.json``, ``images/r_0.png`` and
``depths/r_0_depth.exr``; the level of the category may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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
from depth_anything_3.datasets._reading import damage_in, read_exr, read_image_size, read_json, read_rgba, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.stored_poses import central_intrinsics, extrinsics_from_opengl, focal_length

CLIP = 10.0
"""Stored units from which depth is not to be trusted."""

BACKGROUND = 65504.0
"""What depth is where nothing is seen: the largest number of 16 bits, or more."""

_OPAQUE = 128  # alpha from which a pixel belongs to the object


@dataclass(frozen=True, kw_only=True, eq=False)
class _Object(SceneFiles):
    angle: float
    poses: tuple[object, ...]
    size: tuple[int, int]


class OmniObject3D(FolderDataset[_Object]):
    """OmniObject3D; scenes are ``omniobject3d/anise_001`` and so on, frames ``r_0``, ``r_1``, ...

    Lengths are those of the renders, in which objects were scaled. Pictures with transparency are laid over white.
    """

    name = "omniobject3d"
    metric = False
    real = False
    layout = "folders OBJECT/render that hold transforms.json, images/ and depths/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "transforms.json", "images", "depths", depth=5):
            if folder.name == "render":
                yield folder.parent.name, folder

    def _open(self, scene: str, place: Path) -> _Object:
        file = place / "transforms.json"
        with damage_in(file):
            content = read_json(file)
            angle = float(content["camera_angle_x"])
            poses = {PurePosixPath(frame["file_path"]).stem: frame["transform_matrix"] for frame in content["frames"]}
        images = names_matching(place / "images", "", ".png")
        depths = names_matching(place / "depths", "", "_depth.exr")
        frames = tuple(by_number(images & depths & poses.keys()))
        if not frames:
            raise CorruptSample(place, "no frame has an image, depth and a pose")
        return _Object(
            place=place,
            frames=frames,
            skipped={"image, depth or pose missing": len(images | depths | poses.keys()) - len(frames)},
            angle=angle,
            poses=tuple(poses[name] for name in frames),
            size=read_image_size(place / "images" / f"{frames[0]}.png"),
        )

    def _camera(self, files: _Object, index: int) -> CameraOfFrame:
        with damage_in(files.place / "transforms.json"):
            world_from_camera: Float[np.ndarray, "4 4"] = np.array(files.poses[index], np.float64).reshape(4, 4)
        height, width = files.size
        intrinsics = central_intrinsics(focal_length(files.angle, width), width, height)
        return intrinsics, extrinsics_from_opengl(world_from_camera)

    def _view(
        self,
        files: _Object,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        image_file = files.place / "images" / f"{frame}.png"
        depth_file = files.place / "depths" / f"{frame}_depth.exr"
        image, alpha = read_rgba(image_file)
        check_size(image_file, image, files.size)
        raw = read_exr(depth_file)
        check_size(depth_file, raw, files.size)
        seen, background = valid_depth(raw, far=BACKGROUND)
        mask = ~background & (raw > 0) if alpha is None else alpha >= _OPAQUE
        depth, _ = valid_depth(np.where(mask, seen, 0), far=CLIP if self.clean else np.inf)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, mask=mask)


DATASET = OmniObject3D
