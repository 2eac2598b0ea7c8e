"""Points and surfaces: what is made of the depth of many views."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError


@dataclass(frozen=True, kw_only=True, eq=False)
class PointCloud:
    """P points in the world, each with where it came from. Arrays are read-only.

    Attributes:
        xyz: (P, 3) float32, in the frame and unit of the prediction.
        rgb: (P, 3) uint8.
        view: (P,) int32, index of the view that saw the point; of the most confident one where several were merged.
        pixel: (P, 2) int32, column and row of its pixel in the processed image of that view.
        confidence: (P,) float32, or None for predictions without one.
        normals: (P, 3) float32, world, unit length, towards the camera; 0 where unknown. None unless asked for.
        is_metric: True where the unit is the metre.
    """

    xyz: npt.NDArray[np.float32]
    rgb: npt.NDArray[np.uint8]
    view: npt.NDArray[np.int32]
    pixel: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32] | None = None
    normals: npt.NDArray[np.float32] | None = None
    is_metric: bool = False

    def __post_init__(self) -> None:
        count = len(self.xyz)
        _check(self, "xyz", (count, 3), np.float32)
        _check(self, "rgb", (count, 3), np.uint8)
        _check(self, "view", (count,), np.int32)
        _check(self, "pixel", (count, 2), np.int32)
        _check(self, "confidence", (count,), np.float32)
        _check(self, "normals", (count, 3), np.float32)

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mesh:
    """A coloured triangle mesh. Arrays are read-only.

    Attributes:
        vertices: (V, 3) float32, in the frame and unit of what it was made of.
        faces: (F, 3) int32 indices of vertices, counter-clockwise from outside (from where cameras looked).
        rgb: (V, 3) uint8.
        normals: (V, 3) float32, unit length, outwards; 0 at vertices without a triangle.
        is_metric: True where the unit is the metre.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    rgb: npt.NDArray[np.uint8]
    normals: npt.NDArray[np.float32]
    is_metric: bool = False

    def __post_init__(self) -> None:
        count = len(self.vertices)
        _check(self, "vertices", (count, 3), np.float32)
        _check(self, "faces", (len(self.faces), 3), np.int32)
        _check(self, "rgb", (count, 3), np.uint8)
        _check(self, "normals", (count, 3), np.float32)
        if self.faces.size and (self.faces.min() < 0 or self.faces.max() >= count):
            raise InputError("faces", f"indices {self.faces.min()} to {self.faces.max()}", f"indices below {count}")


def select_points(cloud: PointCloud, index: npt.NDArray[Any]) -> PointCloud:
    """The points that a mask or an array of indices chooses, in its order."""
    return replace(
        cloud,
        xyz=cloud.xyz[index],
        rgb=cloud.rgb[index],
        view=cloud.view[index],
        pixel=cloud.pixel[index],
        confidence=None if cloud.confidence is None else cloud.confidence[index],
        normals=None if cloud.normals is None else cloud.normals[index],
    )


def _check(value: object, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    array = getattr(value, name)
    if array is None:
        return
    if array.shape != shape or array.dtype != dtype:
        raise InputError(name, f"shape {array.shape} and dtype {array.dtype}", f"shape {shape} and {np.dtype(dtype)}")
    frozen = array.view()
    frozen.flags.writeable = False
    object.__setattr__(value, name, frozen)
