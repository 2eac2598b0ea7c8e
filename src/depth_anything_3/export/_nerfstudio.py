"""The folder that ``nerfstudio`` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export._cloud import UNITS, write_cloud
from depth_anything_3.export._frames import AXES, moved_extrinsics
from depth_anything_3.export._json import write_json
from depth_anything_3.export._points import usable_cameras
from depth_anything_3.export._source_pixels import source_intrinsics, source_sizes
from depth_anything_3.export.nerfstudio import Options
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.types.prediction import Prediction

_OPENGL = np.array([1.0, -1.0, -1.0, 1.0])


def write_scene(prediction: Prediction, paths: list[Path], options: Options) -> list[Path]:
    """Write the files whose names are ``paths``: the cameras, then the pictures, then the points.

    The cameras are written last, so that what they name is there once they are.
    """
    if not options.images and not prediction.names:
        raise InputError("images", "False for a prediction without names of its inputs", "True")
    usable = usable_cameras(prediction, "nerfstudio")
    cameras, *others = paths
    pictures = [path for path in others if path.suffix == ".png"]
    assert prediction.processed_images is not None
    for path, image in zip(pictures, prediction.processed_images, strict=False):
        with atomic_path(path) as temporary:
            Image.fromarray(image).save(temporary, format="PNG")
    if options.points:
        write_cloud(prediction, others[-1], options, options.frame, "nerfstudio", usable=usable)
    files = [path.relative_to(cameras.parent).as_posix() for path in pictures] or list(prediction.names)
    frames = _frames(prediction, files, options)
    content: dict[str, Any] = {
        "camera_model": "OPENCV",
        "frames": [frame for frame, there in zip(frames, usable, strict=True) if there],
        "depth_anything_3": {"frame": AXES[options.frame], "unit": UNITS[prediction.scale]},
    }
    if options.points:
        content["ply_file_path"] = others[-1].name
    write_json(cameras, content)
    return paths


def _frames(prediction: Prediction, files: list[str], options: Options) -> list[dict[str, Any]]:
    assert prediction.intrinsics is not None
    count, height, width = prediction.depth.shape
    matrices = prediction.intrinsics.astype(np.float64) if options.images else source_intrinsics(prediction)
    sizes = [(height, width)] * count if options.images else source_sizes(prediction)
    frames = []
    for file, pose, matrix, (h, w) in zip(
        files, moved_extrinsics(prediction, options.frame), matrices, sizes, strict=True
    ):
        transform = np.vstack((invert_rigid(pose) * _OPENGL, [0, 0, 0, 1]))
        lens = {"fl_x": matrix[0, 0], "fl_y": matrix[1, 1], "cx": matrix[0, 2], "cy": matrix[1, 2]}
        numbers = {name: float(value) for name, value in lens.items()}
        frames.append({"file_path": file, "w": w, "h": h, **numbers, "transform_matrix": transform.tolist()})
    return frames
