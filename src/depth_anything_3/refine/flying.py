"""Flying pixels: the ramp that a blurred edge of depth draws between two surfaces.

Networks and filters blur depth across the outlines of things; the points on the ramp hang in the air between the two
surfaces. Along a line of pixels such a ramp is steep, begins and ends with a change of slope (of the normal, see
:mod:`~depth_anything_3.refine.inverse_depth`), and leaves both surfaces behind. A surface that is seen at a grazing
angle is steep as well, but goes on; a thin thing has an edge on each side, but no ramp. What looks just like a ramp
goes too: a surface at a grazing angle that is only a few pixels wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from depth_anything_3.refine.inverse_depth import inverse_depth, shifted

_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
_STEEPER = 2  # how much steeper than the ramp a surface beside it may be
_NONE = 10_000  # farther than any ramp is wide

Image = np.ndarray[Any, Any]


def flying_pixels(
    depth: Float[np.ndarray, "n h w"],
    keep: Bool[np.ndarray, "n h w"] | None = None,
    *,
    tolerance: float = 0.02,
    width: int = 7,
    gap: int = 0,
) -> Bool[np.ndarray, "n h w"]:
    """Pixels that are on neither of the two surfaces beside them.

    Along one of four lines through the pixel, inverse depth must fall on both sides of it, or rise, by more than the
    tolerance per pixel. Within ``width`` pixels there must be on each side a stretch, not more than twice as steep,
    that misses the pixel by more than the tolerance where it is continued to it in a straight line: the one passes
    above, the other below. On one side the end of the picture, or of what is known, may take its place.

    Args:
        depth: z-depth.
        keep: False where the depth means nothing (sky, masked out); no pixel there is found or looked at.
        tolerance: share of the depth.
        width: pixels from one surface to the other, the two included; a ramp of a blur over 5 pixels along a diagonal
            takes 7.
        gap: stretches of 2 to ``gap`` pixels between two ramps of one line count as well. (A single one is where the
            two sides of a thing as wide as the blur meet, and right.)
    """
    found = np.zeros(depth.shape, np.bool_)
    for i in range(len(depth)):  # one view at a time: some forty copies of it are held
        inverse = inverse_depth(depth[i], None if keep is None else keep[i])
        ramps = [_ramps(inverse, direction, tolerance, width) for direction in _DIRECTIONS]
        every = np.logical_or.reduce(ramps)
        known = np.isfinite(inverse)
        bridged = [_bridged(ramp, every, direction, gap) for ramp, direction in zip(ramps, _DIRECTIONS, strict=True)]
        found[i] = (every | np.logical_or.reduce(bridged)) & known
    return found


def _ramps(inverse: Image, direction: tuple[int, int], tolerance: float, width: int) -> Image:
    """Pixels that fly along one line; what is compared with a NaN is not found."""
    down, right = direction
    reach = width - 1
    before = [shifted(inverse, -m * down, -m * right, np.nan) for m in range(reach + 2)]
    after = [shifted(inverse, m * down, m * right, np.nan) for m in range(reach + 2)]
    with np.errstate(invalid="ignore"):
        arriving, leaving = inverse - before[1], after[1] - inverse
        steepness = np.minimum(np.abs(arriving), np.abs(leaving))
        steep = (arriving * leaving > 0) & (steepness > tolerance * inverse)
        rising = np.sign(arriving)
        behind = _nearest_surface(before, inverse, rising, steepness, tolerance)
        ahead = _nearest_surface(after, inverse, -rising, steepness, tolerance)
    # Where the picture or what is known ends, a ramp ends as well; on one of its sides.
    end_behind, end_ahead = np.minimum(behind, _nearest_unknown(before)), np.minimum(ahead, _nearest_unknown(after))
    ramp: Image = steep & (np.minimum(behind + end_ahead, end_behind + ahead) <= width)
    return ramp


def _nearest_surface(line: list[Image], inverse: Image, above: Image, steepness: Image, tolerance: float) -> Image:
    """How many pixels away the next surface is that the pixel is off, above or below it; many where there is none."""
    distance = np.full(inverse.shape, _NONE, np.int16)
    margin = tolerance * inverse
    for m in range(len(line) - 2, 0, -1):
        slope = line[m] - line[m + 1]
        missed_by = (inverse - (line[m] + m * slope)) * above
        np.putmask(distance, (np.abs(slope) <= _STEEPER * steepness) & (missed_by > margin), m)
    return distance


def _nearest_unknown(line: list[Image]) -> Image:
    """How many pixels away the next unknown one is; many where there is none."""
    distance = np.full(line[0].shape, _NONE, np.int16)
    for m in range(len(line) - 2, 0, -1):
        np.putmask(distance, np.isnan(line[m]), m)
    return distance


def _bridged(ramp: Image, every: Image, direction: tuple[int, int], gap: int) -> Image:
    """Stretches of 2 to ``gap`` pixels between two ramps of a line."""
    down, right = direction
    found, free = np.zeros_like(ramp), ~every
    for length in range(2, gap + 1):
        stretch = shifted(ramp, -down, -right, False) & shifted(ramp, length * down, length * right, False)
        for m in range(length):
            stretch &= shifted(free, m * down, m * right, False)
        for m in range(length):
            found |= shifted(stretch, -m * down, -m * right, False)
    return found
