"""The picture of ``preview``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from depth_anything_3.export._colormap import colour_depth, view_colour
from depth_anything_3.export._frames import frame_from_world, moved_extrinsics, regular_poses
from depth_anything_3.export._point_options import PointOptions
from depth_anything_3.export._points import finite_pixels, point_pixels, thinned, view_points
from depth_anything_3.export.preview import Options
from depth_anything_3.geometry.pinhole import camera_centres, project
from depth_anything_3.geometry.stored_poses import central_intrinsics, focal_length
from depth_anything_3.types.prediction import Prediction, known_depth

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

_GAP, _BACKGROUND = 8, 24
_POINTS = 300_000
_CAMERAS = 24
_FIELD_OF_VIEW = np.radians(40)
_ELEVATION, _AZIMUTH = np.radians(25), np.radians(20)
_DISTANCE = 1.35  # of the diagonal of the scene
_PYRAMID = 0.06  # of it too


def draw_preview(prediction: Prediction, options: Options) -> Picture:
    """(height, W, 3) sRGB: some views and their depth, and the scene from above where there are cameras."""
    sheet = _sheet(prediction, options)
    keep = _points_to_draw(prediction)
    if keep is None:
        return sheet
    gap = np.full((len(sheet), _GAP, 3), _BACKGROUND, np.uint8)
    return np.concatenate((sheet, gap, _scene(prediction, keep, options.height)), axis=1)


def _sheet(prediction: Prediction, options: Options) -> Picture:
    """Pairs of picture and depth, one below the other, as high as asked for."""
    assert prediction.processed_images is not None
    count = min(options.views, len(prediction.depth))
    views = np.linspace(0, len(prediction.depth) - 1, count).round().astype(int)
    edges = np.linspace(0, options.height + _GAP, count + 1).round().astype(int)
    depth = known_depth(prediction)
    high, wide = depth.shape[1:]
    width = max(1, round((options.height - (count - 1) * _GAP) / count * wide / high))
    sheet = np.full((options.height, 2 * width + _GAP, 3), _BACKGROUND, np.uint8)
    for view, top, bottom in zip(views, edges, edges[1:] - _GAP, strict=False):
        pair = prediction.processed_images[view], colour_depth(depth[view])
        for picture, left in zip(pair, (0, width + _GAP), strict=True):
            small = Image.fromarray(picture).resize((width, int(bottom - top)), Image.Resampling.LANCZOS)
            sheet[top:bottom, left : left + width] = small
    return sheet


def _points_to_draw(prediction: Prediction) -> npt.NDArray[np.bool_] | None:
    """The pixels whose points are drawn; None where there is nothing to draw."""
    if prediction.extrinsics is None or prediction.intrinsics is None:
        return None
    usable = regular_poses(prediction.extrinsics) & (prediction.intrinsics[:, [0, 1], [0, 1]] > 0).all(-1)
    usable &= np.isfinite(prediction.intrinsics).all((1, 2))
    keep = point_pixels(prediction, PointOptions()) & usable[:, None, None]
    keep = thinned(finite_pixels(prediction, keep, np.eye(4)), _POINTS)
    return keep if keep.any() else None


def _scene(prediction: Prediction, keep: npt.NDArray[np.bool_], side: int) -> Picture:
    """A square picture of the points and the cameras."""
    assert prediction.processed_images is not None and prediction.extrinsics is not None
    first = int(np.argmax(regular_poses(prediction.extrinsics)))
    target = frame_from_world(prediction, "z_up", first)
    views = np.flatnonzero(keep.any((1, 2)))
    parts = [view_points(prediction, view, keep[view], target) for view in views.tolist()]
    points = np.concatenate(parts).astype(np.float64)
    colours = np.concatenate([prediction.processed_images[view][keep[view]] for view in views])
    poses = moved_extrinsics(prediction, "z_up")[views]
    low, high = np.percentile(np.concatenate((points, camera_centres(poses))), (3, 97), axis=0)
    size = float(np.linalg.norm(high - low)) or 1.0
    eye = _look_at((low + high) / 2, size * _DISTANCE)
    picture = _splat(points, colours, eye, side)
    return _with_cameras(picture, prediction, views, poses, eye, size * _PYRAMID)


def _look_at(centre: Array, distance: float) -> Array:
    """(3, 4) pose of a camera behind, above and a little beside a place, in a frame with z up and y ahead."""
    back = np.array([np.sin(_AZIMUTH), -np.cos(_AZIMUTH), 0]) * np.cos(_ELEVATION) + [0, 0, np.sin(_ELEVATION)]
    right = np.cross(-back, [0, 0, 1])
    right /= np.linalg.norm(right)
    rotation = np.stack((right, np.cross(-back, right), -back))
    return np.column_stack((rotation, -rotation @ (centre + distance * back)))


def _lens(side: int) -> Array:
    return central_intrinsics(focal_length(_FIELD_OF_VIEW, side), side, side)


def _splat(points: Array, colours: Picture, eye: Array, side: int) -> Picture:
    """Points as squares of two pixels, nearer ones in front: the last one that is written to a pixel stays."""
    xy, z = project(points, _lens(side), eye)
    picture = np.full((side + 1, side + 1, 3), _BACKGROUND, np.uint8)
    inside = (z > 0) & (xy >= 0).all(-1) & (xy < side).all(-1)
    order = np.flatnonzero(inside)[np.argsort(-z[inside], kind="stable")]
    column, row = np.floor(xy[order]).astype(int).T
    flat = picture.reshape(-1, 3)
    places = (row * (side + 1) + column)[:, None] + [0, 1, side + 1, side + 2]
    flat[places.ravel()] = np.repeat(colours[order], 4, axis=0)
    return picture[:side, :side]


def _with_cameras(
    picture: Picture, prediction: Prediction, views: npt.NDArray[np.intp], poses: Array, eye: Array, depth: float
) -> Picture:
    """The picture with a pyramid of lines for some cameras, evenly chosen."""
    assert prediction.intrinsics is not None
    count, height, width = prediction.depth.shape
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    chosen = np.linspace(0, len(views) - 1, min(len(views), _CAMERAS)).round().astype(int)
    for view, pose in zip(views[chosen].tolist(), poses[chosen], strict=True):
        rays = corners @ np.linalg.inv(prediction.intrinsics[view].astype(np.float64)).T
        ends = np.concatenate((np.zeros((1, 3)), rays * depth))
        xy, z = project((ends - pose[:, 3]) @ pose[:, :3], _lens(len(picture)), eye)
        if (z <= 0).any():
            continue
        centre, *tips = (tuple(point) for point in xy.tolist())
        colour = view_colour(view, count)
        draw.line([*tips, tips[0]], fill=colour, width=2)
        for tip in tips:
            draw.line([centre, tip], fill=colour, width=2)
    return np.asarray(image)
