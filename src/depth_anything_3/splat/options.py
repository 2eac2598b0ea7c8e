"""Options of this room. Importing them loads neither torch nor numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from depth_anything_3.errors import InputError


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
        if len(self.background) != 3 or not all(math.isfinite(value) for value in self.background):
            raise InputError("background", repr(self.background), "three finite numbers")
        if not 0 < self.near < math.inf:
            raise InputError("near", str(self.near), "a positive depth")
        if not 0 <= self.dilation < math.inf:
            raise InputError("dilation", str(self.dilation), "a variance in square pixels, 0 or more")
