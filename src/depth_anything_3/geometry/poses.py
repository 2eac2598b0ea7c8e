"""Rigid transforms as 3x4 or 4x4 matrices."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rigid_inverse(transform: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch rows 4"]:
    """Inverse of a rigid transform [R | t]: [R^T | -R^T t]. 3x4 gives 3x4, 4x4 gives 4x4.

    The rotation block is taken as orthonormal; no general inverse is computed.
    """
    rotation_t = transform[..., :3, :3].transpose(-1, -2)
    inverse = torch.cat([rotation_t, -rotation_t @ transform[..., :3, 3:]], -1)
    return torch.cat([inverse, transform[..., 3:, :]], -2)


def as_homogeneous(transform: Float[Tensor, "*batch rows 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Append the row (0, 0, 0, 1) to 3x4 transforms; 4x4 ones pass through.

    Raises:
        ValueError: the trailing shape is neither (3, 4) nor (4, 4).
    """
    if transform.shape[-2] == 4:
        return transform
    if transform.shape[-2] != 3:
        raise ValueError(f"transform: got shape {tuple(transform.shape)}; expected (..., 3, 4) or (..., 4, 4)")
    last = transform.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*transform.shape[:-2], 1, 4)
    return torch.cat([transform, last], -2)
