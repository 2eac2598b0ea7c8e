"""A prediction in the world of the truth."""

from __future__ import annotations

from dataclasses import dataclass

from depth_anything_3.bench.evaluate import Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Predicted depth in the true world.

    Attributes:
        depth: (N, h, w) in the true unit.
        intrinsics: (N, 3, 3) in pixels of the depth.
        extrinsics: (N, 3, 4) in the true world.
    """

    depth: Floats
    intrinsics: Floats
    extrinsics: Floats
