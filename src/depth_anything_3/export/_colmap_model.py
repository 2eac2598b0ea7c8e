"""A COLMAP model of a prediction: cameras, images, and points where views agree on depth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.export._colmap_tracks import Tracks, find_tracks
from depth_anything_3.export._frames import first_usable, frame_from_world, moved_extrinsics
from depth_anything_3.export._points import usable_cameras
from depth_anything_3.export._source_pixels import (
    distinct_names,
    source_intrinsics,
    source_sizes,
)
from depth_anything_3.export.colmap import Options
from depth_anything_3.geometry.pinhole import project
from depth_anything_3.io.colmap import NO_POINT, ColmapCamera, ColmapImage
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ColmapModel:
    """Everything that the three files hold; P points, O observations.

    Attributes:
        cameras: by id.
        images: in ascending order of their ids, which count from 1; ``points`` hold ids, which count from 1 too.
        xyz: (P, 3) in the frame of the poses; the point with the id i is in row i - 1.
        rgb: (P, 3).
        errors: (P,) mean reprojection error in pixels; -1 for points without observations.
        tracks: (O, 3) rows of point id, image id, number of the feature in that image; ascending.
    """

    cameras: dict[int, ColmapCamera]
    images: list[ColmapImage]
    xyz: Array
    rgb: npt.NDArray[np.uint8]
    errors: Array
    tracks: Index


def build_model(prediction: Prediction, options: Options) -> ColmapModel:
    """The model of a prediction with cameras and images.

    Raises:
        InputError: no view has a usable camera, one camera is asked for pictures of different sizes, or matches for a
            prediction without any.

    Warns:
        UserWarning: a view has no usable camera, names are not distinct, or no point is left.
    """
    usable = usable_cameras(prediction, "colmap")
    views = np.flatnonzero(usable)
    found = find_tracks(prediction, views, options)
    if not len(found.xyz):
        warnings.warn("colmap: no point that enough views agree on; points3D is empty", stacklevel=3)
    matrices = source_intrinsics(prediction)
    errors = _errors(prediction, found, matrices)
    cameras = _cameras(matrices, source_sizes(prediction), views, options)
    images, tracks = _images(prediction, found, views, options)
    frame = frame_from_world(prediction, options.frame, first_usable(prediction))
    xyz = found.xyz @ frame[:3, :3].T + frame[:3, 3]
    return ColmapModel(cameras, images, xyz, found.rgb, errors, tracks)


def _errors(prediction: Prediction, tracks: Tracks, matrices: Array) -> Array:
    """Mean distance of the observations of each point from where it projects to; -1, as COLMAP has it, without any."""
    assert prediction.extrinsics is not None
    distances = np.zeros(len(tracks.xy))
    for view in np.unique(tracks.view):
        mine = tracks.view == view
        expected, _ = project(
            tracks.xyz[tracks.point[mine]], matrices[view], prediction.extrinsics[view].astype(np.float64)
        )
        distances[mine] = np.linalg.norm(expected - tracks.xy[mine], axis=-1)
    count = np.bincount(tracks.point, minlength=len(tracks.xyz))
    total = np.bincount(tracks.point, weights=distances, minlength=len(tracks.xyz))
    return np.where(count > 0, total / np.maximum(count, 1), -1.0)


def _cameras(matrices: Array, sizes: list[tuple[int, int]], views: Index, options: Options) -> dict[int, ColmapCamera]:
    parameters = matrices[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    if not options.shared_camera:
        return {view + 1: _camera(parameters[view], sizes[view]) for view in views.tolist()}
    different = {sizes[view] for view in views.tolist()}
    if len(different) > 1:
        raise InputError(
            "shared_camera", f"True for pictures of {len(different)} sizes", "False, or pictures of one size"
        )
    return {1: _camera(parameters[views].mean(0), different.pop())}


def _camera(parameters: Array, size: tuple[int, int]) -> ColmapCamera:
    values: tuple[Any, ...] = tuple(parameters.tolist())
    return ColmapCamera(model="PINHOLE", height=size[0], width=size[1], parameters=values)


def _images(prediction: Prediction, tracks: Tracks, views: Index, options: Options) -> tuple[list[ColmapImage], Index]:
    """The images, and (O, 3) rows of point id, image id and number of the feature."""
    names, poses = distinct_names(prediction, "colmap"), moved_extrinsics(prediction, options.frame)
    feature = np.full(len(tracks.xy), NO_POINT, np.int64)
    images = []
    for view in views.tolist():
        mine = np.flatnonzero(tracks.view == view)
        feature[mine] = np.arange(len(mine))
        images.append(
            ColmapImage(
                number=view + 1,
                name=names[view],
                camera=1 if options.shared_camera else view + 1,
                extrinsics=poses[view],
                xy=tracks.xy[mine],
                points=tracks.point[mine] + 1,
            )
        )
    rows = np.stack((tracks.point + 1, tracks.view + 1, feature), -1)
    return images, rows[np.lexsort(rows.T[::-1])]
