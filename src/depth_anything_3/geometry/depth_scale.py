"""The scale of depth from cameras alone: at the right one, what a view sees is where other views see it too (numpy)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.pinhole import project, unproject

Array = npt.NDArray[np.float64]

_SAMPLES = 3000  # pixels of a view that are compared
_STEP, _REACH = 0.05, 100  # of the search in log scale: to either side of the start
_FINE = 0.005
_SURE = 1.1  # the cost must grow so much when the scale is a fifth off, or depth cannot tell
_OVERLAP = 0.3
_CAP = 0.2  # log depth: beyond is another surface


def scale_from_depth(
    depth: Float[np.ndarray, "n h w"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
) -> float | None:
    """The factor for depth at which the views agree, given poses in the wanted unit; None where depth cannot tell.

    Each pair of neighbouring views is compared: points of one, moved to the other, should have the depth that the
    other one shows there. The mean of ``min(|log ratio|, 0.2)`` is searched over factors, coarse to fine. A
    flat wall in front of sliding cameras, or cameras in one place, agree at every scale.

    Args:
        depth: z-depth in any unit; not known where it is not finite and positive.
        intrinsics: in pixels of the maps.
        extrinsics: world-to-camera.
    """
    centres = -np.einsum("nji,nj->ni", extrinsics[:, :, :3], extrinsics[:, :, 3])
    longest = float(np.linalg.norm(centres[:, None] - centres[None], axis=2).max())
    known = np.isfinite(depth) & (depth > 0)
    if longest <= 0 or not known.any():
        return None
    start = np.log(longest / np.median(depth[known])) + 2.0  # a baseline of about a seventh of the depth
    coarse = start + _STEP * np.arange(-_REACH, _REACH + 1)
    pairs = _pairs(depth.astype(np.float64), intrinsics, extrinsics)
    costs = np.array([_cost(s, pairs) for s in coarse])
    middle = coarse[int(np.argmin(costs))]
    fine = middle + _FINE * np.arange(-20, 21)
    log_scale = fine[int(np.argmin([_cost(s, pairs) for s in fine]))]
    least, *around = (_cost(log_scale + d, pairs) for d in (0.0, -0.2, 0.2))
    sure = np.isfinite(least) and least < _CAP / 2 and min(around) > _SURE * least
    return float(np.exp(log_scale)) if sure else None


_Pair = tuple[Array, Array, Array, Array, Array]


def _pairs(depth: Array, intrinsics: Array, extrinsics: Array) -> list[_Pair]:
    """For each view and the ones beside it: sampled rays and origin of the first, and the second."""
    found = []
    height, width = depth.shape[1:]
    step = max(1, int(np.sqrt(height * width / _SAMPLES)))
    sampled = np.s_[step // 2 :: step, step // 2 :: step]
    for i in range(len(depth)):
        for j in {(i - 1) % len(depth), (i + 1) % len(depth)} - {i}:
            unit = unproject(np.ones((height, width)), intrinsics[i], extrinsics[i])[
                step // 2 :: step, step // 2 :: step
            ]
            origin = -extrinsics[i, :, :3].T @ extrinsics[i, :, 3]
            z = depth[i][sampled]
            kept = np.isfinite(z) & (z > 0)
            offset = (unit[kept] - origin) * z[kept][:, None]
            found.append((offset, origin, depth[j], intrinsics[j], extrinsics[j]))
    return found


def _cost(log_scale: float, pairs: list[_Pair]) -> float:
    """Mean of the capped differences; infinite where hardly anything overlaps."""
    scale = float(np.exp(log_scale))
    total, seen, count = 0.0, 0, 0
    for offset, origin, other, K, pose in pairs:
        xy, z = project(origin + scale * offset, K, pose)
        height, width = other.shape
        with np.errstate(invalid="ignore"):
            inside = (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < width) & (xy[:, 1] < height)
        column, row = np.floor(xy[inside]).astype(np.int64).T
        there = other[row, column]
        known = np.isfinite(there) & (there > 0)
        difference = np.abs(np.log(z[inside][known] / (scale * there[known])))
        total += float(np.minimum(difference, _CAP).sum())
        seen, count = seen + int(known.sum()), count + len(offset)
    return total / seen if seen > _OVERLAP * max(count, 1) else np.inf
