"""Descriptors of places from the tokens that the network has anyway.

The patch tokens behind the last block in which each view is still by itself say what a frame shows, before attention
across views mixes it with others. Their directions are averaged, each number is replaced by its signed square root,
and the result is whitened over the sequence without its strongest component, which all frames share; the recipe is
that of SwiftVGGT (arXiv 2511.18290), the whitening that of Jegou and Chum (ECCV 2012).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError

KEPT = 512
"""The most numbers of a whitened descriptor."""

_SHRINK = 1.0  # of the mean variance is added to each: what few frames vary in little is noise


def describe(tokens: Float[np.ndarray, "n *grid c"]) -> Float[np.ndarray, "n c"]:
    """One descriptor per frame, not whitened.

    Args:
        tokens: patch tokens of N frames.
    """
    flat = np.asarray(tokens, np.float64).reshape(len(tokens), -1, tokens.shape[-1])
    unit = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
    mean = unit.mean(1)
    root = np.sign(mean) * np.sqrt(np.abs(mean))
    described: npt.NDArray[np.float32] = (root / np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )
    return described


def whitened(descriptors: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n k"]:
    """Descriptors in which nothing is common to all frames any more; unit length.

    Args:
        descriptors: of the frames of one sequence, from :func:`describe`. Fewer than three come back as they are.

    Raises:
        InputError: the shape is wrong.
    """
    if np.ndim(descriptors) != 2:
        raise InputError("descriptors", f"shape {np.shape(descriptors)}", "one row per frame, shape (N, C)")
    if len(descriptors) < 3:
        return np.asarray(descriptors, np.float32)
    rows = np.asarray(descriptors, np.float64)
    rows = rows - rows.mean(0)
    variance, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    order = np.argsort(-variance, kind="stable")[1 : 1 + min(KEPT, len(rows) // 2)]
    spread = np.sqrt(np.maximum(variance[order], 0) + _SHRINK * max(float(variance.mean()), 1e-12))
    projected = rows @ axes[:, order] / spread
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    # A frame in the middle of all others is like none of them.
    white = np.where(length > 0, projected / np.maximum(length, 1e-12), 1 / np.sqrt(projected.shape[1]))
    return white.astype(np.float32)
