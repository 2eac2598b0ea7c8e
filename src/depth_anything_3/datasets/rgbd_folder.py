"""Posed colour and depth in plain folders: the format for data of one's own.

A scene is a folder with

* ``images/NAME.png`` or ``.jpg``, ``.jpeg``;
* ``scene.npz`` with ``names`` (N,), ``K`` (3, 3) or (N, 3, 3) in pixels and, for posed data, ``c2w`` (N, 4, 4)
  camera-to-world with OpenCV axes; optional ``units`` (or ``unit``; ``"m"`` where there is none) and ``pixel_centre``
  (where ``K`` has the centre of the top-left pixel: 0.5, or 0.0 for many cameras calibrated with OpenCV);
* optional ``depth/NAME.npy`` (float z-depth, 0 where there is none) or ``depth/NAME.png`` (16-bit, thousandths);
* optional ``sky/NAME.png`` and ``mask/NAME.png`` (128 and more where the sky, the object is seen).

Frames may lack depth, sky or mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    check_size,
    folders_holding,
)
from depth_anything_3.datasets._reading import (
    damage_in,
    read_grey_16,
    read_image,
    read_mask,
    read_npy,
    valid_depth,
)
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import invert_rigid

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG", ".JPEG")
_METRES = frozenset({"m", "metre", "metres", "meter", "meters"})
_MILLI = np.float32(0.001)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scene(SceneFiles):
    images: tuple[Path, ...]
    intrinsics: Float[np.ndarray, "n 3 3"]
    poses: Float[np.ndarray, "n 4 4"] | None


class RgbdFolder(FolderDataset[_Scene]):
    """Folders in the format above; scene ids are the paths of the folders below ``root``.

    ``metric`` is True where the unit of every scene is the metre.

    Args:
        root: one scene, or a folder of scenes, up to four levels deep. One scene has the name of its folder.
        clean: has no meaning here; data of one's own are as they are.
        real: whether the pictures are photographs.
        pixel_centre: used instead of what ``scene.npz`` says: 0.5, or 0.0.
    """

    name = "rgbd_folder"
    layout = "scene.npz beside images/, in this folder or in folders below it"

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        clean: bool = True,
        real: bool = True,
        pixel_centre: float | None = None,
    ) -> None:
        if pixel_centre not in (None, 0.0, 0.5):
            raise InputError("pixel_centre", repr(pixel_centre), "where K has the centre of a pixel", (0.0, 0.5))
        self.real = real
        self.pixel_centre = pixel_centre
        super().__init__(root, clean=clean)

    @cached_property
    def metric(self) -> bool:  # type: ignore[override]
        """Whether every scene that can be read is in metres."""
        return all(_is_metric(place / "scene.npz") for place in self._places.values())

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "scene.npz", "images", depth=4):
            relative = folder.relative_to(self.root).as_posix()
            yield (self.root.name if relative == "." else relative), folder

    def _open(self, scene: str, place: Path) -> _Scene:
        names, intrinsics, poses = self._read_cameras(place / "scene.npz")
        existing = set(os.listdir(place / "images"))  # noqa: PTH208 - names are all that is needed
        images = [
            next((name + suffix for suffix in IMAGE_SUFFIXES if name + suffix in existing), None) for name in names
        ]
        kept = [index for index, image in enumerate(images) if image is not None]
        return _Scene(
            place=place,
            frames=tuple(names[index] for index in kept),
            skipped={"no image": len(names) - len(kept)},
            images=tuple(place / "images" / image for image in images if image is not None),
            intrinsics=intrinsics[kept],
            poses=None if poses is None else poses[kept],
        )

    def _read_cameras(
        self, file: Path
    ) -> tuple[list[str], Float[np.ndarray, "n 3 3"], Float[np.ndarray, "n 4 4"] | None]:
        with damage_in(file), np.load(file, allow_pickle=False) as content:
            names = [str(name) for name in content["names"].reshape(-1)]
            count = len(names)
            given = content["K"].astype(np.float64)
            intrinsics = np.broadcast_to(given, (count, 3, 3)).copy() if given.ndim == 2 else given
            poses = content["c2w"].astype(np.float64) if "c2w" in content else None
            centre = float(content["pixel_centre"]) if "pixel_centre" in content else 0.5
        if intrinsics.shape != (count, 3, 3):
            raise CorruptSample(file, f"K has shape {intrinsics.shape} for {count} names")
        if poses is not None and poses.shape != (count, 4, 4):
            raise CorruptSample(file, f"c2w has shape {poses.shape} for {count} names")
        if len(set(names)) != count:
            raise CorruptSample(file, "a name is there twice")
        intrinsics[:, :2, 2] += 0.5 - (centre if self.pixel_centre is None else self.pixel_centre)
        return names, intrinsics, poses

    def _camera(self, files: _Scene, index: int) -> CameraOfFrame:
        return files.intrinsics[index], None if files.poses is None else invert_rigid(files.poses[index])

    def _view(
        self,
        files: _Scene,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        image = read_image(files.images[index])
        return assemble(
            image,
            _read_depth(files.place / "depth", frame),
            intrinsics=intrinsics,
            extrinsics=extrinsics,
            sky=_read_flags(files.place / "sky" / f"{frame}.png", image.shape[:2]),
            mask=_read_flags(files.place / "mask" / f"{frame}.png", image.shape[:2]),
        )


def _read_depth(folder: Path, frame: str) -> tuple[Path, Float32[np.ndarray, "h w"]] | None:
    array_file, picture_file = folder / f"{frame}.npy", folder / f"{frame}.png"
    if array_file.is_file():
        return array_file, valid_depth(read_npy(array_file))[0]
    if picture_file.is_file():
        return picture_file, read_grey_16(picture_file) * _MILLI
    return None


def _read_flags(file: Path, size: tuple[int, ...]) -> Bool[np.ndarray, "h w"] | None:
    if not file.is_file():
        return None
    flags = read_mask(file) >= 128
    check_size(file, flags, size)
    return flags


def _is_metric(file: Path) -> bool:
    try:
        with damage_in(file), np.load(file, allow_pickle=False) as content:
            return next((str(content[key]) for key in ("units", "unit") if key in content), "m") in _METRES
    except CorruptSample:
        return True  # its frames cannot be loaded either


DATASET = RgbdFolder
