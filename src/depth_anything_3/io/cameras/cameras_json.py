"""``cameras.json``: this package's own format, with every convention written into the file.

.. code-block:: json

    {"format": "depth-anything-3 cameras", "version": 1,
     "convention": {"extrinsics": "world-to-camera", "axes": "opencv", "first_pixel_centre": 0.5},
     "cameras": [{"name": "a.jpg", "height": 480, "width": 640, "intrinsics": [[...], [...], [...]],
                  "extrinsics": [[...], [...], [...]], "lens": {"model": "OPENCV", "k1": -0.1, ...}}]}

Pixels are those of the upright picture. ``extrinsics`` may also be ``"camera-to-world"``, ``axes`` ``"opengl"`` (x
right, y up, z backward), and the pixel centre 0.0; they are brought to the convention above when read. Of a camera
everything but the name may be missing, if it is missing from all of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.io.cameras.base import CameraReader
from depth_anything_3.types.cameras import LENS_MODELS, Cameras, Lens

FORMAT = "depth-anything-3 cameras"
VERSION = 1
FILE_NAME = "cameras.json"

_CONVENTION = {"extrinsics": "world-to-camera", "axes": "opencv", "first_pixel_centre": 0.5}
_CHOICES = {
    "extrinsics": ("world-to-camera", "camera-to-world"),
    "axes": ("opencv", "opengl"),
    "first_pixel_centre": (0.5, 0.0),
}


def write_cameras(cameras: Cameras, path: str | os.PathLike[str]) -> Path:
    """Write cameras with names as ``cameras.json``; :func:`~depth_anything_3.io.cameras.base.read_cameras` reads it.

    Raises:
        InputError: the cameras have no names.
    """
    if cameras.names is None:
        raise InputError("cameras", "cameras without names", "one name for each")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "convention": _CONVENTION,
        "cameras": [_entry(cameras, i) for i in range(len(cameras))],
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Path(path)


def _entry(cameras: Cameras, index: int) -> dict[str, Any]:
    assert cameras.names is not None
    entry: dict[str, Any] = {"name": cameras.names[index]}
    if cameras.sizes is not None:
        entry["height"], entry["width"] = cameras.sizes[index].tolist()
    for name in ("intrinsics", "extrinsics"):
        if (value := getattr(cameras, name)) is not None:
            entry[name] = value[index].tolist()
    if cameras.times is not None:
        entry["time"] = float(cameras.times[index])
    lens = cameras.lenses[index]
    if not lens.is_pinhole:
        entry["lens"] = {"model": lens.model, **dict(zip(LENS_MODELS[lens.model], lens.coefficients, strict=True))}
    return entry


def _file(path: Path) -> Path:
    return path / FILE_NAME if path.is_dir() else path


def _recognises(path: Path) -> bool:
    file = _file(path)
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open("rb") as stream:
        return FORMAT.encode() in stream.read(4096)


def _read(path: Path) -> Cameras:
    file = _file(path)
    content = json.loads(file.read_text(encoding="utf-8"))
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']!r}; this package reads version {VERSION}")
    convention = {name: content["convention"][name] for name in _CHOICES}
    for name, choices in _CHOICES.items():
        if convention[name] not in choices:
            raise ValueError(f"convention: {name} is {convention[name]!r}; known are {', '.join(map(repr, choices))}")
    entries = content["cameras"]
    return Cameras(
        source=str(file),
        names=tuple(str(entry["name"]) for entry in entries),
        times=_column(entries, "time"),
        intrinsics=_intrinsics(_column(entries, "intrinsics"), convention),
        extrinsics=_extrinsics(_column(entries, "extrinsics"), convention),
        sizes=_sizes(entries),
        lenses=tuple(_lens(entry) for entry in entries),
    )


def _column(entries: list[dict[str, Any]], name: str) -> np.ndarray | None:
    if not any(name in entry for entry in entries):
        return None
    return np.array([entry[name] for entry in entries], np.float64)


def _sizes(entries: list[dict[str, Any]]) -> np.ndarray | None:
    height, width = _column(entries, "height"), _column(entries, "width")
    if height is None or width is None:
        return None
    if not np.isfinite([height, width]).all():
        raise ValueError("a height or width that is not finite")
    return np.stack((height, width), -1).astype(np.int64)


def _intrinsics(matrices: np.ndarray | None, convention: dict[str, Any]) -> np.ndarray | None:
    if matrices is None or matrices.ndim != 3:
        return matrices
    return matrices + np.array([[0, 0, 1.0], [0, 0, 1], [0, 0, 0]]) * (0.5 - convention["first_pixel_centre"])


def _extrinsics(poses: np.ndarray | None, convention: dict[str, Any]) -> np.ndarray | None:
    if poses is None or poses.ndim != 3 or poses.shape[1:] not in ((3, 4), (4, 4)):
        return poses
    poses = poses[:, :3]
    if convention["extrinsics"] == "camera-to-world":
        poses = np.array([invert_rigid(pose) for pose in poses])
    return poses * [[1.0], [-1.0], [-1.0]] if convention["axes"] == "opengl" else poses


def _lens(entry: dict[str, Any]) -> Lens:
    if "lens" not in entry:
        return Lens()
    coefficients = dict(entry["lens"])
    model = str(coefficients.pop("model"))
    names = LENS_MODELS.get(model, ())
    if unknown := coefficients.keys() - set(names):
        raise ValueError(f"lens {model} with unknown {', '.join(sorted(unknown))}")
    return Lens(model, tuple(float(coefficients[name]) for name in names))


READER = CameraReader(
    what="cameras.json of this package, or its folder",
    recognises=_recognises,
    read=_read,
)
