"""3D Ken Burns: simulated worlds, seen by four cameras on the corners of a small square.

Niklaus et al., "3D Ken Burns Effect from a Single Image", 2019. A scene is one sample; between samples there are no
poses. Layout: ``{world}-{flying|walking}/`` with ``00000-meta.json`` and ``00000-bl-image.png`` (also br, tl, tr),
beside it ``{world}-{flying|walking}-depth/00000-bl-depth.exr``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles, assemble, check_size, folders
from depth_anything_3.datasets._reading import (
    damage_in,
    read_exr,
    read_image,
    read_image_size,
    read_json,
    valid_depth,
)
from depth_anything_3.datasets.base import View
from depth_anything_3.geometry.stored_poses import central_intrinsics, focal_length

CLIP = 50000.0
"""Stored units from which there is nothing but sky."""

STEP = 20.0
"""Distance of neighbouring cameras, in the unit of the depth."""

CENTRES = {"bl": (0.0, 0.0), "br": (STEP, 0.0), "tl": (0.0, -STEP), "tr": (STEP, -STEP)}
"""x and y of the cameras in the axes of the one at the bottom left; all look the same way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sample(SceneFiles):
    depth_folder: Path

    @cached_property
    def size(self) -> tuple[int, int]:
        return read_image_size(_image_file(self.place, self.frames[0]))

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        height, width = self.size
        file = self.place.parent / f"{self.place.name}-meta.json"
        with damage_in(file):
            degrees = float(read_json(file)["fltFov"])
        return central_intrinsics(focal_length(math.radians(degrees), max(height, width)), width, height)


class KenBurns(FolderDataset[_Sample]):
    """3D Ken Burns; a scene (``ken_burns/city-flying/00000``) has frames ``bl``, ``br``, ``tl`` and ``tr``.

    The unit of length is not documented.
    """

    name = "ken_burns"
    metric = False
    real = False
    layout = "folders WORLD-MODE with files 00000-meta.json beside folders WORLD-MODE-depth"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, _, files in folders(self.root, depth=4):
            for name in files:
                if name.endswith("-meta.json"):
                    sample = name.removesuffix("-meta.json")
                    yield f"{folder.name}/{sample}", folder / sample

    @cached_property
    def _depth_folders(self) -> dict[str, Path]:
        """By their name; archives that repeat it inside are searched to the innermost one."""
        found = {}
        for folder, _, _ in folders(self.root, depth=3):
            if folder.name.endswith("-depth"):
                found[folder.name] = folder
        return found

    def _open(self, scene: str, place: Path) -> _Sample:
        name = f"{place.parent.name}-depth"
        depth_folder = self._depth_folders.get(name, place.parent.with_name(name))
        frames = []
        for corner in CENTRES:
            if _image_file(place, corner).is_file() and _depth_file(depth_folder, place, corner).is_file():
                frames.append(corner)
        skipped = {"no image or no depth": len(CENTRES) - len(frames)}
        return _Sample(place=place, frames=tuple(frames), skipped=skipped, depth_folder=depth_folder)

    def _camera(self, files: _Sample, index: int) -> CameraOfFrame:
        x, y = CENTRES[files.frames[index]]
        return files.intrinsics, np.column_stack((np.eye(3), (-x, -y, 0.0)))

    def _view(
        self,
        files: _Sample,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        corner = files.frames[index]
        image_file = _image_file(files.place, corner)
        image = read_image(image_file)
        check_size(image_file, image, files.size)
        depth_file = _depth_file(files.depth_folder, files.place, corner)
        depth, sky = valid_depth(read_exr(depth_file), far=CLIP if self.clean else np.inf)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)


def _image_file(place: Path, corner: str) -> Path:
    return place.parent / f"{place.name}-{corner}-image.png"


def _depth_file(folder: Path, place: Path, corner: str) -> Path:
    return folder / f"{place.name}-{corner}-depth.exr"


DATASET = KenBurns
