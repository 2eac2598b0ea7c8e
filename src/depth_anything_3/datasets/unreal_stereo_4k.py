"""UnrealStereo4K: nine simulated scenes as stereo pairs of 3840x2160 pixels, with cameras in one world per scene.

Tosi et al., "SMD-Nets: Stereo Mixture Density Networks", 2021. Layout: ``{00000..00008}/`` with, for each side 0 (left)
and 1 (right), ``Image0/00000.png``, ``Disp0/00000.npy`` and ``Extrinsics0/00000.txt``. The variant at a quarter of the
size is read too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    check_size,
    counted_from_corner,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import read_image, read_image_size, read_npy, read_numbers, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.stored_poses import invert_rigid

DROPPED = frozenset({"00003", "00004"})
"""Scenes left out."""

DROPPED_FRAMES = {
    "00008": (
        *((9, 13), (23, 29), (80, 82), (86, 88), (96, 96), (103, 111), (126, 136), (144, 145), (148, 154)),
        *((173, 176), (178, 179), (186, 187), (191, 192), (198, 199)),
    )
}
"""First and last number of the frames left out of a scene."""

SKY = 1000.0
"""Metres from which depth means sky. Pixels without a disparity are unknown."""

_SIDES = {"left": 0, "right": 1}

# The world is left-handed and the cameras are not: one axis of the world is turned round.
_RIGHT_HANDED = np.diag([1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene(SceneFiles):
    suffix: str
    size: tuple[int, int]


class UnrealStereo4K(FolderDataset[_Scene]):
    """UnrealStereo4K; scenes are ``unreal_stereo_4k/00000`` and so on, frames ``00000-left``, ``00000-right``, ..."""

    name = "unreal_stereo_4k"
    metric = True
    real = False
    layout = "folders with Image0/, Image1/, Disp0/, Disp1/, Extrinsics0/ and Extrinsics1/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "Image0", "Disp0", "Extrinsics0", "Extrinsics1", depth=4):
            yield folder.name, folder

    def _unwanted(self, scene: str) -> str | None:
        return f"cleaning: scene {scene}" if scene in DROPPED else None

    def _open(self, scene: str, place: Path) -> _Scene:
        suffix = ".png" if names_matching(place / "Image0", "", ".png") else ".jpg"
        posed = names_matching(place / "Extrinsics0", "", ".txt") & names_matching(place / "Extrinsics1", "", ".txt")
        found: list[str] = []
        incomplete = 0
        for side, number in _SIDES.items():
            images = names_matching(place / f"Image{number}", "", suffix)
            complete = images & names_matching(place / f"Disp{number}", "", ".npy") & posed
            found += (f"{name}-{side}" for name in complete)
            incomplete += len(images - complete)
        dropped = {name for name in found if self.clean and _is_dropped(place.name, name)}
        frames = tuple(by_number(set(found) - dropped))
        if not frames:
            raise CorruptSample(place, "no frame has an image, a disparity and both cameras")
        skipped = {"no disparity or no camera": incomplete, "cleaning: frames of a scene": len(dropped)}
        return _Scene(
            place=place, frames=frames, skipped=skipped, suffix=suffix, size=_first_size(place, frames, suffix)
        )

    def _camera(self, files: _Scene, index: int) -> CameraOfFrame:
        number, side = files.frames[index].split("-")
        file = _camera_file(files.place, number, side)
        intrinsics, extrinsics = _read_camera(file)
        return _at_size(intrinsics, files.size, file), extrinsics @ _RIGHT_HANDED

    def _view(
        self,
        files: _Scene,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        number, side = files.frames[index].split("-")
        image_file = _image_file(files.place, files.frames[index], files.suffix)
        depth_file = files.place / f"Disp{_SIDES[side]}" / f"{number}.npy"
        image = read_image(image_file)
        check_size(image_file, image, files.size)
        disparity = read_npy(depth_file).astype(np.float32)
        focal_times_baseline = float(intrinsics[0, 0]) * _baseline(files.place, number)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            raw = np.where(disparity > 0, focal_times_baseline / disparity, 0)
        depth, sky = valid_depth(raw, far=SKY)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)


def _is_dropped(scene: str, frame: str) -> bool:
    number = frame.split("-")[0]
    ranges = DROPPED_FRAMES.get(scene, ())
    return number.isdecimal() and any(first <= int(number) <= last for first, last in ranges)


def _image_file(place: Path, frame: str, suffix: str) -> Path:
    number, side = frame.split("-")
    return place / f"Image{_SIDES[side]}" / f"{number}{suffix}"


def _camera_file(place: Path, number: str, side: str) -> Path:
    return place / f"Extrinsics{_SIDES[side]}" / f"{number}.txt"


def _first_size(place: Path, frames: tuple[str, ...], suffix: str) -> tuple[int, int]:
    """Height and width of the first image whose header can be read."""
    damage = CorruptSample(place, "no image can be read")
    for frame in frames[:10]:
        try:
            return read_image_size(_image_file(place, frame, suffix))
        except CorruptSample as error:
            damage = error
    raise damage


def _read_camera(file: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    numbers = read_numbers(file, count=21)
    return numbers[:9].reshape(3, 3), numbers[9:].reshape(3, 4)


def _baseline(place: Path, number: str) -> float:
    """Distance of the two cameras of a pair; it differs between scenes, and within one of them."""
    left, right = (_read_camera(_camera_file(place, number, side))[1] for side in _SIDES)
    return float(np.linalg.norm(invert_rigid(left)[:, 3] - invert_rigid(right)[:, 3]))


def _at_size(intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int], file: Path) -> Float[np.ndarray, "3 3"]:
    """A camera matrix in pixels of the images: the small variant may come with that of the large images.

    Its centre tells the size it is meant for; centres counted from the middle of the first pixel are moved.
    """
    height, width = size
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = 2 * intrinsics[0, 2] / width
    factor = 4 if abs(ratio - 4) < 0.4 else 1
    if not abs(ratio / factor - 1) < 0.1:
        raise CorruptSample(file, f"cx is {intrinsics[0, 2]:g} in an image {width} pixels wide")
    scaled = counted_from_corner(intrinsics, (factor * height, factor * width)).copy()
    scaled[:2] /= factor
    return scaled


DATASET = UnrealStereo4K
