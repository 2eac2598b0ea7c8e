"""How restless the depth of a video is, without a truth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError

Array = npt.NDArray[np.float64]


def flicker(depth: Float[np.ndarray, "t h w"], flow: Float[np.ndarray, "s h w 2"]) -> float:
    """Median over pixels of ``|second difference of log depth|`` along their paths.

    A point that comes nearer steadily has none; what changes from frame to frame and back does. Zero is still.

    Args:
        depth: z-depth of T frames; pixels without a depth are left out.
        flow: (T - 1, H, W, 2), for each frame but the first where its pixels were in the frame before: x and y to be
            added, in pixels.

    Raises:
        InputError: fewer than three frames, or a flow that does not fit.
    """
    if len(depth) < 3 or flow.shape != (len(depth) - 1, *depth.shape[1:], 2):
        got = f"{depth.shape} and {flow.shape}"
        raise InputError("depth, flow", got, "at least three frames, and a flow for each but the first")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(np.isfinite(depth) & (depth > 0), np.log(depth), np.nan).astype(np.float64)
    changes = [logs[t + 1] - along(logs[t], flow[t]) for t in range(len(flow))]
    second = [np.abs(changes[t + 1] - along(changes[t], flow[t + 1])) for t in range(len(changes) - 1)]
    values = np.concatenate([s[np.isfinite(s)] for s in second])
    return float(np.median(values)) if len(values) else float("nan")


def along(values: Float[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]) -> Float[np.ndarray, "h w"]:
    """A map of the frame before, at the pixels of this one; NaN where they come from outside."""
    height, width = values.shape
    x, y = (flow[..., i] + axis for i, axis in enumerate(np.meshgrid(np.arange(width), np.arange(height))))
    found = cv2.remap(
        values, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
        borderValue=float("nan"),
    )  # fmt: skip
    return np.asarray(found)
