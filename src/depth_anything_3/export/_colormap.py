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

UNKNOWN = (128, 128, 128)
"""Where there is no depth: no colour of the scheme is near this grey."""

_ENTRIES = 256
_BAR = 64  # columns
_FIELD, _GAP = 14, 4  # rows
_MIN_VALID = 10
_MARGIN = 1e-6
_RELATIVE_MARGIN = 1e-9  # so that tiny depths differ too


def spectral() -> npt.NDArray[np.uint8]:
    """The (256, 3) sRGB table: linear between the anchors, truncated to bytes."""
    anchors = np.array(_ANCHORS) / 255
    at, positions = np.linspace(0, 1, _ENTRIES), np.linspace(0, 1, len(_ANCHORS))
    table = np.stack([np.interp(at, positions, channel) for channel in anchors.T], axis=-1)
    return (table * 255).astype(np.uint8)


def colour_depth(depth: npt.NDArray[np.float32], limits: tuple[float, float] | None = None) -> npt.NDArray[np.uint8]:
    """Colour one depth map by inverse depth, stretched between its own 2nd and 98th percentiles.

    Args:
        depth: (H, W) z-depth, inf for the farthest. Where it is NaN or not positive, :data:`UNKNOWN` is drawn.
        limits: lowest and highest inverse depth of the colours instead, see :func:`inverse_limits`.

    Returns:
        (H, W, 3) uint8 sRGB.
    """
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        inverse = 1 / depth.astype(np.float64)
    valid = depth > 0
    low, high = _stretch(inverse[valid & np.isfinite(depth)]) if limits is None else limits
    nearness = np.clip((inverse[valid] - low) / (high - low), 0, 1)
    coloured = np.full((*depth.shape, 3), UNKNOWN, np.uint8)
    coloured[valid] = spectral()[np.minimum((1 - nearness) * _ENTRIES, _ENTRIES - 1).astype(np.int64)]
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


def inverse_limits(depth: npt.NDArray[np.float32]) -> tuple[float, float]:
    """The 2nd and 98th percentiles of the inverse of all depth there is, which several maps are to share."""
    valid = np.isfinite(depth) & (depth > 0)
    with np.errstate(over="ignore"):
        return _stretch(1 / depth[valid].astype(np.float64))


def colour_bar(height: int, limits: tuple[float, float], unit: str, *, unknown: bool = False) -> npt.NDArray[np.uint8]:
    """A bar of the colours between limits, near at the top, with the depth at its ends and its middle: (H, 64, 3).

    Args:
        height: in rows.
        limits: lowest and highest inverse depth.
        unit: written behind the numbers.
        unknown: whether a field at the bottom says what :data:`UNKNOWN` is; left out where the bar is too low for it.
    """
    from PIL import Image, ImageDraw

    rows = height - _FIELD - _GAP if unknown and height >= 4 * _FIELD else height
    inverse = np.linspace(limits[1], limits[0], rows)
    index = np.minimum(np.linspace(0, 1, rows) * _ENTRIES, _ENTRIES - 1).astype(np.int64)
    bar = np.full((height, _BAR, 3), 255, np.uint8)
    bar[:rows, : _BAR // 4] = spectral()[index][:, None]
    bar[rows + _GAP :, : _BAR // 4] = UNKNOWN
    picture = Image.fromarray(bar)
    draw = ImageDraw.Draw(picture)
    for row, anchor in ((0, "lt"), (rows // 2, "lm"), (rows - 1, "lb")):
        if inverse[row] > 0:
            draw.text((_BAR // 4 + 3, row), f"{1 / inverse[row]:.3g}{unit}", fill=(0, 0, 0), anchor=anchor)
    if rows < height:
        draw.text((_BAR // 4 + 3, height - _FIELD // 2), "none", fill=(0, 0, 0), anchor="lm")
    return np.asarray(picture)


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
