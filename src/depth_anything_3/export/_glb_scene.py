"""A prediction as a glTF scene: coloured points and cameras.

The scene has the axes of the chosen frame, turned to those of glTF (x right, y up, z backward). Its origin is the
median of the points; with the frame ``input`` it stays that of the poses. The matrix from the world of the prediction
is stored on the scene as ``extras.hf_alignment`` (row by row), so that the exported coordinates can be taken back.
Points carry their confidence as the attribute ``_CONFIDENCE``.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.export._cloud import UNITS
from depth_anything_3.export._colormap import view_colour
from depth_anything_3.export._frames import GLTF_FROM_OPENCV, gltf_from_world, homogeneous, rigid
from depth_anything_3.export._gltf import GltfDocument
from depth_anything_3.export._points import point_pixels, usable_cameras, view_points
from depth_anything_3.export._selection import spread_indices
from depth_anything_3.export.glb import Options
from depth_anything_3.types.prediction import Prediction

_NEAR_PLANE = 1e-3  # of the size of the scene

Array = npt.NDArray[np.float64]


def build_scene(prediction: Prediction, options: Options) -> GltfDocument:
    """The scene of a prediction that has images and cameras.

    Raises:
        InputError: no view has a usable camera.

    Warns:
        UserWarning: a view has no usable camera, or no point is left.
    """
    assert prediction.extrinsics is not None
    usable = usable_cameras(prediction, "glb")
    axes_from_world = gltf_from_world(prediction, options.frame, int(np.argmax(usable)))
    keep = point_pixels(prediction, options) & usable[:, None, None]
    points, colours, confidence = _coloured_points(prediction, keep, axes_from_world)
    centred = len(points) and options.frame != "input"
    origin = np.array([np.median(axis) for axis in points.T]) if centred else np.zeros(3)
    alignment = axes_from_world.copy()
    alignment[:3, 3] -= origin

    chosen = spread_indices(len(points), options.num_max_points)
    points, colours = (points[chosen] - origin).astype(np.float32), colours[chosen]
    sure = None if confidence is None else confidence[chosen]
    about = {"scale": prediction.scale, "unit": UNITS[prediction.scale], "frame": options.frame}
    document = GltfDocument({"hf_alignment": alignment.tolist(), **about, "model_name": prediction.model_name})
    if len(points):
        mesh = document.add_mesh("points", "points", points, colours, confidence=sure)
        document.add_node("points", mesh=mesh)
    else:
        warnings.warn("glb: no pixel has a valid, confident depth; the file holds cameras only", stacklevel=2)
    _add_cameras(document, prediction, np.flatnonzero(usable), alignment, _size(points), options)
    return document


def _coloured_points(
    prediction: Prediction, keep: npt.NDArray[np.bool_], target_from_world: Array
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]:
    """Points (M, 3) in the target frame, colours and confidence (None where unknown), in view-row-column order."""
    assert prediction.processed_images is not None
    points, colours, confidence = [], [], []
    for view in np.flatnonzero(keep.any((1, 2))).tolist():
        moved = view_points(prediction, view, keep[view], target_from_world)
        finite = np.isfinite(moved).all(-1)
        points.append(moved[finite])
        colours.append(prediction.processed_images[view][keep[view]][finite])
        if prediction.conf is not None:
            confidence.append(prediction.conf[view][keep[view]][finite])
    none = np.zeros(0, np.float32)
    return (
        np.concatenate([none.reshape(0, 3), *points]),
        np.concatenate([np.zeros((0, 3), np.uint8), *colours]),
        None if prediction.conf is None else np.concatenate([none, *confidence]),
    )


def _size(points: npt.NDArray[np.float32]) -> float:
    """Diagonal of the box from the 5th to the 95th percentile of each axis; 1 where that is nothing."""
    if not len(points):
        return 1.0
    low, high = np.percentile(points, (5, 95), axis=0)
    return float(np.linalg.norm(high.astype(np.float64) - low)) or 1.0


def _add_cameras(
    document: GltfDocument,
    prediction: Prediction,
    views: npt.NDArray[np.intp],
    alignment: Array,
    size: float,
    options: Options,
) -> None:
    """One node per view with the pose and the lens, and one with a pyramid of lines where cameras are shown.

    Not one node for both: trimesh leaves out what else a camera node holds.
    """
    count, height, width = prediction.depth.shape
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    world_from_camera = np.linalg.inv(homogeneous(prediction.extrinsics)[views])
    for view, pose in zip(views, world_from_camera, strict=True):
        name = prediction.names[view] if prediction.names else f"view_{view:04d}"
        intrinsics = prediction.intrinsics[view].astype(np.float64)
        matrix = rigid(alignment @ pose @ GLTF_FROM_OPENCV)
        camera = document.add_camera(name, znear=size * _NEAR_PLANE, **_lens(intrinsics, height, width))
        document.add_node(name, camera=camera, matrix=matrix)
        if options.show_cameras:
            lines = _pyramid(intrinsics, height, width, size * options.camera_size)
            mesh = document.add_mesh(
                f"{name} pyramid",
                "lines",
                lines,
                np.tile(np.array(view_colour(view, count), np.uint8), (len(lines), 1)),
            )
            document.add_node(f"{name} pyramid", mesh=mesh, matrix=matrix)


def _lens(intrinsics: Array, height: int, width: int) -> dict[str, Any]:
    """The glTF lens nearest to a camera matrix. glTF knows no skew and no shifted centre: extras hold the truth."""
    half_width, half_height = width / 2 / intrinsics[0, 0], height / 2 / intrinsics[1, 1]
    extras = {"intrinsics": intrinsics.tolist(), "width": width, "height": height}
    return {"yfov": 2 * float(np.arctan(half_height)), "aspect_ratio": half_width / half_height, "extras": extras}


def _pyramid(intrinsics: Array, height: int, width: int, depth: float) -> npt.NDArray[np.float32]:
    """(16, 3) ends of eight segments in glTF camera axes: the centre to the image corners, and the image border."""
    corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], np.float64)
    tips = corners @ np.linalg.inv(intrinsics).T @ GLTF_FROM_OPENCV[:3, :3] * depth
    edges = np.stack((tips, np.roll(tips, -1, axis=0)), axis=1)
    spokes = np.stack((np.zeros_like(tips), tips), axis=1)
    return np.concatenate((spokes, edges)).reshape(-1, 3).astype(np.float32)
