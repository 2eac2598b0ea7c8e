"""Do features of one view find the same place in another? Patches are numbered row by row, from 0 at the top left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.metrics.depth import valid_pixels

NO_MATCH = -1
"""Index of a patch that has no counterpart: no depth, outside the other view, or hidden there."""


def true_patch_matches(
    depth: Float[np.ndarray, "2 h w"],
    intrinsics: Float[np.ndarray, "2 3 3"],
    extrinsics: Float[np.ndarray, "2 3 4"],
    *,
    patch: int = 14,
    tolerance: float = 0.03,
) -> Int[np.ndarray, " p"]:
    """For each patch of the first view, the patch of the second that shows the same place.

    The pixel just right of and below the middle of a patch stands for it. It is carried over by its depth; what the
    second view sees at that pixel must be as far away, or the place is hidden there.

    Args:
        depth: z-depth of both views; pixels that are not finite and positive are not known.
        intrinsics: camera matrices in pixels of the depth maps.
        extrinsics: world-to-camera poses in the unit of the depth.
        patch: side in pixels; height and width are multiples of it.
        tolerance: allowed difference of the depths in the second view, relative to the depth there.

    Returns:
        Indices of patches of the second view, or :data:`NO_MATCH`.

    Raises:
        InputError: the size of the depth maps is not a multiple of the patch, or a shape is wrong.
    """
    if np.ndim(depth) != 3 or len(depth) != 2:
        raise InputError("depth", f"shape {np.shape(depth)}", "two views, shape (2, H, W)")
    height, width = depth.shape[1:]
    if patch < 1 or height % patch or width % patch:
        raise InputError("patch", repr(patch), f"a positive divisor of the image size {width}x{height}")
    middle = slice(patch // 2, None, patch)
    points = unproject(depth[0].astype(np.float64), intrinsics[0], extrinsics[0])[middle, middle].reshape(-1, 3)
    known = valid_pixels(depth[0, middle, middle].ravel())
    xy, z = project(np.where(known[:, None], points, 0.0), intrinsics[1], extrinsics[1])
    with np.errstate(invalid="ignore"):
        inside = known & (z > 0) & (xy >= 0).all(-1) & (xy[:, 0] < width) & (xy[:, 1] < height)
    column, row = np.where(inside[:, None], xy, 0.0).astype(np.int64).T
    seen = depth[1, row, column].astype(np.float64)
    seen = np.where(valid_pixels(seen), seen, np.inf)
    with np.errstate(invalid="ignore"):
        visible = inside & np.isfinite(seen) & (np.abs(z - seen) <= tolerance * seen)
    index = row // patch * (width // patch) + column // patch
    return np.where(visible, index, NO_MATCH)


def top1_accuracy(
    predicted: Int[np.ndarray, " p"], true: Int[np.ndarray, " p"], *, columns: int | None = None, within: int = 0
) -> float:
    """Part of the patches with a counterpart whose best match is that counterpart, from 0 to 1.

    Args:
        predicted: best match of each patch of the first view; :data:`NO_MATCH` is a miss.
        true: from :func:`true_patch_matches`; patches without a counterpart are left out.
        columns: patches in a row of the second view; needed with ``within``.
        within: matches that lie this many rows and columns beside the true one still count.

    Raises:
        InputError: shapes differ, no patch has a counterpart, or ``columns`` is missing.
    """
    if np.shape(predicted) != np.shape(true):
        raise InputError("predicted", f"shape {np.shape(predicted)}", f"the shape of `true`, {np.shape(true)}")
    scored = true != NO_MATCH
    if not scored.any():
        raise InputError("true", "no patch with a counterpart", "at least one")
    p, t = predicted[scored], true[scored]
    if within == 0:
        return float(np.mean(p == t))
    if columns is None:
        raise InputError("columns", "None", "the number of patches in a row of the second view, to look beside a match")
    beside = np.maximum(np.abs(p // columns - t // columns), np.abs(p % columns - t % columns))
    return float(np.mean((beside <= within) & (p != NO_MATCH)))


def best_matches(features: Float[np.ndarray, "p c"], other: Float[np.ndarray, "q c"]) -> Int[np.ndarray, " p"]:
    """For each feature, the index of the most similar other one by cosine; the first of equals.

    Args:
        features: one per patch of the first view.
        other: one per patch of the second view.
    """
    a, b = (f / np.maximum(np.linalg.norm(f, axis=-1, keepdims=True), 1e-12) for f in (features, other))
    best: npt.NDArray[np.int64] = np.argmax(a @ b.T, axis=1)
    return best


def same_position_matches(patches: int) -> Int[np.ndarray, " p"]:
    """The guess of who does not look: every patch stays where it is. Both views have one size."""
    return np.arange(patches)
