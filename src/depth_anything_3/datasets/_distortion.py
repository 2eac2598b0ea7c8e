"""Lens distortion of the radial-tangential kind, and pictures without it.

With x, y = X/Z, Y/Z and r2 = x^2 + y^2, the picture of a point is at
``x (1 + k1 r2 + k2 r2^2) + 2 p1 x y + p2 (r2 + 2 x^2)``, and likewise for y with p1 and p2 exchanged
(Brown 1966; the model OPENCV of COLMAP).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import cv2
import numpy as np
from jaxtyping import Float, Float64, UInt8

from depth_anything_3.geometry.pinhole import pixel_centres

_ROUNDS = 50  # of a fixed-point iteration that gains a digit or more each time, for the lenses of cameras and phones


@dataclass(frozen=True)
class Distortion:
    """Coefficients; all zero for none."""

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_zero(self) -> bool:
        """Whether there is no distortion."""
        return not any(astuple(self))


def distort(xy: Float[np.ndarray, "*batch 2"], lens: Distortion) -> Float64[np.ndarray, "*batch 2"]:
    """Where the lens puts directions (X/Z, Y/Z)."""
    x, y = xy[..., 0], xy[..., 1]
    r2 = x * x + y * y
    radial = 1 + r2 * (lens.k1 + r2 * lens.k2)
    dx = 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x)
    dy = 2 * lens.p2 * x * y + lens.p1 * (r2 + 2 * y * y)
    return np.stack((x * radial + dx, y * radial + dy), axis=-1).astype(np.float64)


def undistort(xy: Float[np.ndarray, "*batch 2"], lens: Distortion) -> Float64[np.ndarray, "*batch 2"]:
    """The directions that the lens puts at ``xy``; NaN where the iteration does not find any."""
    found = xy.astype(np.float64)
    with np.errstate(all="ignore"):
        for _ in range(_ROUNDS):
            found = found + (xy - distort(found, lens))
        wrong = ~(np.abs(distort(found, lens) - xy) < 1e-9).all(-1)
    found[wrong] = np.nan
    return found


def pinhole_intrinsics(
    intrinsics: Float[np.ndarray, "3 3"], lens: Distortion, height: int, width: int
) -> Float64[np.ndarray, "3 3"]:
    """Camera matrix of the picture without distortion: of the same size and centre, filled to its edges.

    The focal length is the shortest for which every pixel of the new picture is inside the old one. NaN where the
    distortion cannot be inverted within the picture.
    """
    focal, centre = np.diag(intrinsics)[:2], intrinsics[:2, 2]
    x, y = np.arange(width + 1.0), np.arange(height + 1.0)
    sides = (
        np.stack((np.zeros_like(y), y), -1),
        np.stack((np.full_like(y, width), y), -1),
        np.stack((x, np.zeros_like(x)), -1),
        np.stack((x, np.full_like(x, height)), -1),
    )
    left, right, top, bottom = (undistort((side - centre) / focal, lens) for side in sides)
    # Each side bends; its innermost point must still be on or outside the same side of the new picture.
    scale = max(
        -centre[0] / focal[0] / left[:, 0].max(),
        (width - centre[0]) / focal[0] / right[:, 0].min(),
        -centre[1] / focal[1] / top[:, 1].max(),
        (height - centre[1]) / focal[1] / bottom[:, 1].min(),
    )
    if not np.isfinite([side.sum() for side in (left, right, top, bottom)]).all() or scale <= 0:
        scale = np.nan
    result = intrinsics.astype(np.float64)
    result[0, 0] *= scale
    result[1, 1] *= scale
    return result


def undistort_image(
    image: UInt8[np.ndarray, "h w 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    lens: Distortion,
    target: Float[np.ndarray, "3 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture that a camera ``target`` without distortion takes, sampled from the one that was taken."""
    height, width = image.shape[:2]
    rays = (pixel_centres(height, width) - target[:2, 2]) / np.diag(target)[:2]
    source = distort(rays, lens) * np.diag(intrinsics)[:2] + intrinsics[:2, 2]
    x, y = np.moveaxis((source - 0.5).astype(np.float32), -1, 0)  # OpenCV counts from the centre of the first pixel
    remapped = cv2.remap(image, x.copy(), y.copy(), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return remapped.astype(np.uint8, copy=False)
