"""MegaDepth with dense depth: photographs of sights from the internet, and multi-view stereo.

Li and Snavely, "MegaDepth: Learning Single-View Depth Prediction from Internet Photos", 2018. Layout:
``{0000}/dense{0,1,...}/{imgs/*.jpg,depths/*.h5}`` of the package with depth, and ``{0000}/sparse/manhattan/{0,1,...}/``
of the package with the reconstructions, in the same folder or in one beside it. For the pictures as taken and sparse
depth see :mod:`~depth_anything_3.datasets.megadepth`. Needs h5py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, Float32

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    folders_holding,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, read_hdf5, read_image, read_image_size, valid_depth
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.io.cameras.colmap import camera_and_lens
from depth_anything_3.io.colmap import ColmapCamera, ColmapImage, find_model, read_cameras, read_images

_NUMBER, _DENSE = re.compile(r"[0-9]{4}"), re.compile(r"dense([0-9]+)")
_HALF = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])  # OpenCV counts from the middle of the first pixel


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place(SceneFiles):
    images: tuple[Path, ...]
    registered: tuple[ColmapImage, ...]
    cameras: dict[int, ColmapCamera]


class MegaDepthDense(FolderDataset[_Place]):
    """MegaDepth with dense depth; scenes are ``megadepth_dense/{0000}/{k}``, frames have the names of the pictures.

    The pictures were freed from distortion by OpenCV, showing no pixel from outside, and the camera is what that gives.
    Ordinal depth, stored under the same name with negative values, counts as corrupt. Pictures differ in size.

    Args:
        root: a folder above both packages, or the one that holds both.
        clean: has nothing to do.
    """

    name = "megadepth_dense"
    metric = False
    real = True
    layout = "folders 0000/dense0/ that hold imgs/ and depths/, and 0000/sparse/manhattan/0/ with a COLMAP model"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder in folders_holding(self.root, "imgs", "depths", depth=5):
            part = _DENSE.fullmatch(folder.name)
            if part and _NUMBER.fullmatch(folder.parent.name):
                yield f"{folder.parent.name}/{part[1]}", folder

    def _open(self, scene: str, place: Path) -> _Place:
        _, number, part = scene.split("/")
        model = self._model(place, number, part)
        with damage_in(model):
            registered = {Path(image.name).stem: image for image in read_images(model).values()}
            cameras = read_cameras(model)
        images = {Path(name).stem: place / "imgs" / name for name in names_matching(place / "imgs", "", "")}
        complete = images.keys() & names_matching(place / "depths", "", ".h5")
        kept = sorted(name for name in complete & registered.keys() if registered[name].camera in cameras)
        skipped = {"no depth": len(images) - len(complete), "no camera": len(complete) - len(kept)}
        return _Place(
            place=place,
            frames=tuple(kept),
            skipped=skipped,
            images=tuple(images[name] for name in kept),
            registered=tuple(registered[name] for name in kept),
            cameras=cameras,
        )

    def _model(self, place: Path, number: str, part: str) -> Path:
        """The reconstruction of a place: beside its depth, or in a package beside the one with depth."""
        below = Path(number, "sparse", "manhattan", part)
        above = place.parents[1]
        for package in (above, *sorted(above.parent.glob("*/")), *sorted(self.root.glob("*/"))):
            if (model := find_model(package / below, beside=("cameras",), deep=False)) is not None:
                return model
        raise CorruptSample(place, f"no reconstruction {below.as_posix()} here or in a package beside it")

    def _camera(self, files: _Place, index: int) -> CameraOfFrame:
        image = files.registered[index]
        with damage_in(files.place):
            camera = files.cameras[image.camera]
            matrix, lens = camera_and_lens(camera)
        height, width = read_image_size(files.images[index])
        if not lens.is_pinhole and lens.model != "OPENCV":
            raise CorruptSample(files.place, f"camera model {camera.model}")
        bend = np.zeros(4) if lens.is_pinhole else np.array(lens.coefficients)
        return undistorted_matrix(matrix, bend, (camera.height, camera.width), (height, width)), image.extrinsics

    def _view(
        self,
        files: _Place,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        depth_file = files.place / "depths" / f"{files.frames[index]}.h5"
        image, stored = read_image(files.images[index]), read_hdf5(depth_file, "depth")
        if stored.ndim != 2:
            raise CorruptSample(depth_file, f"depth has {stored.ndim} axes")
        if stored.min(initial=0) < 0:
            raise CorruptSample(depth_file, "ordinal depth")
        depth, _ = valid_depth(stored)
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def undistorted_matrix(
    matrix: Float[np.ndarray, "3 3"],
    bend: Float[np.ndarray, 4],
    taken: tuple[int, int],
    size: tuple[int, int],
) -> Float[np.ndarray, "3 3"]:
    """Camera matrix of the pictures of the data set: centred, and no pixel is from outside the picture as taken.

    Args:
        matrix: of the picture as taken.
        bend: k1, k2, p1, p2 of its lens.
        taken: its height and width.
        size: height and width of the picture in the data set.
    """
    new, _ = cv2.getOptimalNewCameraMatrix(
        matrix - _HALF, bend, taken[::-1], 0.0, size[::-1], centerPrincipalPoint=True
    )
    return new + _HALF


DATASET = MegaDepthDense
