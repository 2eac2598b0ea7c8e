"""A COLMAP model of a prediction: cameras, images, and points where views agree on depth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.export._frames import first_usable, frame_from_world, moved_extrinsics
from depth_anything_3.export._points import point_pixels, thinned, usable_cameras
from depth_anything_3.export._source_pixels import (
    distinct_names,
    source_from_processed,
    source_intrinsics,
    source_sizes,
)
from depth_anything_3.export.colmap import Options
from depth_anything_3.geometry.pinhole import pixel_centres, project, unproject
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
        errors: (P,) mean reprojection error in pixels.
        tracks: (O, 3) rows of point id, image id, number of the feature in that image; ascending.
    """

    cameras: dict[int, ColmapCamera]
    images: list[ColmapImage]
    xyz: Array
    rgb: npt.NDArray[np.uint8]
    errors: Array
    tracks: Index


@dataclass(frozen=True)
class _Tracks:
    """P points and O observations: the row of the point, the view, and where, in pixels of the processed image."""

    xyz: Array
    rgb: npt.NDArray[np.uint8]
    point: Index
    view: Index
    xy: Array


def build_model(prediction: Prediction, options: Options) -> ColmapModel:
    """The model of a prediction with cameras and images.

    Raises:
        InputError: no view has a usable camera, or one camera is asked for pictures of different sizes.

    Warns:
        UserWarning: a view has no usable camera, names are not distinct, or no point is left.
    """
    usable = usable_cameras(prediction, "colmap")
    views = np.flatnonzero(usable)
    keep = point_pixels(prediction, options) & usable[:, None, None]
    found = _find_tracks(prediction, keep, views, options)
    if not len(found.xyz):
        warnings.warn("colmap: no point that enough views agree on; points3D is empty", stacklevel=3)
    matrices = source_intrinsics(prediction)
    xy = _to_source(prediction, found)
    errors = _errors(prediction, found, xy, matrices)
    cameras = _cameras(matrices, source_sizes(prediction), views, options)
    images, tracks = _images(prediction, found, xy, views, options)
    frame = frame_from_world(prediction, options.frame, first_usable(prediction))
    xyz = found.xyz @ frame[:3, :3].T + frame[:3, 3]
    return ColmapModel(cameras, images, xyz, found.rgb, errors, tracks)


def _find_tracks(prediction: Prediction, keep: npt.NDArray[np.bool_], views: Index, options: Options) -> _Tracks:
    """Points of each view in turn, at pixels where no point of an earlier view was observed."""
    free, quota = keep.copy(), -(-options.num_max_points // len(views))
    least = min(options.min_views, len(views))
    parts: list[_Tracks] = []
    count = 0
    for view in views.tolist():
        seeds = thinned(free[view], quota)
        if not seeds.any():
            continue
        part = _tracks_of_view(prediction, keep, view, seeds, views, options.depth_tolerance)
        part = _long_enough(part, least)
        for other in views.tolist():
            column, row = np.floor(part.xy[part.view == other]).astype(int).T
            free[other, row, column] = False
        parts.append(_Tracks(part.xyz, part.rgb, part.point + count, part.view, part.xy))
        count += len(part.xyz)
    joined = {
        name: np.concatenate([getattr(part, name) for part in [_NOTHING, *parts]])
        for name in ("xyz", "rgb", "point", "view", "xy")
    }
    most = options.num_max_points
    return _Tracks(**joined) if count <= most else _first(_Tracks(**joined), most)


_NOTHING = _Tracks(
    np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2))
)


def _tracks_of_view(
    prediction: Prediction,
    keep: npt.NDArray[np.bool_],
    view: int,
    seeds: npt.NDArray[np.bool_],
    views: Index,
    tolerance: float,
) -> _Tracks:
    """All seeds, each with its observations; the point is the mean of what the observing views say."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    assert prediction.processed_images is not None
    depth = np.where(seeds, prediction.depth[view], 1).astype(np.float64)
    points = unproject(depth, prediction.intrinsics[view], prediction.extrinsics[view])[seeds]
    own = pixel_centres(*seeds.shape)[seeds]
    rows, total, seen = np.arange(len(points)), points.copy(), np.ones(len(points))
    found: list[tuple[Index, int, Array]] = [(rows, view, own)]
    for other in views.tolist():
        if other == view:
            continue
        agree, xy, said = _agreement(prediction, keep[other], other, points, tolerance)
        total[agree] += said
        seen[agree] += 1
        found.append((rows[agree], other, xy))
    point = np.concatenate([index for index, _, _ in found])
    order = np.argsort(point, kind="stable")
    return _Tracks(
        xyz=total / seen[:, None],
        rgb=prediction.processed_images[view][seeds],
        point=point[order],
        view=np.repeat([v for _, v, _ in found], [len(index) for index, _, _ in found])[order],
        xy=np.concatenate([xy for _, _, xy in found])[order],
    )


def _agreement(
    prediction: Prediction, keep: npt.NDArray[np.bool_], view: int, points: Array, tolerance: float
) -> tuple[npt.NDArray[np.bool_], Array, Array]:
    """Which points a view sees at its own depth; where it sees those; and where it says that they are."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    intrinsics, pose = (m[view].astype(np.float64) for m in (prediction.intrinsics, prediction.extrinsics))
    xy, z = project(points, intrinsics, pose)
    depth = _depth_at(prediction.depth[view], keep, xy)
    with np.errstate(invalid="ignore"):
        agree = (z > 0) & (np.abs(depth - z) <= tolerance * z)
    # Along the same ray, at this view's depth: z-depth and distance to the centre grow together.
    rotation = pose[:, :3]
    centre = -np.linalg.solve(rotation, pose[:, 3])
    share = depth[agree] / z[agree]
    return agree, xy[agree], centre + (points[agree] - centre) * share[:, None]


def _depth_at(depth: npt.NDArray[np.float32], keep: npt.NDArray[np.bool_], xy: Array) -> Array:
    """Depth between the centres of four kept pixels, NaN elsewhere: bilinear in 1 / depth, as planes are."""
    height, width = depth.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.where(keep, 1 / depth.astype(np.float64), np.nan)
        inside = np.asarray(((xy >= 0.5) & (xy < [width - 0.5, height - 0.5])).all(-1))
    place = np.where(inside[:, None], xy - 0.5, 0)
    column, row = np.floor(place).astype(int).T
    x, y = (place % 1).T
    right, below = np.minimum(column + 1, width - 1), np.minimum(row + 1, height - 1)
    upper = (1 - x) * inverse[row, column] + x * inverse[row, right]
    lower = (1 - x) * inverse[below, column] + x * inverse[below, right]
    return np.asarray(np.where(inside, 1 / ((1 - y) * upper + y * lower), np.nan))


def _long_enough(tracks: _Tracks, least: int) -> _Tracks:
    lengths = np.bincount(tracks.point, minlength=len(tracks.xyz))
    return _take(tracks, lengths >= least)


def _first(tracks: _Tracks, count: int) -> _Tracks:
    return _take(tracks, np.arange(len(tracks.xyz)) < count)


def _take(tracks: _Tracks, chosen: npt.NDArray[np.bool_]) -> _Tracks:
    number, mine = np.cumsum(chosen) - 1, chosen[tracks.point]
    return _Tracks(
        tracks.xyz[chosen], tracks.rgb[chosen], number[tracks.point[mine]], tracks.view[mine], tracks.xy[mine]
    )


def _to_source(prediction: Prediction, tracks: _Tracks) -> Array:
    matrices = source_from_processed(prediction)[tracks.view]
    return np.einsum("oij,oj->oi", matrices[:, :2, :2], tracks.xy) + matrices[:, :2, 2]


def _errors(prediction: Prediction, tracks: _Tracks, xy: Array, matrices: Array) -> Array:
    """Mean distance of the observations of each point from where it projects to."""
    assert prediction.extrinsics is not None
    distances = np.zeros(len(xy))
    for view in np.unique(tracks.view):
        mine = tracks.view == view
        expected, _ = project(
            tracks.xyz[tracks.point[mine]], matrices[view], prediction.extrinsics[view].astype(np.float64)
        )
        distances[mine] = np.linalg.norm(expected - xy[mine], axis=-1)
    count = np.bincount(tracks.point, minlength=len(tracks.xyz))
    return np.asarray(np.bincount(tracks.point, weights=distances, minlength=len(tracks.xyz)) / np.maximum(count, 1))


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


def _images(
    prediction: Prediction, tracks: _Tracks, xy: Array, views: Index, options: Options
) -> tuple[list[ColmapImage], Index]:
    """The images, and (O, 3) rows of point id, image id and number of the feature."""
    names, poses = distinct_names(prediction, "colmap"), moved_extrinsics(prediction, options.frame)
    feature = np.full(len(xy), NO_POINT, np.int64)
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
                xy=xy[mine],
                points=tracks.point[mine] + 1,
            )
        )
    rows = np.stack((tracks.point + 1, tracks.view + 1, feature), -1)
    return images, rows[np.lexsort(rows.T[::-1])]
