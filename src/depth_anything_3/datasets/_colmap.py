"""Pictures with a reconstruction by COLMAP: what data sets of that kind share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped

from depth_anything_3.datasets._folder import CameraOfFrame, FolderDataset, SceneFiles, assemble
from depth_anything_3.datasets._reading import damage_in, read_image, read_image_size
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.distortion import pinhole_intrinsics, rays_through, through_lens, undistort_image
from depth_anything_3.geometry.pinhole import pixel_centres, project
from depth_anything_3.io.cameras.colmap import camera_and_lens
from depth_anything_3.io.colmap import ColmapCamera, ColmapImage, ColmapPoints, read_cameras, read_images, read_points
from depth_anything_3.types.cameras import Lens

MAX_ERROR, MIN_TRACK = 2.0, 3
"""Points with a larger reprojection error (pixels of the reconstruction), or seen by fewer images, are left out.

These are choices made here; no cleaning is published.
"""

_SAME_SHAPE = 0.02  # of two ratios of width to height, in a picture and in its camera


@dataclass(frozen=True, kw_only=True, eq=False)
class ColmapFiles(SceneFiles):
    """A reconstruction and the pictures that are there."""

    images: tuple[Path, ...]
    registered: tuple[ColmapImage, ...]
    cameras: dict[int, ColmapCamera]
    points: ColmapPoints


class ColmapDataset(FolderDataset[ColmapFiles]):
    """Scenes with a model of COLMAP, text or binary, and a folder of pictures; their places are the model folders.

    Frames have the names of the pictures without their endings, in alphabetical order. Pictures are freed from lens
    distortion; they keep their size and centre. Depth is sparse, in the unit of the reconstruction: 0 but for the
    pixels where a point was observed.
    """

    metric = False
    real = True

    @abstractmethod
    def _pictures(self, model: Path) -> Path:
        """The folder that the names of a model are relative to."""

    def _open(self, scene: str, place: Path) -> ColmapFiles:
        with damage_in(place):
            registered = sorted(read_images(place).values(), key=lambda image: image.name)
            cameras, points = read_cameras(place), read_points(place)
        folder = self._pictures(place)
        kept = [image for image in registered if (folder / image.name).is_file()]
        if not kept:
            raise CorruptSample(folder, "none of the pictures of the reconstruction is there")
        if missing := [image for image in kept if image.camera not in cameras]:
            raise CorruptSample(place, f"image {missing[0].name} has camera {missing[0].camera}, which is not there")
        return ColmapFiles(
            place=place,
            frames=tuple(str(PurePosixPath(image.name).with_suffix("")) for image in kept),
            skipped={"no image": len(registered) - len(kept)},
            images=tuple(folder / image.name for image in kept),
            registered=tuple(kept),
            cameras=cameras,
            points=points,
        )

    def _camera(self, files: ColmapFiles, index: int) -> CameraOfFrame:
        taken_with, lens, size = self._taken_with(files, index)
        return pinhole_intrinsics(taken_with, lens, *size), files.registered[index].extrinsics

    def _taken_with(self, files: ColmapFiles, index: int) -> tuple[Float64[np.ndarray, "3 3"], Lens, tuple[int, int]]:
        """Camera matrix in pixels of the picture, lens, and height and width."""
        camera, file = files.cameras[files.registered[index].camera], files.images[index]
        with damage_in(files.place):
            matrix, lens = camera_and_lens(camera)
        size = read_image_size(file)
        x, y = size[1] / camera.width, size[0] / camera.height
        if not abs(x / y - 1) < _SAME_SHAPE:
            shape = f"{size[1]}x{size[0]} pixels, its camera {camera.width}x{camera.height}"
            raise CorruptSample(file, f"the picture has {shape}")
        return matrix * np.array([x, y, 1.0])[:, None], lens, size

    def _view(
        self,
        files: ColmapFiles,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        image = read_image(files.images[index])
        taken_with, lens, size = self._taken_with(files, index)
        k = pinhole_intrinsics(taken_with, lens, *size)
        if not lens.is_pinhole:
            image = undistort_image(image, taken_with, lens, k)
        observed = files.registered[index]
        xyz = files.points.xyz[observed_points(files.points, observed, clean=self.clean)]
        depth = sparse_depth(xyz, k, observed.extrinsics, size)
        return assemble(image, (files.place, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def undistort_nearest(
    values: Shaped[np.ndarray, "h w"],
    intrinsics: Float[np.ndarray, "3 3"],
    lens: Lens,
    target: Float[np.ndarray, "3 3"],
) -> Shaped[np.ndarray, "h w"]:
    """A map as :func:`~depth_anything_3.geometry.distortion.undistort_image` makes of a picture, but each value is that
    of the nearest pixel, and 0 where there is none."""
    height, width = values.shape
    at = through_lens(rays_through(pixel_centres(height, width), target), intrinsics, lens)
    inside = np.asarray(np.logical_and(at >= 0, at < [width, height]).all(-1))  # false for NaN
    columns, rows = np.where(inside[..., None], at, 0).astype(np.intp).transpose(2, 0, 1)
    return np.where(inside, values[rows, columns], values.dtype.type(0))


def observed_points(points: ColmapPoints, image: ColmapImage, *, clean: bool) -> Int64[np.ndarray, " n"]:
    """Positions, in ``points``, of the points that an image observes."""
    wanted = np.unique(image.points[image.points >= 0])
    found = np.flatnonzero(np.isin(points.ids, wanted))
    if clean:
        found = found[(points.errors[found] <= MAX_ERROR) & (points.track_lengths[found] >= MIN_TRACK)]
    return found.astype(np.int64)


def sparse_depth(
    xyz: Float64[np.ndarray, "n 3"],
    intrinsics: Float64[np.ndarray, "3 3"],
    extrinsics: Float[np.ndarray, "3 4"],
    size: tuple[int, int],
) -> Float32[np.ndarray, "h w"]:
    """z-depth in the pixels where points fall; of several in one pixel, the nearest."""
    depth = np.full(size, np.inf, np.float32)
    xy, z = project(xyz, intrinsics, extrinsics)
    inside = (z > 0) & (xy >= 0).all(-1) & (xy < [size[1], size[0]]).all(-1)
    columns, rows = xy[inside].astype(int).T
    np.minimum.at(depth, (rows, columns), z[inside].astype(np.float32))
    return np.where(np.isfinite(depth), depth, np.float32(0))
