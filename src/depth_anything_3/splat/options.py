"""Options of this room. Importing them loads neither torch nor numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from depth_anything_3.errors import InputError

Trajectory = Literal[
    "original", "smooth", "interpolate", "interpolate_smooth", "extend", "wander", "dolly_zoom", "wobble_inter"
]
"""Paths for a camera, see :func:`depth_anything_3.splat.trajectories.camera_path`."""

TRAJECTORIES: tuple[str, ...] = get_args(Trajectory)

SPZ_VERSIONS = (2, 3)
"""Versions of the format SPZ that are written and read, see :mod:`depth_anything_3.splat.spz`."""


def possible_trajectory(name: Trajectory, views: int) -> Trajectory:
    """``name``, or for a single view, which has no path through it, ``wander`` instead of what needs several."""
    return "wander" if views == 1 and name not in ("wander", "dolly_zoom") else name


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """How Gaussians become a picture.

    Attributes:
        background: colour (red, green, blue) behind everything, in the range of the colours of the Gaussians (0 to 1).
        near: Gaussians whose centre is nearer than this z-depth are left out; in the unit of the scene.
        dilation: added to both variances of every projected Gaussian, in square pixels, so that none is thinner than
            a pixel: 0.3 as in 3D Gaussian splatting, a standard deviation of 0.55 pixels. 0 shows them as they are.
    """

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    near: float = 0.01
    dilation: float = 0.3

    def __post_init__(self) -> None:
        colour: Sequence[float] = self.background
        if len(colour) != 3 or not all(map(math.isfinite, colour)):
            raise InputError("background", repr(self.background), "three finite numbers")
        if not 0 < self.near < math.inf:
            raise InputError("near", str(self.near), "a positive depth")
        if not 0 <= self.dilation < math.inf:
            raise InputError("dilation", str(self.dilation), "a variance in square pixels, 0 or more")


@dataclass(frozen=True, kw_only=True)
class CleanOptions:
    """Which predicted Gaussians are kept, and how many.

    Attributes:
        min_opacity: fainter ones are left out.
        border: share of the height and of the width that is left out at each side of every view (published: 8 / 256).
        max_depth_percentile: per view, what is deeper than this percentile of its depth is left out (published: 90).
        max_depth_jump: pixels that float between a surface and one behind it are left out: some neighbour is nearer
            by more than this share of the depth, and some other is farther by more. 0 keeps them.
        drop_sky: leave out the sky, where the prediction knows it.
        gs_views_interval: use every so-many-th view; None takes about twelve views in all.
        max_gaussians: merge Gaussians of one place until there are at most so many; None merges none.
    """

    min_opacity: float = 0.005
    border: float = 0.03125
    max_depth_percentile: float = 90.0
    max_depth_jump: float = 0.1
    drop_sky: bool = True
    gs_views_interval: int | None = 1
    max_gaussians: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_opacity < 1:
            raise InputError("min_opacity", str(self.min_opacity), "an opacity from 0 to 1")
        if not 0 <= self.border < 0.5:
            raise InputError("border", str(self.border), "a share from 0 to one half")
        if not 0 < self.max_depth_percentile <= 100:
            raise InputError("max_depth_percentile", str(self.max_depth_percentile), "a percentage above 0, up to 100")
        if not 0 <= self.max_depth_jump < math.inf:
            raise InputError("max_depth_jump", str(self.max_depth_jump), "a share of the depth, 0 or more")
        for name in ("gs_views_interval", "max_gaussians"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(name, str(value), "at least 1, or None")
