"""What the data sets for scoring have in common: a list of pictures, depth files and cameras for each scene."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64, Shaped

from depth_anything_3._optional import require
from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles, check_size
from depth_anything_3.datasets._reading import damage_in, read_image, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.benchmark.base import BenchDataset, Surface
from depth_anything_3.metrics.depth import resized_nearest


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed(SceneFiles):
    """One scene.

    Attributes:
        images: files of the pictures.
        depths: files of their depth; None where a frame has none.
        intrinsics: camera matrices.
        extrinsics: world-to-camera; None where there are no poses.
    """

    images: tuple[Path, ...]
    depths: tuple[Path | None, ...]
    intrinsics: Float[np.ndarray, "n 3 3"]
    extrinsics: Float[np.ndarray, "n 3 4"] | None = None


class ListedDataset(FolderDataset[Listed], BenchDataset):
    """A data set whose scenes are lists of files."""

    real = True
    metric = True

    @abstractmethod
    def _read_depth(self, file: Path, size: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
        """The numbers of a file in the unit of the data set; not finite or not positive where there is none."""

    def _read_mask(self, files: Listed, index: int, size: tuple[int, int]) -> Bool[np.ndarray, "h w"] | None:
        """Where depth is scored; None for everywhere."""
        return None

    def _camera(self, files: Listed, index: int) -> CameraOfFrame:
        return files.intrinsics[index], None if files.extrinsics is None else files.extrinsics[index]

    def _view(
        self,
        files: Listed,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        image = read_image(files.images[index])
        size = image.shape[0], image.shape[1]
        file = files.depths[index]
        depth = None
        if file is not None:
            if not file.is_file():
                raise CorruptSample(file, "no such file")
            depth, _ = valid_depth(self._read_depth(file, size))
            check_size(file, depth, size)
        mask = self._read_mask(files, index, size)
        return View(image=image, depth=depth, mask=mask, intrinsics=intrinsics, extrinsics=extrinsics)


def nearest(depth: Shaped[np.ndarray, "h w"], size: tuple[int, int]) -> Shaped[np.ndarray, "h2 w2"]:
    """A map at another size, each pixel from the nearest one."""
    return depth if depth.shape == size else resized_nearest(depth[None], *size)[0]


def same_camera(matrix: Float[np.ndarray, "3 3"], count: int) -> Float[np.ndarray, "n 3 3"]:
    """One camera matrix for every frame."""
    return np.repeat(np.asarray(matrix, np.float64)[None], count, 0)


def read_surface(file: Path) -> Surface:
    """A mesh or a cloud from a PLY file.

    Raises:
        CorruptSample: the file is missing or damaged.
        MissingExtraError: trimesh is not installed.
    """
    trimesh = require("trimesh", extra="bench")
    with damage_in(file):
        if not file.is_file():
            raise FileNotFoundError
        loaded = trimesh.load(file, process=False)
        points = np.asarray(loaded.vertices, np.float64)
        found: Int64[np.ndarray, "t 3"] | None = None
        if len(getattr(loaded, "faces", ())):
            found = np.asarray(loaded.faces, np.int64)
    if not len(points) or not np.isfinite(points).all():
        raise CorruptSample(file, "no point, or points that are not finite")
    return Surface(points=points, faces=found)
