"""GTA-SfM: flights through the world of a computer game, one HDF5 file for each.

Wang and Shen, "Flow-Motion and Depth Network for Monocular Stereo and Beyond", 2020. Layout: ``train/*.hdf5`` and
``test/*.hdf5`` with the keys ``image_0`` (an encoded image), ``depth_0``, ``K_0``, ``pose_0`` and so on. Needs h5py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from depth_anything_3._optional import require
from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    by_number,
    folders,
)
from depth_anything_3.datasets._reading import damage_in, read_image_bytes, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import invert_rigid

CLIP = 1000.0
"""Metres from which depth counts as sky."""

_KEYS = ("image", "depth", "K", "pose")


class GtaSfm(FolderDataset[SceneFiles]):
    """GTA-SfM; a scene is a file (``gta_sfm/train/20190124_203632``), frames are ``0``, ``1``, ...

    Args:
        root: the folder that holds ``train`` and ``test``, or one of them.
        clean: depth from :data:`CLIP` on is sky; otherwise only what is infinite.
        depth_scale: factor to metres. The files are used as they are by several readers, but one thread about the data
            speaks of a factor of 10: compare the depth of two frames when the first real file is at hand.
    """

    name = "gta_sfm"
    metric = True
    real = False
    layout = "files *.hdf5 in folders train/ and test/"

    def __init__(self, root: str | os.PathLike[str], *, clean: bool = True, depth_scale: float = 1.0) -> None:
        if not (np.isfinite(depth_scale) and depth_scale > 0):
            raise InputError("depth_scale", repr(depth_scale), "a positive number")
        self.depth_scale = depth_scale
        super().__init__(root, clean=clean)

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, _, files in folders(self.root, depth=4):
            for name in files:
                if name.endswith(".hdf5"):
                    parent = (folder.name,) if folder.name in ("train", "test") else ()
                    yield "/".join((*parent, name.removesuffix(".hdf5"))), folder / name

    def _open(self, scene: str, place: Path) -> SceneFiles:
        with damage_in(place), self._opened(place) as file:
            keys = set(file.keys())
        numbers = [{key.split("_")[1] for key in keys if key.startswith(f"{kind}_")} for kind in _KEYS]
        complete = set.intersection(*numbers)
        return SceneFiles(
            place=place,
            frames=tuple(by_number(complete)),
            skipped={"image, depth, K or pose missing": len(set.union(*numbers) - complete)},
        )

    def _camera(self, files: SceneFiles, index: int) -> CameraOfFrame:
        frame = files.frames[index]
        with damage_in(files.place), self._opened(files.place) as file:
            intrinsics = np.asarray(file[f"K_{frame}"], np.float64)
            world_from_camera = np.asarray(file[f"pose_{frame}"], np.float64)
        if intrinsics.shape != (3, 3) or world_from_camera.shape != (4, 4):
            raise CorruptSample(files.place, f"frame {frame}: K or pose has a wrong shape")
        return intrinsics, invert_rigid(world_from_camera)

    def _view(
        self,
        files: SceneFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        frame = files.frames[index]
        with damage_in(files.place), self._opened(files.place) as file:
            encoded = np.asarray(file[f"image_{frame}"], np.uint8).tobytes()
            raw = np.asarray(file[f"depth_{frame}"], np.float32)
        if raw.ndim != 2:
            raise CorruptSample(files.place, f"depth_{frame} has {raw.ndim} axes")
        image = read_image_bytes(encoded, files.place, f"image_{frame}")
        depth, sky = valid_depth(raw * np.float32(self.depth_scale), far=CLIP if self.clean else np.inf)
        return assemble(image, (files.place, depth), intrinsics=intrinsics, extrinsics=extrinsics, sky=sky)

    def _opened(self, place: Path) -> Any:
        return require("h5py", extra="train").File(place, "r")


DATASET = GtaSfm
