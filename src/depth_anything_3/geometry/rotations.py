"""Rotations as 3x3 matrices and as quaternions; the order of a quaternion is part of every name."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_NO_ROOT = 1e-12
"""Below this the root is taken of this: at 0 its derivative is infinite, also where the root does not count."""


def matrix_from_quat_xyzw(quat_xyzw: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion of any non-zero length (normalisation is implicit)."""
    x, y, z, w = quat_xyzw.unbind(-1)
    s = 2.0 / quat_xyzw.square().sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def quat_xyzw_from_matrix(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion with w >= 0 of a rotation matrix.

    Four formulas divide by a different component each; the one that divides by the largest is used, so that the
    result is accurate for every rotation, 180 degrees included.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = rotation.flatten(-2).unbind(-1)
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], -1
    ).clamp(min=_NO_ROOT)
    sizes = squares.sqrt()  # twice |w|, |x|, |y|, |z|
    products_wxyz = torch.stack(
        [
            torch.stack([squares[..., 0], m21 - m12, m02 - m20, m10 - m01], -1),
            torch.stack([m21 - m12, squares[..., 1], m10 + m01, m02 + m20], -1),
            torch.stack([m02 - m20, m10 + m01, squares[..., 2], m12 + m21], -1),
            torch.stack([m10 - m01, m20 + m02, m21 + m12, squares[..., 3]], -1),
        ],
        -2,
    )
    candidates = products_wxyz / (2.0 * sizes[..., None].clamp(min=0.1))
    best = sizes.argmax(-1)[..., None, None].expand(*sizes.shape[:-1], 1, 4)
    quat_wxyz = candidates.gather(-2, best).squeeze(-2)
    quat_xyzw = quat_wxyz.roll(-1, -1)
    return torch.where(quat_xyzw[..., 3:] < 0, -quat_xyzw, quat_xyzw)
