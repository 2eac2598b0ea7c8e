"""3D Gaussians as the network predicts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Gaussians:
    """A set of 3D Gaussians per scene; G = views x height x width, in view-row-column order.

    Everything is in the world frame and the unit of the depth and poses returned beside it.

    Attributes:
        means: (B, G, 3) centres.
        scales: (B, G, 3) standard deviations (not logarithms).
        rotations: (B, G, 4) unit quaternions in wxyz order.
        harmonics: (B, G, 3, d_sh) colour coefficients of the real spherical harmonics, colour by coefficient.
        opacities: (B, G) in (0, 1).
    """

    means: Tensor
    scales: Tensor
    rotations: Tensor
    harmonics: Tensor
    opacities: Tensor
