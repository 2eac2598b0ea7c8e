"""Depth as colours, near dark red and far violet; and a colour for every view."""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt

_ANCHORS = (
    (158, 1, 66),
    (213, 62, 79),
    (244, 109, 67),
    (253, 174, 97),
    (254, 224, 139),
    (255, 255, 191),
    (230, 245, 152),
    (171, 221, 164),
    (102, 194, 165),
    (50, 136, 189),
    (94, 79, 162),
)
"""The eleven-class diverging "Spectral" scheme of ColorBrewer."""

_ENTRIES = 256
_MIN_VALID = 10
_MARGIN = 1e-6
_RELATIVE_MARGIN = 1e-9  # so that tiny depths differ too


def spectral() -> npt.NDArray[np.uint8]:
    """The (256, 3) sRGB table: linear between the anchors, truncated to bytes."""
    anchors = np.array(_ANCHORS) / 255
    at, positions = np.linspace(0, 1, _ENTRIES), np.linspace(0, 1, len(_ANCHORS))
    table = np.stack([np.interp(at, positions, channel) for channel in anchors.T], axis=-1)
    return (table * 255).astype(np.uint8)


def colour_depth(depth: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Colour one depth map by inverse depth, stretched between its own 2nd and 98th percentiles.

    Args:
        depth: (H, W) z-depth. Values that are not finite or not positive are drawn as the farthest.

    Returns:
        (H, W, 3) uint8 sRGB.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = 1 / depth.astype(np.float64)
    valid = np.isfinite(depth) & (depth > 0)
    low, high = _stretch(inverse[valid])
    nearness = np.clip((inverse[valid] - low) / (high - low), 0, 1)
    index = np.full(depth.shape, _ENTRIES - 1)
    index[valid] = np.minimum((1 - nearness) * _ENTRIES, _ENTRIES - 1)
    coloured: npt.NDArray[np.uint8] = spectral()[index]
    return coloured


def colour_log_depth(depth: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.uint8]:
    """(H, W, 3) colours of depth by its logarithm between two depths, the same for all frames of a film.

    Args:
        depth: (H, W) z-depth; what is not positive is black.
        low, high: positive; drawn as the nearest and the farthest.
    """
    known = np.isfinite(depth) & (depth > 0)
    span = max(float(np.log(high / low)), _MARGIN)
    farness = np.log(np.where(known, depth, low) / low) / span
    coloured: npt.NDArray[np.uint8] = spectral()[(farness.clip(0, 1) * (_ENTRIES - 1)).astype(int)]
    return np.where(known[..., None], coloured, np.uint8(0))


def _stretch(inverse: npt.NDArray[np.float64]) -> tuple[float, float]:
    if inverse.size <= _MIN_VALID:
        return -_MARGIN, _MARGIN
    low, high = np.percentile(inverse, (2, 98))
    margin = 0.0 if low < high else max(_MARGIN, _RELATIVE_MARGIN * low)
    return low - margin, high + margin


def view_colour(view: int, count: int) -> tuple[int, int, int]:
    """One colour of the rainbow for each of ``count`` views, sRGB."""
    red, green, blue = (int(channel * 255) for channel in colorsys.hsv_to_rgb((view + 0.5) / count, 0.85, 0.95))
    return red, green, blue
