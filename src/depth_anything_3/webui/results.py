"""What a finished job says about its pixels: depth under the cursor, distances, pictures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from depth_anything_3.export._colormap import colour_depth
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.webui.session import Pixel

ARRAYS = "exports/npz/results.npz"
"""The file of the export ``npz``, which every job of the web UI writes."""


@dataclass(frozen=True)
class Arrays:
    """The arrays of a prediction, see :class:`~depth_anything_3.types.prediction.Prediction`."""

    depth: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_] | None
    image: npt.NDArray[np.uint8]
    conf: npt.NDArray[np.float32] | None
    extrinsics: npt.NDArray[np.float32] | None
    intrinsics: npt.NDArray[np.float32] | None
    metric: bool

    def length(self, value: float) -> str:
        """A length with its unit."""
        return f"{value:.3f} m" if self.metric else f"{value:.4g} units (relative scale)"


@lru_cache(maxsize=8)
def read_arrays(path: Path) -> Arrays:
    """The arrays of one job; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    return Arrays(
        depth=found["depth"],
        valid=found.get("valid"),
        image=found["image"],
        conf=found.get("conf"),
        extrinsics=found.get("extrinsics"),
        intrinsics=found.get("intrinsics"),
        metric=bool(found.get("is_metric", False)),
    )


def depth_picture(arrays: Arrays, view: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) colours of the depth of one view: red near, violet far, grey where there is none."""
    depth = arrays.depth[view]
    return colour_depth(depth if arrays.valid is None else np.where(arrays.valid[view], depth, np.float32(np.nan)))


def confidence_picture(arrays: Arrays, view: int) -> npt.NDArray[np.uint8] | None:
    """(H, W) grey: black the least confident of all views, white the most; None where there is no confidence."""
    if arrays.conf is None:
        return None
    low, high = np.percentile(arrays.conf, (2, 98))
    return np.round(((arrays.conf[view] - low) / max(float(high - low), 1e-6)).clip(0, 1) * 255).astype(np.uint8)


def marked(arrays: Arrays, view: int, clicks: tuple[Pixel, ...]) -> npt.NDArray[np.uint8]:
    """The photo of one view with a cross at each click in it."""
    picture = arrays.image[view].copy()
    height, width = picture.shape[:2]
    for seen, column, row in clicks:
        if seen == view:
            reach = max(3, width // 60)
            picture[row, max(0, column - reach) : min(width, column + reach + 1)] = (255, 212, 0)
            picture[max(0, row - reach) : min(height, row + reach + 1), column] = (255, 212, 0)
    return picture


def read_out(arrays: Arrays, pixel: Pixel) -> str:
    """Depth, and where known confidence, at one pixel."""
    view, column, row = pixel
    depth = float(arrays.depth[view, row, column])
    if not np.isfinite(depth) or depth <= 0:
        return f"view {view}, column {column}, row {row}: no depth"
    sure = "" if arrays.conf is None else f", confidence {float(arrays.conf[view, row, column]):.2f}"
    return f"view {view}, column {column}, row {row}: depth {arrays.length(depth)}{sure}"


def distance(arrays: Arrays, first: Pixel, second: Pixel) -> float | None:
    """Distance of two pixels' points in space; None without cameras or depth. The views may differ."""
    if arrays.intrinsics is None or arrays.extrinsics is None:
        return None
    points = [
        unproject(arrays.depth[view], arrays.intrinsics[view], arrays.extrinsics[view])[row, column]
        for view, column, row in (first, second)
    ]
    value = float(np.linalg.norm(points[0] - points[1]))
    return value if np.isfinite(value) else None


def camera_rows(arrays: Arrays) -> list[list[str]]:
    """One row per view: number, focal lengths and principal point in pixels, and the centre of the camera."""
    if arrays.intrinsics is None or arrays.extrinsics is None:
        return []
    rotations, translations = arrays.extrinsics[:, :, :3], arrays.extrinsics[:, :, 3]
    centres = 0.0 - np.einsum("nji,nj->ni", rotations, translations)
    rows = []
    for view, (k, centre) in enumerate(zip(arrays.intrinsics, centres, strict=True)):
        lens = (k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        rows.append([str(view), *(f"{value:.1f}" for value in lens), ", ".join(f"{value:.3f}" for value in centre)])
    return rows
