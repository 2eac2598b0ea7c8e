"""Normals from depth maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError
from depth_anything_3.refine.inverse_depth import inverse_depth, shifted

_REACH = 2
_SAME_SURFACE = 0.01  # share of the depth by which a neighbour may be off the plane of the pixel

Image = np.ndarray[Any, Any]


def depth_normals(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    keep: Bool[np.ndarray, "n h w"] | None = None,
) -> Float[np.ndarray, "n h w 3"]:
    """Unit normals in the frame of each camera, towards it; 0 where they are not known.

    A plane is fitted to the inverse depth of 5 x 5 pixels, to those of them that are on the surface of the middle one
    as its smaller one-sided differences continue it: edges stay sharp, and noise is averaged.

    Args:
        depth: z-depth.
        intrinsics: camera matrices in pixels of the depth.
        keep: False where the depth means nothing.

    Raises:
        InputError: shapes that do not fit.
    """
    if np.ndim(depth) != 3 or np.shape(intrinsics) != (len(depth), 3, 3):
        got = f"shapes {np.shape(depth)} and {np.shape(intrinsics)}"
        raise InputError("depth, intrinsics", got, "shapes (N, H, W) and (N, 3, 3)")
    normals = np.zeros((*depth.shape, 3), np.float32)
    for i in range(len(depth)):
        plane = _planes(inverse_depth(depth[i], None if keep is None else keep[i]))
        normals[i] = _towards_camera(plane, np.asarray(intrinsics[i], np.float64))
    return normals


def _planes(inverse: Image) -> Image:
    """(3, H, W): inverse depth at the pixel and its slopes along x and y; NaN where too few pixels are known."""
    first = [_one_sided(inverse, *direction) for direction in ((0, 1), (1, 0))]
    sums = np.zeros((9, *inverse.shape))
    for down in range(-_REACH, _REACH + 1):
        for right in range(-_REACH, _REACH + 1):
            other = shifted(inverse, down, right, np.nan)
            with np.errstate(invalid="ignore"):
                off = np.abs(other - inverse - right * first[0] - down * first[1])
                on = off < _SAME_SURFACE * inverse
            value = np.where(on, other, 0)
            terms = (1, right, down, right * right, right * down, down * down)
            for j, term in enumerate(terms):
                sums[j] += term * on
            for j, term in enumerate((1, right, down)):
                sums[6 + j] += term * value
    return _solved(sums)


def _one_sided(inverse: Image, down: int, right: int) -> Image:
    """Difference to the next or the previous pixel: the side that goes on straighter; NaN where neither is known."""
    sides = []
    for sign in (1, -1):
        near, far = (shifted(inverse, sign * m * down, sign * m * right, np.nan) for m in (1, 2))
        bend = np.abs(inverse - 2 * near + far)
        # Without a second pixel the side counts as bent by all of its difference.
        sides.append((sign * (near - inverse), np.where(np.isnan(bend), np.abs(near - inverse), bend)))
    (after, bend_after), (before, bend_before) = sides
    with np.errstate(invalid="ignore"):
        take_after = (bend_after <= bend_before) | np.isnan(bend_before)
    return np.where(take_after, after, before)


def _solved(sums: Image) -> Image:
    """Least squares from the sums of 1, x, y, xx, xy, yy and of w, xw, yw, by Cramer's rule."""
    n, x, y, xx, xy, yy, w, xw, yw = sums
    minors = (xx * yy - xy * xy, xy * y - x * yy, x * xy - xx * y)
    determinant = n * minors[0] + x * minors[1] + y * minors[2]
    with np.errstate(invalid="ignore", divide="ignore"):
        inverse = np.where(np.abs(determinant) > 0.5, 1 / determinant, np.nan)  # whole numbers: 0 or at least 1
    at = minors[0] * w + minors[1] * xw + minors[2] * yw
    slope_x = minors[1] * w + (n * yy - y * y) * xw + (x * y - n * xy) * yw
    slope_y = minors[2] * w + (x * y - n * xy) * xw + (n * xx - x * x) * yw
    return np.stack((at, slope_x, slope_y)) * inverse


def _towards_camera(plane: Image, intrinsics: Image) -> Image:
    """Normals (H, W, 3) from planes in pixels: ``1/z = n . K^-1 (x, y, 1)`` gives ``n = K^T (slope_x, slope_y, c)``."""
    height, width = plane.shape[1:]
    rows, columns = np.mgrid[:height, :width]
    constant = plane[0] - plane[1] * (columns + 0.5) - plane[2] * (rows + 0.5)
    normal = np.stack((plane[1], plane[2], constant), -1) @ intrinsics
    with np.errstate(invalid="ignore", divide="ignore"):
        # n . X = 1 in front of the camera: n points away from it.
        unit = -normal / np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(np.isfinite(unit), unit, 0)
