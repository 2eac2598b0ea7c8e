"""The points of a prediction, view by view, so that float64 intermediates stay as small as one image."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError
from depth_anything_3.export._frames import regular_poses
from depth_anything_3.export._point_options import PointOptions
from depth_anything_3.export._selection import background, pixels_to_keep, spread_indices
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.refine.points import points
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]


def usable_cameras(prediction: Prediction, exporter: str) -> npt.NDArray[np.bool_]:
    """(N,) whether a view has a regular pose and positive focal lengths.

    Raises:
        InputError: no view has.

    Warns:
        UserWarning: a view has none.
    """
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    usable = regular_poses(prediction.extrinsics) & np.isfinite(prediction.intrinsics).all((1, 2))
    usable &= (prediction.intrinsics[:, [0, 1], [0, 1]] > 0).all(-1)
    if not usable.any():
        raise InputError("prediction", "no view with a usable camera", "finite poses and positive focal lengths")
    if not usable.all():
        views = ", ".join(str(view) for view in np.flatnonzero(~usable))
        warnings.warn(f"{exporter}: views {views} are left out, their cameras are not usable", stacklevel=3)
    return usable


def point_pixels(prediction: Prediction, options: PointOptions) -> npt.NDArray[np.bool_]:
    """(N, H, W) mask of the pixels that the options keep, before thinning."""
    images = prediction.processed_images
    backdrop = np.zeros(prediction.depth.shape, np.bool_)
    if images is not None:
        backdrop = background(images, black=options.filter_black_bg, white=options.filter_white_bg)
    if options.clean is not None:
        return cleaned_pixels(prediction, options.clean) & ~backdrop
    return pixels_to_keep(
        prediction,
        backdrop=backdrop,
        conf_thresh=options.conf_thresh,
        conf_thresh_percentile=options.conf_thresh_percentile,
        ensure_thresh_percentile=options.ensure_thresh_percentile,
    )


def cleaned_pixels(prediction: Prediction, preset: str) -> npt.NDArray[np.bool_]:
    """(N, H, W) mask of the pixels whose points a preset leaves; of points that it merges, the most confident one."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    numbers = np.concatenate((prediction.extrinsics, prediction.intrinsics), axis=2)
    placed = np.isfinite(numbers).all(axis=(1, 2), keepdims=True)
    cloud = points(prediction, preset, mask=np.broadcast_to(placed, prediction.depth.shape))
    result = np.zeros(prediction.depth.shape, np.bool_)
    result[cloud.view, cloud.pixel[:, 1], cloud.pixel[:, 0]] = True
    return result


def thinned(keep: npt.NDArray[np.bool_], limit: int) -> npt.NDArray[np.bool_]:
    """At most ``limit`` of the pixels of a mask, evenly spread."""
    chosen = np.flatnonzero(keep)
    result = np.zeros_like(keep)
    result.reshape(-1)[chosen[spread_indices(len(chosen), limit)]] = True
    return result


def view_points(
    prediction: Prediction, view: int, mask: npt.NDArray[np.bool_], target_from_world: Array
) -> npt.NDArray[np.float32]:
    """(M, 3) points of the masked pixels of a view, row by row, in the target frame; those too far are not finite."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    depth = np.where(mask, prediction.depth[view], 1).astype(np.float64)
    world = unproject(depth, prediction.intrinsics[view], prediction.extrinsics[view])[mask]
    with np.errstate(over="ignore"):
        return (world @ target_from_world[:3, :3].T + target_from_world[:3, 3]).astype(np.float32)


def finite_pixels(
    prediction: Prediction, keep: npt.NDArray[np.bool_], target_from_world: Array
) -> npt.NDArray[np.bool_]:
    """The pixels of a mask whose points :func:`view_points` gives as finite numbers."""
    result = keep.copy()
    for view in np.flatnonzero(keep.any((1, 2))).tolist():
        result[view, keep[view]] = np.isfinite(view_points(prediction, view, keep[view], target_from_world)).all(-1)
    return result
