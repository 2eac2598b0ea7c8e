"""``transforms.json`` of nerfstudio, instant-ngp and Blender scenes.

``transform_matrix`` is camera-to-world with OpenGL axes (x right, y up, z backward). Intrinsics and lens stand once for
all frames, in each frame, or as ``camera_angle_x`` alone. What ``applied_transform`` says was done to the world before
the file was written, and it is not undone: poses come in the world of the file.
"""

from __future__ import annotations

import json
import math
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from depth_anything_3.geometry.stored_poses import extrinsics_from_opengl, focal_length
from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.io.images import image_size
from depth_anything_3.types.cameras import Cameras, Lens

FILE_NAME = "transforms.json"

_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_FISHEYE = ("OPENCV_FISHEYE", "FISHEYE")


def _file(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _recognises(path: Path) -> bool:
    file = _file(path)
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open("rb") as stream:
        return file.name == FILE_NAME or b'"frames"' in stream.read(65536)


def _read(path: Path) -> Cameras:
    file = _file(path)
    content = json.loads(file.read_text(encoding="utf-8"))
    frames = [ChainMap(frame, content) for frame in content["frames"]]
    cameras = [_camera(file.parent, frame) for frame in frames]
    poses = [np.array(frame["transform_matrix"], np.float64) for frame in frames]
    if any(pose.shape not in ((3, 4), (4, 4)) for pose in poses):
        raise ValueError("a transform_matrix that is neither 3x4 nor 4x4")
    return Cameras(
        source=str(file),
        names=tuple(str(frame["file_path"]) for frame in frames),
        intrinsics=np.array([camera[0] for camera in cameras]).reshape(-1, 3, 3),
        extrinsics=np.array([extrinsics_from_opengl(pose) for pose in poses]).reshape(-1, 3, 4),
        sizes=np.array([camera[1] for camera in cameras], np.int64).reshape(-1, 2),
        lenses=tuple(camera[2] for camera in cameras),
    )


def _camera(folder: Path, frame: Mapping[str, Any]) -> tuple[Float64[np.ndarray, "3 3"], tuple[int, int], Lens]:
    height, width = _size(folder, frame)
    fx = _focal(frame, "x", width)
    fy = _focal(frame, "y", height)
    if math.isnan(fx):
        raise KeyError("fl_x")
    centre = float(frame.get("cx", width / 2)), float(frame.get("cy", height / 2))
    matrix = [[fx, 0, centre[0]], [0, fx if math.isnan(fy) else fy, centre[1]], [0, 0, 1]]
    return np.array(matrix, np.float64), (height, width), _lens(frame)


def _size(folder: Path, frame: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width as the file says, or those of the picture: scenes of Blender do not say."""
    if "w" in frame and "h" in frame:
        return int(frame["h"]), int(frame["w"])
    picture = folder / str(frame["file_path"])
    return image_size(picture if picture.suffix else picture.with_suffix(".png"), index=0)


def _focal(frame: Mapping[str, Any], axis: str, size: int) -> float:
    if f"fl_{axis}" in frame:
        return float(frame[f"fl_{axis}"])
    return focal_length(float(frame.get(f"camera_angle_{axis}", math.nan)), size)


def _lens(frame: Mapping[str, Any]) -> Lens:
    model = str(frame.get("camera_model", "OPENCV"))
    k1, k2, k3, k4, p1, p2 = (float(frame.get(name, 0.0)) for name in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model in _FISHEYE:
        return Lens("OPENCV_FISHEYE", (k1, k2, k3, k4))
    if model not in _PERSPECTIVE:
        raise ValueError(f"camera_model {model}; known are {', '.join((*_PERSPECTIVE, *_FISHEYE))}")
    if k4:
        raise ValueError(f"k4 beside camera_model {model}, which has no such coefficient")
    if model.endswith("PINHOLE") or not any((k1, k2, k3, p1, p2)):
        return Lens()
    return Lens("FULL_OPENCV", (k1, k2, p1, p2, k3, 0.0, 0.0, 0.0)) if k3 else Lens("OPENCV", (k1, k2, p1, p2))


READER = CameraReader(
    what="transforms.json of nerfstudio, or its folder",
    recognises=_recognises,
    read=_read,
)
