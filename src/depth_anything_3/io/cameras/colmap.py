"""COLMAP models, text or binary: a model folder, one of its files, or the folder with ``sparse/0`` in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.io.colmap import ColmapCamera, find_model, read_cameras, read_images
from depth_anything_3.types.cameras import Cameras, Lens

_FILES = frozenset({"cameras", "images", "points3D", "frames", "rigs"})

# Name in COLMAP -> (lens model, how many of the first parameters are focal lengths, zeros after the coefficients).
_LENSES = {
    "SIMPLE_PINHOLE": ("PINHOLE", 1, 0),
    "PINHOLE": ("PINHOLE", 2, 0),
    "SIMPLE_RADIAL": ("OPENCV", 1, 3),
    "RADIAL": ("OPENCV", 1, 2),
    "OPENCV": ("OPENCV", 2, 0),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", 2, 0),
    "FULL_OPENCV": ("FULL_OPENCV", 2, 0),
    "FOV": ("FOV", 2, 0),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", 1, 3),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", 1, 2),
    "THIN_PRISM_FISHEYE": ("THIN_PRISM_FISHEYE", 2, 0),
    "RAD_TAN_THIN_PRISM_FISHEYE": ("RAD_TAN_THIN_PRISM_FISHEYE", 2, 0),
    "SIMPLE_DIVISION": ("DIVISION", 1, 0),
    "DIVISION": ("DIVISION", 2, 0),
    "SIMPLE_FISHEYE": ("OPENCV_FISHEYE", 1, 4),
    "FISHEYE": ("OPENCV_FISHEYE", 2, 4),
    "EUCM": ("EUCM", 2, 0),
}


def camera_and_lens(camera: ColmapCamera) -> tuple[Float64[np.ndarray, "3 3"], Lens]:
    """Camera matrix and lens of a camera of COLMAP.

    Raises:
        ValueError: an unknown model, one that no pinhole can follow, or a wrong number of parameters.
    """
    if camera.model not in _LENSES:
        known = ", ".join(_LENSES)
        raise ValueError(f"camera model {camera.model} is not one that can become a pinhole: {known}")
    model, focals, zeros = _LENSES[camera.model]
    fx, fy, cx, cy, *rest = camera.parameters if focals == 2 else (camera.parameters[0], *camera.parameters)
    lens = Lens(model, (*rest, *(0.0,) * zeros))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64), lens


def model_in(path: Path) -> Path | None:
    """The model that a path stands for: the folder itself, ``sparse`` or ``sparse/0`` in it; for a file, its folder."""
    if path.is_file():
        known = path.suffix in (".bin", ".txt") and path.stem in _FILES
        return find_model(path.parent, beside=("cameras",), deep=False) if known else None
    places = [path, path / "sparse", *sorted((path / "sparse").glob("*/"))]
    found = (find_model(place, beside=("cameras",), deep=False) for place in places if place.is_dir())
    return next((model for model in found if model is not None), None)


def _read(path: Path) -> Cameras:
    model = model_in(path)
    if model is None:
        raise FileNotFoundError
    cameras, images = read_cameras(model), read_images(model)
    chosen = sorted(images.values(), key=lambda image: image.name)
    if missing := [image for image in chosen if image.camera not in cameras]:
        raise ValueError(f"image {missing[0].name} has camera {missing[0].camera}, which is not there")
    matrices = {number: camera_and_lens(camera) for number, camera in cameras.items()}
    of = [image.camera for image in chosen]
    return Cameras(
        source=str(model),
        names=tuple(image.name for image in chosen),
        intrinsics=np.array([matrices[number][0] for number in of]).reshape(-1, 3, 3),
        extrinsics=np.array([image.extrinsics for image in chosen]).reshape(-1, 3, 4),
        sizes=np.array([(cameras[number].height, cameras[number].width) for number in of], np.int64).reshape(-1, 2),
        lenses=tuple(matrices[number][1] for number in of),
    )


READER = CameraReader(
    what="a COLMAP model (cameras and images, .bin or .txt) or the folder above it",
    recognises=lambda path: model_in(path) is not None,
    read=_read,
)
