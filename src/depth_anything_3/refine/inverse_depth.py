"""Depth maps as inverse depth, in which every plane is an affine function of the pixel, and their shifted copies.

A plane ``n . X = 1`` seen along the ray ``K^-1 (x, y, 1)`` at depth z has ``1 / z = n . K^-1 (x, y, 1)``: affine in
(x, y) however steeply the plane is seen. Second differences of inverse depth are therefore 0 on planes, and a change of
slope is a change of normal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float


def inverse_depth(
    depth: Float[np.ndarray, "*n h w"], keep: Bool[np.ndarray, "*n h w"] | None = None
) -> Float[np.ndarray, "*n h w"]:
    """1 / depth as float32, NaN where the depth is not finite and positive or ``keep`` is False."""
    known = np.isfinite(depth) & (depth > 0)
    if keep is not None:
        known = known & keep
    return np.where(known, 1 / np.where(known, depth, 1), np.nan).astype(np.float32)


def shifted(image: np.ndarray[Any, Any], down: int, right: int, fill: object) -> np.ndarray[Any, Any]:
    """What lies ``down`` rows and ``right`` columns farther: ``out[y, x] = image[y + down, x + right]``.

    Args:
        image: (..., H, W).
        down: rows, may be negative.
        right: columns, may be negative.
        fill: value beyond the border.
    """
    out = np.full_like(image, fill)
    rows, columns = _overlap(image.shape[-2], down), _overlap(image.shape[-1], right)
    out[..., rows[0], columns[0]] = image[..., rows[1], columns[1]]
    return out


def _overlap(size: int, by: int) -> tuple[slice, slice]:
    """Where shifted values go, and where they come from."""
    by = max(min(by, size), -size)
    return slice(max(-by, 0), size - max(by, 0)), slice(max(by, 0), size - max(-by, 0))
