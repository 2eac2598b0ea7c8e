"""NYUv2, the 654 test pictures of the labelled set (Silberman et al., 2012).

Layout: ``nyu_depth_v2_labeled.mat`` (MATLAB 7.3, so HDF5: axes are reversed) and ``splits.mat``, whose numbers begin
with 1. The raw depth is scored, without what was painted in.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from depth_anything_3._optional import require
from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles
from depth_anything_3.datasets._reading import damage_in, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.datasets.benchmark.base import BenchDataset, Crop

FILE, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"

INTRINSICS = np.array([[518.857901, 0, 325.582449 + 0.5], [0, 519.469611, 253.736166 + 0.5], [0, 0, 1]])
"""Of the colour camera; the calibration counts the centre of the first pixel as (0, 0)."""


class NyuV2(FolderDataset[SceneFiles], BenchDataset):
    """One scene, ``nyuv2/test``; frames are numbers from 0."""

    name = "nyuv2"
    title = "NYUv2, Eigen split"
    modes = ("mono", "metric")
    metric = True
    real = True
    depth_range = (1e-3, 10.0)
    crop = Crop(rows=(45 / 480, 471 / 480), columns=(41 / 640, 601 / 640))
    max_frames = None
    layout = f"{FILE} and {SPLITS}"

    def _find(self) -> Iterator[tuple[str, Path]]:
        if (self.root / FILE).is_file():
            yield "test", self.root / FILE

    def _open(self, scene: str, place: Path) -> SceneFiles:
        file = self.root / SPLITS
        loader = require("scipy.io", extra="bench")
        with damage_in(file):
            if not file.is_file():
                raise FileNotFoundError
            numbers = np.asarray(loader.loadmat(str(file))["testNdxs"]).ravel().astype(int) - 1
        return SceneFiles(place=place, frames=tuple(str(number) for number in sorted(numbers)))

    def _camera(self, files: SceneFiles, index: int) -> CameraOfFrame:
        return INTRINSICS, None

    def _view(
        self,
        files: SceneFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        number = int(files.frames[index])
        module = require("h5py", extra="bench")
        with damage_in(files.place), module.File(files.place, "r") as data:
            picture, depth = np.asarray(data["images"][number]), np.asarray(data["rawDepths"][number])
        if picture.ndim != 3 or picture.shape[0] != 3 or depth.shape != picture.shape[1:]:
            raise CorruptSample(files.place, f"picture {number}: shapes {picture.shape} and {depth.shape}")
        image = np.ascontiguousarray(picture.transpose(2, 1, 0))
        return View(image=image, depth=valid_depth(depth.T)[0], intrinsics=intrinsics, extrinsics=extrinsics)


DATASET = NyuV2
