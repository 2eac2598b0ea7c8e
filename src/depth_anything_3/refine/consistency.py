"""A vote of the views on each other's depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject

_PROBES = 16  # rays along each side of the grid that finds the views which share most

Image = np.ndarray[Any, Any]


def votes(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    keep: Bool[np.ndarray, "n h w"] | None = None,
    *,
    tolerance: float,
    neighbours: int = 8,
) -> tuple[Int[np.ndarray, "n h w"], Int[np.ndarray, "n h w"]]:
    """How many other views confirm each pixel, and how many see through it.

    A point is compared with the four pixels of another view around the place where it appears. It is confirmed where
    its depth there is between the nearest and the farthest of them, give or take the tolerance; contradicted where it
    is nearer than all of them, because that view looks through it. Where it is farther it is hidden, and nothing is
    said.

    Args:
        depth: z-depth.
        intrinsics: camera matrices in pixels of the depth.
        extrinsics: world-to-camera poses in the unit of the depth.
        keep: False where the depth means nothing.
        tolerance: share of the depth.
        neighbours: each view is compared with so many others: those that most of it projects into.

    Raises:
        InputError: shapes that do not fit.
    """
    known = _known(depth, intrinsics, extrinsics, keep)
    confirmed, contradicted = np.zeros(depth.shape, np.int16), np.zeros(depth.shape, np.int16)
    for i, _, near, far, z in _compared(depth, intrinsics, extrinsics, known, neighbours):
        with np.errstate(invalid="ignore"):
            confirmed[i][known[i]] += (z >= near * (1 - tolerance)) & (z <= far * (1 + tolerance))
            contradicted[i][known[i]] += z < near * (1 - tolerance)
    return confirmed, contradicted


@dataclass(frozen=True, kw_only=True, eq=False)
class PairResiduals:
    """What one view says of the points of another.

    Attributes:
        view: whose points they are.
        other: the view that looks at them.
        residual: log of what the other sees over what it should see, for each known pixel of the view in row order:
            positive where it looks through the point, negative where something hides it, 0 between the nearest and the
            farthest of the four pixels around it, NaN where it does not see the place.
    """

    view: int
    other: int
    residual: Float[np.ndarray, " k"]


def residuals(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    keep: Bool[np.ndarray, "n h w"] | None = None,
    *,
    neighbours: int = 8,
) -> Iterator[PairResiduals]:
    """Residuals in log depth of every view in the views that share most with it; arguments as for :func:`votes`."""
    known = _known(depth, intrinsics, extrinsics, keep)
    for i, j, near, far, z in _compared(depth, intrinsics, extrinsics, known, neighbours):
        with np.errstate(invalid="ignore", divide="ignore"):
            residual = np.log(np.clip(z, near, far) / z)
        yield PairResiduals(view=i, other=j, residual=np.where(z > 0, residual, np.nan))


def _known(depth: Image, intrinsics: Image, extrinsics: Image, keep: Image | None) -> Image:
    _check(depth, intrinsics, extrinsics)
    known = np.isfinite(depth) & (depth > 0)
    return known if keep is None else known & keep


def _compared(
    depth: Image, intrinsics: Image, extrinsics: Image, known: Image, neighbours: int
) -> Iterator[tuple[int, int, Image, Image, Image]]:
    """View, other view, and what :func:`_seen` gives there for the known pixels of the view."""
    partners = sharing_views(np.where(known, depth, np.nan), intrinsics, extrinsics, neighbours)
    for i, others in enumerate(partners):
        points = unproject(depth[i].astype(np.float64), intrinsics[i], extrinsics[i])[known[i]]
        for j in others.tolist():
            yield i, j, *_seen(points, depth[j], known[j], intrinsics[j], extrinsics[j])


def sharing_views(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    count: int,
) -> list[npt.NDArray[np.intp]]:
    """For each view the at most ``count`` others that most of its points project into, best first.

    Args:
        depth: z-depth, NaN where unknown.
        intrinsics: camera matrices in pixels of the depth.
        extrinsics: world-to-camera poses in the unit of the depth.
        count: at least 1.
    """
    views, height, width = depth.shape
    rows, columns = (np.linspace(0, size - 1, min(size, _PROBES)).astype(int) for size in (height, width))
    found = []
    for i in range(views):
        points = unproject(depth[i].astype(np.float64), intrinsics[i], extrinsics[i])[np.ix_(rows, columns)]
        xy, z = project(points[None].reshape(1, -1, 3), intrinsics, extrinsics)
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy > 0).all(-1) & (xy < (width, height)).all(-1)
        share = inside.sum(1)
        share[i] = 0
        order = np.argsort(-share, kind="stable")[:count]
        found.append(order[share[order] > 0])
    return found


def _seen(
    points: Image, depth: Image, known: Image, intrinsics: Image, extrinsics: Image
) -> tuple[Image, Image, Image]:
    """Nearest and farthest depth of the four pixels around points, and the depth of the points; NaN where unseen."""
    xy, z = project(points, intrinsics, extrinsics)
    height, width = depth.shape
    with np.errstate(invalid="ignore"):
        inside = (z > 0) & (xy > 0).all(1) & (xy < (width, height)).all(1)
    column, row = np.floor(np.where(inside[:, None], xy, 0) - 0.5).astype(np.intp).T
    near, far = np.full(len(points), np.inf), np.full(len(points), -np.inf)
    every = inside.copy()
    for dy in (0, 1):
        for dx in (0, 1):
            y, x = np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)
            every &= known[y, x]
            near, far = np.minimum(near, depth[y, x]), np.maximum(far, depth[y, x])
    return np.where(every, near, np.nan), np.where(every, far, np.nan), z


def _check(depth: Image, intrinsics: Image, extrinsics: Image) -> None:
    if np.ndim(depth) != 3:
        raise InputError("depth", f"shape {np.shape(depth)}", "shape (N, H, W)")
    for name, value, shape in (
        ("intrinsics", intrinsics, (len(depth), 3, 3)),
        ("extrinsics", extrinsics, (len(depth), 3, 4)),
    ):
        if np.shape(value) != shape:
            raise InputError(name, f"shape {np.shape(value)}", f"shape {shape}")
