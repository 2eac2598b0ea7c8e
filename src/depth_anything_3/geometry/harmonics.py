"""Rotation of real spherical harmonics coefficients up to degree 2, in closed form.

Basis (the one of 3D Gaussian splatting): degree 1 is c1 (-y, z, -x), degree 2 is
(a xy, -a yz, b (2z^2 - x^2 - y^2), -a xz, c (x^2 - y^2)). Rotated coefficients c' satisfy
Y(d) . c' = Y(R^T d) . c for every direction d.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_A, _B, _C = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396

# The degree-2 basis functions as quadratic forms d^T M_k d; all have the same Frobenius norm.
_QUADRATIC_FORMS = (
    ((0, _A / 2, 0), (_A / 2, 0, 0), (0, 0, 0)),
    ((0, 0, 0), (0, 0, -_A / 2), (0, -_A / 2, 0)),
    ((-_B, 0, 0), (0, -_B, 0), (0, 0, 2 * _B)),
    ((0, 0, -_A / 2), (0, 0, 0), (-_A / 2, 0, 0)),
    ((_C, 0, 0), (0, -_C, 0), (0, 0, 0)),
)
_SQUARED_NORM = _A**2 / 2


def rotate_harmonics(
    harmonics: Float[Tensor, "*batch colours coefficients"], rotation: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch colours coefficients"]:
    """Coefficients of the same function after its domain was rotated by ``rotation``.

    Args:
        harmonics: 1, 4 or 9 coefficients per colour (degree 0, 1 or 2).
        rotation: maps the old frame to the new one (for example camera to world).

    Raises:
        ValueError: the number of coefficients is not 1, 4 or 9.
    """
    count = harmonics.shape[-1]
    if count not in (1, 4, 9):
        raise ValueError(f"harmonics: got {count} coefficients; expected 1, 4 or 9 (degree 0, 1 or 2)")
    bands = [harmonics[..., :1]]
    if count >= 4:
        bands.append(_rotate_degree_1(harmonics[..., 1:4], rotation))
    if count == 9:
        bands.append(_rotate_degree_2(harmonics[..., 4:9], rotation))
    return torch.cat(bands, -1)


def _rotate_degree_1(
    band: Float[Tensor, "*batch colours 3"], rotation: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch colours 3"]:
    signs = band.new_tensor([-1.0, 1.0, -1.0])
    order = [1, 2, 0]  # coefficients stand for y, z, x
    permuted = rotation[..., order, :][..., :, order]
    return signs * (permuted @ (signs * band).transpose(-1, -2)).transpose(-1, -2)


def _rotate_degree_2(
    band: Float[Tensor, "*batch colours 5"], rotation: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch colours 5"]:
    forms = band.new_tensor(_QUADRATIC_FORMS).flatten(1)  # (5, 9)
    quadratic = (band @ forms).unflatten(-1, (3, 3))
    per_colour = rotation[..., None, :, :]
    rotated = per_colour @ quadratic @ per_colour.transpose(-1, -2)
    return rotated.flatten(-2) @ forms.T / _SQUARED_NORM
