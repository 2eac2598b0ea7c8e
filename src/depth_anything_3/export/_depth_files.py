"""Depth maps in the formats of ``depth_raw``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3._files import atomic_path
from depth_anything_3._optional import require
from depth_anything_3.export._json import write_json
from depth_anything_3.export.depth_raw import Options
from depth_anything_3.types.prediction import Prediction, known_depth, valid_pixels

Map = npt.NDArray[np.float32]

_MOST = 65535
_MILLIMETRES = 1000.0


def write_depth(prediction: Prediction, paths: list[Path], options: Options) -> list[Path]:
    """Write one file per view and the JSON file; ``paths`` name them in that order."""
    *pictures, sidecar = paths
    content: dict[str, object] = {
        "encoding": options.encoding,
        "meaning": "z-depth: distance along the optical axis",
        "scale": prediction.scale,
        "unit": "metre" if prediction.is_metric else None,
        "files": {path.name: _name(prediction, i) for i, path in enumerate(pictures)},
    }
    if options.encoding == "png16":
        steps = _steps(prediction, options.per_unit)
        content |= {"per_unit": steps, "unknown": 0, "largest": _MOST}
        _warn_of_far(prediction, steps)
        write: Callable[[Path, Map], None] = partial(_write_png, steps=steps)
    else:
        if options.per_unit is not None:
            warnings.warn(f"depth_raw: per_unit has no effect on {options.encoding}", stacklevel=3)
        write = _FLOAT_WRITERS[options.encoding]
        if options.encoding == "exr":
            require("OpenEXR", extra="exr")
    for path, depth in zip(pictures, known_depth(prediction), strict=True):
        with atomic_path(path) as temporary:
            write(temporary, depth)
    return [*pictures, write_json(sidecar, content)]


def _name(prediction: Prediction, view: int) -> str | None:
    return prediction.names[view] if prediction.names else None


def _steps(prediction: Prediction, asked: float | None) -> float:
    """Steps per unit: as asked; millimetres; or the full range over the deepest pixel."""
    if asked is not None:
        return asked
    if prediction.is_metric:
        return _MILLIMETRES
    known = prediction.depth[valid_pixels(prediction)]
    return _MOST / float(known.max()) if known.size else 1.0


def _known(depth: Map) -> npt.NDArray[np.bool_]:
    return np.isfinite(depth) & (depth > 0)


def _warn_of_far(prediction: Prediction, steps: float) -> None:
    far = valid_pixels(prediction) & (np.rint(prediction.depth.astype(np.float64) * steps) > _MOST)
    if far.any():
        warnings.warn(
            f"depth_raw: {far.mean():.1%} of the pixels are beyond {_MOST / steps:g} and stored as unknown (0); "
            "a smaller per_unit reaches farther, exr, npy and pfm have no limit",
            stacklevel=4,
        )


def _write_png(path: Path, depth: Map, steps: float) -> None:
    """At least one step where depth is known, so that nothing near is taken for unknown."""
    from PIL import Image

    values = np.rint(np.where(_known(depth), depth, 0).astype(np.float64) * steps)
    values = np.where(_known(depth), np.maximum(values, 1), 0)
    values[values > _MOST] = 0
    Image.fromarray(values.astype(np.uint16)).save(path, format="PNG")


def _write_npy(path: Path, depth: Map) -> None:
    with path.open("wb") as file:
        np.save(file, np.ascontiguousarray(depth), allow_pickle=False)


def _write_pfm(path: Path, depth: Map) -> None:
    """Rows from the bottom up; the minus sign says little-endian (P. Debevec's PFM)."""
    height, width = depth.shape
    with path.open("wb") as file:
        file.write(f"Pf\n{width} {height}\n-1.0\n".encode("ascii"))
        file.write(depth[::-1].astype("<f4").tobytes())


def _write_exr(path: Path, depth: Map) -> None:
    openexr = require("OpenEXR", extra="exr")
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File(header, {"Z": np.array(depth)}) as file:
        file.write(str(path))


_FLOAT_WRITERS: dict[str, Callable[[Path, Map], None]] = {"npy": _write_npy, "pfm": _write_pfm, "exr": _write_exr}
