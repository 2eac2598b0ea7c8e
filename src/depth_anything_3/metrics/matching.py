"""Do features of one view find the same place in another? Patches are numbered row by row, from 0 at the top left.

Letters: B scenes, N views, P patches per view.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.types.options import PATCH_SIZE

NO_MATCH = -1
"""Index of a patch that has no counterpart: no depth, outside the other view, or hidden there."""


def true_patch_matches(
    depth: Float[Tensor, "B N H W"],
    intrinsics: Float[Tensor, "B N 3 3"],
    extrinsics: Float[Tensor, "B N 3 4"],
    *,
    patch: int = PATCH_SIZE,
    tolerance: float = 0.03,
) -> Int[Tensor, "B N N P"]:
    """For each patch of view i, the patch of view j that shows the same place.

    The pixel just right of and below the middle of a patch stands for it. It is carried over by its depth; what the
    other view sees at that pixel must be as far away, or the place is hidden there.

    Args:
        depth: z-depth; pixels that are not finite and positive are not known.
        intrinsics: camera matrices in pixels of the depth maps.
        extrinsics: world-to-camera poses in the unit of the depth.
        patch: side in pixels; height and width are multiples of it.
        tolerance: allowed difference of the depths in view j, relative to the depth there.

    Returns:
        ``matches[b, i, j, p]``: index of the patch in view j, or :data:`NO_MATCH`, as everywhere for j = i.

    Raises:
        InputError: the size of the depth maps is not a multiple of the patch, or a shape is wrong.
    """
    if depth.ndim != 4:
        raise InputError("depth", f"shape {tuple(depth.shape)}", "shape (B, N, H, W)")
    views, height, width = depth.shape[1:]
    if patch < 1 or height % patch or width % patch:
        raise InputError("patch", repr(patch), f"a positive divisor of the image size {width}x{height}")
    known = torch.where(torch.isfinite(depth) & (depth > 0), depth.double(), 0.0)
    xy, z = _carried_centres(known, intrinsics.double(), extrinsics.double(), patch)
    inside = (z > 0) & (xy >= 0).all(-1) & (xy[..., 0] < width) & (xy[..., 1] < height)
    x, y = torch.where(inside[..., None], xy, 0.0).long().unbind(-1)
    there = known.flatten(2)[:, None].expand(-1, views, -1, -1).gather(3, y * width + x)
    visible = inside & (there > 0) & ((there - z).abs() <= tolerance * there)
    visible &= ~torch.eye(views, dtype=torch.bool, device=depth.device)[None, :, :, None]
    return torch.where(visible, y // patch * (width // patch) + x // patch, NO_MATCH)


def _carried_centres(
    depth: Tensor, intrinsics: Tensor, extrinsics: Tensor, patch: int
) -> tuple[Float[Tensor, "B N N P 2"], Float[Tensor, "B N N P"]]:
    """Pixels in every view j, and depth there, of the patch centres of every view i; depth -1 where it is not known."""
    height, width = depth.shape[-2:]
    half = patch // 2
    z = depth[:, :, half::patch, half::patch].flatten(2)
    sides = (torch.arange(half, side, patch, device=depth.device).to(depth) + 0.5 for side in (height, width))
    y, x = (v.flatten() for v in torch.meshgrid(*sides, indexing="ij"))
    camera = torch.linalg.inv(intrinsics) @ torch.stack([x, y, torch.ones_like(x)]) * z[:, :, None]
    rotation, translation = extrinsics[..., :3], extrinsics[..., 3:]
    world = rotation.transpose(-1, -2) @ (camera - translation)  # (B, N, 3, P)
    local = rotation[:, None] @ world[:, :, None] + translation[:, None]
    image = intrinsics[:, None] @ local
    xy = image[..., :2, :] / image[..., 2:, :].clamp(min=1e-9)
    return xy.transpose(-1, -2), torch.where(z[:, :, None] > 0, local[..., 2, :], -1.0)


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
