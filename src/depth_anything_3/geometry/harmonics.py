"""Real spherical harmonics up to degree 3 as in 3D Gaussian splatting: the basis, and coefficients under rotation.

The basis is orthonormal over the sphere; degree 1 is c1 (-y, z, -x). Definition: Kerbl et al., "3D Gaussian Splatting
for Real-Time Radiance Field Rendering" (2023), whose files and viewers fix order and signs.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3
"""The highest degree of the basis."""

C0 = 0.28209479177387814
"""The value of the only function of degree 0."""

_C1 = 0.4886025119029199
_A, _B, _C = 1.0925484305920792, 0.31539156525252005, 0.5462742152960396
_D, _E, _F, _G = 0.5900435899266435, 2.890611442640554, 0.4570457994644658, 0.3731763325901154


def harmonic_basis(directions: Float[Tensor, "*batch 3"], degree: int) -> Float[Tensor, "*batch coefficients"]:
    """The (degree + 1)^2 basis functions at unit directions.

    Raises:
        ValueError: the degree is not 0, 1, 2 or 3.
    """
    if degree not in range(MAX_DEGREE + 1):
        raise ValueError(f"degree: got {degree}; expected 0, 1, 2 or 3")
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        values += [_A * x * y, -_A * y * z, _B * (2 * zz - xx - yy), -_A * x * z, _C * (xx - yy)]
    if degree >= 3:
        ring = 4 * zz - xx - yy
        values += [-_D * y * (3 * xx - yy), _E * x * y * z, -_F * y * ring, _G * z * (2 * zz - 3 * xx - 3 * yy)]
        values += [-_F * x * ring, _E / 2 * z * (xx - yy), -_D * x * (xx - 3 * yy)]
    return torch.stack(values, -1)


def degree_of(coefficients: int) -> int:
    """The degree of a number of coefficients per colour.

    Raises:
        ValueError: the number is not 1, 4, 9 or 16.
    """
    degree = math.isqrt(max(coefficients, 0)) - 1
    if degree not in range(MAX_DEGREE + 1) or (degree + 1) ** 2 != coefficients:
        raise ValueError(f"harmonics: got {coefficients} coefficients; expected 1, 4, 9 or 16 (degree 0 to 3)")
    return degree


def rotate_harmonics(
    harmonics: Float[Tensor, "*batch colours coefficients"], rotation: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch colours coefficients"]:
    """Coefficients of the same function after its domain was rotated: Y(d) . c' = Y(R^T d) . c for every direction d.

    Each coefficient is the integral of the rotated function times its basis function. The integrand is a polynomial of
    degree 6 at most, so that the integral is a weighted sum over a few directions, and exact.

    Args:
        harmonics: 1, 4, 9 or 16 coefficients per colour (degree 0 to 3).
        rotation: maps the old frame to the new one (for example camera to world).

    Raises:
        ValueError: the number of coefficients is not 1, 4, 9 or 16.
    """
    degree = degree_of(harmonics.shape[-1])
    directions, weights = (torch.from_numpy(array).to(rotation) for array in _quadrature())
    basis = weights[:, None] * harmonic_basis(directions, degree)
    turned = harmonic_basis(directions @ rotation, degree)  # R^T d, as rows
    bands = [harmonics[..., :1]]
    for l in range(1, degree + 1):  # noqa: E741
        band = slice(l * l, (l + 1) ** 2)
        change = turned[..., band].transpose(-1, -2) @ basis[:, band]
        bands.append(harmonics[..., band] @ change.to(harmonics))
    return torch.cat(bands, -1)


@functools.cache
def _quadrature() -> tuple[Float[np.ndarray, "samples 3"], Float[np.ndarray, " samples"]]:
    """Directions and weights that integrate polynomials up to degree 7 over the sphere.

    Gauss and Legendre's nodes along z, evenly spaced angles around it.
    """
    nodes, weights = np.polynomial.legendre.leggauss(MAX_DEGREE + 1)
    angles = np.arange(2 * MAX_DEGREE + 2) * np.pi / (MAX_DEGREE + 1)
    z, angle = (grid.ravel() for grid in np.meshgrid(nodes, angles, indexing="ij"))
    radius = np.sqrt(1 - z * z)
    directions = np.stack((radius * np.cos(angle), radius * np.sin(angle), z), -1)
    return directions, np.repeat(weights, len(angles)) * (2 * np.pi / len(angles))
