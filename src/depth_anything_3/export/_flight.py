"""Frames of a flight through the Gaussians of a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from depth_anything_3.errors import CameraFileError, InputError
from depth_anything_3.export._colormap import colour_log_depth
from depth_anything_3.export._film import Picture
from depth_anything_3.export._frames import first_usable
from depth_anything_3.export._gaussians import cleaned
from depth_anything_3.export.gs_video import Options
from depth_anything_3.geometry.stored_poses import intrinsics_problem, pose_problem
from depth_anything_3.io.cameras.base import read_cameras
from depth_anything_3.splat.base import render
from depth_anything_3.splat.options import RenderOptions, possible_trajectory
from depth_anything_3.splat.trajectories import CameraPath, camera_path
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]

_GAP = 8  # white pixels between a picture and its depth
_QUANTILES = (1, 99)


def frames(prediction: Prediction, options: Options) -> Iterator[Picture]:
    """RGB pictures along the path, with their depth where it is asked for.

    Depth is coloured by its logarithm between the 1st and the 99th percentile of the predicted depth, so that colours
    do not change from frame to frame.
    """
    path = flight_path(prediction, options)  # what is wrong with it is said before anything is drawn
    return drawn_along(path, prediction, options)


def drawn_along(path: CameraPath, prediction: Prediction, options: Options) -> Iterator[Picture]:
    """The frames of a path whose intrinsics are in pixels of the film; see :func:`frames`."""
    gaussians = cleaned(prediction, options, "gs_video")
    size = _film_size(prediction, options)
    drawing = RenderOptions(background=options.background, near=_near(prediction))
    low, high = _depth_range(prediction)
    for pose, lens in zip(path.extrinsics, path.lenses, strict=True):
        with torch.inference_mode():
            seen = render(
                gaussians,
                torch.from_numpy(pose)[None, None].float(),
                torch.from_numpy(lens)[None, None].float(),
                size,
                options=drawing,
                rasteriser=options.rasteriser,
            )
        picture = (seen.colour[0, 0].clamp(0, 1).movedim(0, -1).cpu().numpy() * 255).round().astype(np.uint8)
        depth = seen.depth[0, 0].cpu().numpy()
        yield picture if options.vis_depth is None else _joined(picture, colour_log_depth(depth, low, high), options)


def _joined(picture: Picture, depth: Picture, options: Options) -> Picture:
    axis = 1 if options.vis_depth == "hcat" else 0
    shape = list(picture.shape)
    shape[axis] = _GAP
    joined: Picture = np.concatenate((picture, np.full(shape, 255, np.uint8), depth), axis)
    return joined


def flight_path(prediction: Prediction, options: Options) -> CameraPath:
    """The cameras of all frames, with intrinsics in pixels of the film.

    Raises:
        InputError: the path asked for needs more views, or given matrices are no cameras.
        CameraFileError: the file of cameras cannot be read, or has no poses.
    """
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    first = first_usable(prediction)
    lenses = _at_film_size(prediction, options)
    if options.cameras is not None:
        return _from_file(options.cameras, lenses[first], _film_size(prediction, options))
    if options.extrinsics is not None:
        return _from_matrices(options.extrinsics, options.intrinsics, lenses[first])
    name = possible_trajectory(options.trj_mode, len(lenses))
    return camera_path(name, prediction.extrinsics.astype(np.float64), lenses, unit=_unit(prediction, first))


def _at_film_size(prediction: Prediction, options: Options) -> Array:
    """Intrinsics of the views for the size of the film: the same scale in both directions, as large as fits."""
    assert prediction.intrinsics is not None
    lenses = prediction.intrinsics.astype(np.float64)
    if options.out_image_hw is None:
        return lenses
    old = np.array(prediction.depth.shape[:0:-1])
    new = np.array(options.out_image_hw[::-1])
    scale = (new / old).min()
    lenses[:, :2] *= scale
    lenses[:, :2, 2] += (new - scale * old) / 2
    return lenses


def _film_size(prediction: Prediction, options: Options) -> tuple[int, int]:
    return options.out_image_hw or (prediction.depth.shape[1], prediction.depth.shape[2])


def _from_file(file: str, lens: Array, size: tuple[int, int]) -> CameraPath:
    cameras = read_cameras(file)
    if cameras.extrinsics is None:
        raise CameraFileError("cameras", file, "no poses in it", "a file of poses")
    if any(not one.is_pinhole for one in cameras.lenses):
        raise CameraFileError("cameras", file, "lenses with distortion", "pinhole cameras")
    lenses = np.repeat(lens[None], len(cameras), 0)
    if cameras.intrinsics is not None:
        lenses = cameras.intrinsics.copy()
        if cameras.sizes is not None:
            lenses[:, :2] *= (np.array(size) / cameras.sizes)[:, ::-1, None]
    return _path(cameras.extrinsics, lenses)


def _from_matrices(
    extrinsics: Sequence[Sequence[Sequence[float]]], intrinsics: Sequence[Sequence[Sequence[float]]] | None, lens: Array
) -> CameraPath:
    poses = _matrices("extrinsics", extrinsics, ((3, 4), (4, 4)))
    lenses = (
        np.repeat(lens[None], len(poses), 0) if intrinsics is None else _matrices("intrinsics", intrinsics, ((3, 3),))
    )
    if len(lenses) != len(poses):
        raise InputError("intrinsics", f"{len(lenses)} matrices for {len(poses)} poses", "one for each")
    for i, (pose, matrix) in enumerate(zip(poses, lenses, strict=True)):
        for name, problem in (("extrinsics", pose_problem(pose[:3])), ("intrinsics", intrinsics_problem(matrix))):
            if problem is not None:
                raise InputError(name, f"in frame {i}: {problem}", "world-to-camera poses, and camera matrices")
    return _path(poses[:, :3], lenses)


def _matrices(name: str, values: Sequence[Sequence[Sequence[float]]], shapes: tuple[tuple[int, int], ...]) -> Array:
    expected = " or ".join(f"(M, {rows}, {columns})" for rows, columns in shapes)
    try:
        array = np.array(values, np.float64)
    except ValueError:
        raise InputError(name, "rows of different lengths", f"shape {expected}") from None
    if array.ndim != 3 or array.shape[1:] not in shapes or not len(array):
        raise InputError(name, f"shape {array.shape}", f"shape {expected}")
    return array


def _path(extrinsics: Array, lenses: Array) -> CameraPath:
    poses = np.tile(np.eye(4), (len(extrinsics), 1, 1))
    poses[:, :3] = extrinsics
    return CameraPath(np.asarray(np.linalg.inv(poses), np.float64), lenses)


def _known(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return depth[np.isfinite(depth) & (depth > 0)]


def _unit(prediction: Prediction, view: int) -> float:
    """Median depth of a view; of all, where that one has none."""
    depth = _known(prediction.depth[view])
    depth = depth if depth.size else _known(prediction.depth)
    return float(np.median(depth)) if depth.size else 1.0


def _near(prediction: Prediction) -> float:
    """The near plane: at a hundredth of the typical depth, whatever the unit."""
    return 0.01 * _unit(prediction, 0)


def _depth_range(prediction: Prediction) -> tuple[float, float]:
    depth = _known(prediction.depth)
    if not depth.size:
        return 1.0, 1.0
    low, high = np.percentile(depth, _QUANTILES)
    return float(low), float(high)
