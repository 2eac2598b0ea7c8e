"""Camera decoder: one camera from one camera token."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class CameraDec(nn.Module):
    """Camera tokens to pose encodings (see :mod:`depth_anything_3.geometry.encoding`); a single pass, no refinement.

    Args:
        dim_in: channels of the camera token.
    """

    def __init__(self, dim_in: int = 1536) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim_in, dim_in), nn.ReLU(), nn.Linear(dim_in, dim_in), nn.ReLU())
        self.fc_t = nn.Linear(dim_in, 3)
        self.fc_qvec = nn.Linear(dim_in, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim_in, 2), nn.ReLU())

    def forward(self, camera_token: Float[Tensor, "B N D"]) -> Float[Tensor, "B N 9"]:
        """Centre, quaternion xyzw (not normalised) and non-negative fields of view in radians."""
        x = self.backbone(camera_token)
        return torch.cat([self.fc_t(x), self.fc_qvec(x), self.fc_fov(x)], -1)
