"""Point clouds: the pixels that cleaning leaves, in the world, merged and freed of outliers where asked for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3._optional import require
from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.geometry.voxels import occupied_voxels, sum_by
from depth_anything_3.refine.clean import keep_pixels
from depth_anything_3.refine.normals import depth_normals
from depth_anything_3.types.cloud import PointCloud, select_points
from depth_anything_3.types.options import CleanOptions, clean_preset
from depth_anything_3.types.prediction import Prediction

_GREY = 128


def points(
    prediction: Prediction,
    options: CleanOptions | str = "clean",
    *,
    mask: Bool[np.ndarray, "n h w"] | None = None,
    normals: bool = False,
) -> PointCloud:
    """The points of all views that the cleaning leaves, in the order view, row, column (of cubes, where merged).

    Args:
        prediction: with cameras. It is not changed. Without pictures the points are grey.
        options: the cleaning, or the name of a preset of :data:`~depth_anything_3.types.options.CLEAN_PRESETS`.
        mask: False where a pixel must not become a point.
        normals: also give each point the normal of the depth around its pixel.

    Raises:
        CapabilityError: the prediction has no cameras.
        InputError: an unknown preset, or a mask of another shape or type.
        MissingExtraError: outliers are to be removed and scipy is not installed.
    """
    chosen = clean_preset(options) if isinstance(options, str) else options
    require_cameras(prediction)
    keep = keep_pixels(prediction, chosen, mask=mask)
    cloud = _lifted(prediction, keep, normals)
    if not len(cloud):
        return cloud
    typical = float(np.median(prediction.depth[keep]))
    if chosen.voxel:
        cloud = merge_points(cloud, chosen.voxel * typical)
    if chosen.radius:
        near = within_radius(cloud.xyz, chosen.radius * typical, chosen.radius_neighbours)
        cloud = select_points(cloud, near)
    if chosen.outlier_std:
        spacing = _pixel_sizes(prediction, cloud)
        close = statistical_inliers(cloud.xyz, chosen.outlier_neighbours, chosen.outlier_std, spacing=spacing)
        cloud = select_points(cloud, close)
    return cloud


def require_cameras(prediction: Prediction) -> None:
    """Raise :class:`CapabilityError` unless there are poses and intrinsics."""
    missing = [name for name in ("extrinsics", "intrinsics") if getattr(prediction, name) is None]
    if missing:
        raise CapabilityError("prediction", f"no {' and no '.join(missing)}", "a prediction with cameras")


def merge_points(cloud: PointCloud, voxel: float) -> PointCloud:
    """One point for each occupied cube: the mean of place, colour and normal, weighted by confidence.

    View, pixel and confidence are those of the most confident point (the first of them).

    Args:
        cloud: any.
        voxel: side of a cube, in the unit of the cloud.

    Raises:
        InputError: the cubes are not positive or too small to be counted.
    """
    cube, count = occupied_voxels(cloud.xyz, voxel)
    total = len(count)
    weight = np.ones(len(cube)) if cloud.confidence is None else cloud.confidence.astype(np.float64)
    # Sorted by cube, then falling weight: the first of each cube is its most confident point.
    order = np.lexsort((-weight, cube))
    best = order[np.concatenate(([0], np.cumsum(count)[:-1]))] if total else order
    share = (weight / np.bincount(cube, weights=weight, minlength=total)[cube])[:, None]

    def mean(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        return sum_by(cube, values * share, total)

    kept = select_points(cloud, best)
    return PointCloud(
        xyz=mean(cloud.xyz.astype(np.float64)).astype(np.float32),
        rgb=np.rint(mean(cloud.rgb.astype(np.float64))).astype(np.uint8),
        view=kept.view,
        pixel=kept.pixel,
        confidence=kept.confidence,
        normals=None if cloud.normals is None else unit_vectors(mean(cloud.normals.astype(np.float64))),
        is_metric=cloud.is_metric,
    )


def unit_vectors(vectors: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Vectors at length 1, as float32; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > 0, length, 1)).astype(np.float32)


def statistical_inliers(
    xyz: Float[np.ndarray, "n 3"], neighbours: int, std: float, *, spacing: Float[np.ndarray, " n"] | None = None
) -> Bool[np.ndarray, " n"]:
    """Points whose mean distance to their nearest points is at most the mean over all plus ``std`` deviations.

    Args:
        xyz: finite points.
        neighbours: how many nearest points, all others where there are fewer.
        std: standard deviations.
        spacing: distance of points that is to be expected around each; distances are counted in it. Far things are
            sampled more coarsely, and would go first otherwise.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    if len(xyz) < 3:
        return np.ones(len(xyz), np.bool_)
    tree = require("scipy.spatial", extra="clean").cKDTree(xyz)
    count = min(neighbours, len(xyz) - 1)
    distance = tree.query(xyz, k=np.arange(2, count + 2))[0].mean(1)
    if spacing is not None:
        distance = distance / spacing
    inliers: npt.NDArray[np.bool_] = distance <= distance.mean() + std * distance.std()
    return inliers


def within_radius(xyz: Float[np.ndarray, "n 3"], radius: float, neighbours: int) -> Bool[np.ndarray, " n"]:
    """Points that have at least so many others within the radius.

    Args:
        xyz: finite points.
        radius: in their unit.
        neighbours: how many.

    Raises:
        InputError: the radius is not positive.
        MissingExtraError: scipy is not installed.
    """
    if not radius > 0:
        raise InputError("radius", repr(radius), "a positive length")
    if len(xyz) <= neighbours:
        return np.zeros(len(xyz), np.bool_)
    tree = require("scipy.spatial", extra="clean").cKDTree(xyz)
    farthest = tree.query(xyz, k=[neighbours + 1], distance_upper_bound=radius)[0][:, 0]
    return np.isfinite(farthest)


def _lifted(prediction: Prediction, keep: npt.NDArray[np.bool_], normals: bool) -> PointCloud:
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    view, row, column = np.nonzero(keep)
    world = [
        unproject(prediction.depth[i], prediction.intrinsics[i], prediction.extrinsics[i])[keep[i]]
        for i in range(len(keep))
    ]
    pictures, conf = prediction.processed_images, prediction.conf
    grey = np.full((len(view), 3), _GREY, np.uint8)
    return PointCloud(
        xyz=np.concatenate([np.zeros((0, 3), np.float32), *world]),
        rgb=grey if pictures is None else pictures[keep],
        view=view.astype(np.int32),
        pixel=np.stack((column, row), -1).astype(np.int32),
        confidence=None if conf is None else conf[keep],
        normals=_world_normals(prediction, keep) if normals else None,
        is_metric=prediction.is_metric,
    )


def _world_normals(prediction: Prediction, keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    turned = [
        depth_normals(prediction.depth[i : i + 1], prediction.intrinsics[i : i + 1], keep[i : i + 1])[0][keep[i]]
        @ prediction.extrinsics[i, :, :3]
        for i in range(len(keep))
    ]
    return unit_vectors(np.concatenate([np.zeros((0, 3), np.float32), *turned]))


def _pixel_sizes(prediction: Prediction, cloud: PointCloud) -> npt.NDArray[np.float64]:
    """How far apart the pixels of the view that saw each point are at its depth, give or take its slant."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    depth = prediction.depth[cloud.view, cloud.pixel[:, 1], cloud.pixel[:, 0]].astype(np.float64)
    return depth / prediction.intrinsics[cloud.view, 0, 0]
