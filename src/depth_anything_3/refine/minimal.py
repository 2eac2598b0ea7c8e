"""Models of two views from the fewest matches, for many samples at once.

Letters: X samples, S solutions.
"""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Int

Array = npt.NDArray[np.float64]

_CUBIC = list(combinations_with_replacement(range(3), 3))  # xxx, xxy, xxz, xyy, ..., zzz
_LOWER = [(0, 0, 3), (0, 1, 3), (0, 2, 3), (1, 1, 3), (1, 2, 3), (2, 2, 3), (0, 3, 3), (1, 3, 3), (2, 3, 3), (3, 3, 3)]
_REAL = 1e-8  # of the size of an eigenvalue: a larger imaginary part is no solution


def _folding() -> Array:
    """(64, 20): from products of three of (x, y, z, 1), in any order, to monomials."""
    monomials = {name: place for place, name in enumerate([*_CUBIC, *_LOWER])}
    fold = np.zeros((64, 20))
    for place, name in enumerate(product(range(4), repeat=3)):
        low, middle, high = sorted(name)
        fold[place, monomials[low, middle, high]] = 1
    return fold


def essential_matrices(
    first: Float[np.ndarray, "x 5 3"], second: Float[np.ndarray, "x 5 3"]
) -> tuple[Float[np.ndarray, "s 3 3"], Int[np.ndarray, " s"]]:
    """All essential matrices of five matches: ``second^T E first = 0``; with the sample that each comes from.

    The constraints on E in the null space of the matches are cubic in three unknowns; solutions are eigenvectors of
    the matrix that multiplies by the first (Stewenius, Engels, Nister, "Recent developments on direct relative
    orientation", 2006).

    Args:
        first, second: rays of each sample in the first and the second view, of any length.
    """
    rows = (second[:, :, :, None] * first[:, :, None, :]).reshape(-1, 5, 9)
    basis = np.linalg.svd(rows)[2][:, 5:]  # (X, 4, 9)
    linear = basis.reshape(-1, 4, 3, 3).transpose(0, 2, 3, 1)  # E as a polynomial: coefficients of x, y, z, 1
    equations = _constraints(linear) @ _folding()
    regular = np.isfinite(np.linalg.slogdet(equations[:, :, :10])[1])
    reduced = np.linalg.solve(equations[regular, :, :10], equations[regular, :, 10:])
    action = np.zeros((len(reduced), 10, 10))
    action[:, :6] = -reduced[:, :6]
    action[:, [6, 7, 8, 9], [0, 1, 2, 6]] = 1
    usable = np.isfinite(action).all((1, 2))
    values, vectors = np.linalg.eig(action[usable])
    real = (np.abs(values.imag) <= _REAL * (1 + np.abs(values))) & (np.abs(vectors[:, 9]) > 1e-12)
    sample, column = np.nonzero(real)
    chosen = vectors[sample, :, column].real
    names = np.flatnonzero(regular)[usable][sample]
    unknowns = np.concatenate([chosen[:, 6:9] / chosen[:, 9:], np.ones((len(chosen), 1))], 1)
    found = (linear[names] @ unknowns[:, None, :, None])[..., 0]
    length = np.linalg.norm(found, axis=(1, 2), keepdims=True)
    good = np.isfinite(length[:, 0, 0]) & (length[:, 0, 0] > 0)
    return found[good] / length[good] * np.sqrt(2), names[good]


def _constraints(linear: Array) -> Array:
    """(X, 10, 64): det E = 0 and 2 E E^T E - tr(E E^T) E = 0, as products of three of (x, y, z, 1)."""
    levi = np.zeros((3, 3, 3))
    levi[[0, 1, 2], [1, 2, 0], [2, 0, 1]] = 1
    levi[[0, 2, 1], [2, 1, 0], [1, 0, 2]] = -1
    top: Any = np.einsum("jkl,xja->xakl", levi, linear[:, 0])
    top = np.einsum("xakl,xkb->xabl", top, linear[:, 1])
    determinant = np.einsum("xabl,xlc->xabc", top, linear[:, 2])
    square = np.einsum("xika,xjkb->xijab", linear, linear)
    cube = 2 * np.einsum("xijab,xjlc->xilabc", square, linear)
    cube -= np.einsum("xab,xilc->xilabc", np.einsum("xiiab->xab", square), linear)
    return np.concatenate([determinant.reshape(-1, 1, 64), cube.reshape(-1, 9, 64)], 1)


def rotations(first: Float[np.ndarray, "x m 3"], second: Float[np.ndarray, "x m 3"]) -> Float[np.ndarray, "x 3 3"]:
    """Rotations that take unit rays to unit rays, in the sense of least squares (Kabsch 1976); two are enough."""
    u, _, vt = np.linalg.svd(second.swapaxes(1, 2) @ first)
    sign = np.ones((len(u), 1, 3))
    sign[:, 0, 2] = np.linalg.det(u @ vt)
    found: Array = (u * sign) @ vt
    return found


def homographies(
    first: Float[np.ndarray, "x m 3"],
    second: Float[np.ndarray, "x m 3"],
    weight: Float[np.ndarray, "x m"] | None = None,
) -> Float[np.ndarray, "x 3 3"]:
    """Homographies that take rays to rays, from four or more, by the direct linear transform (null vectors)."""
    zero = np.zeros_like(first)
    x, y, z = (second[..., i : i + 1] for i in range(3))
    rows = np.concatenate(
        [np.concatenate([zero, -z * first, y * first], -1), np.concatenate([z * first, zero, -x * first], -1)], 1
    )
    if weight is not None:
        rows = rows * np.concatenate([weight, weight], 1)[..., None]
    # The null vector of the square: one small matrix for any number of matches.
    found: Array = np.linalg.svd(rows.swapaxes(1, 2) @ rows)[2][:, -1].reshape(-1, 3, 3)
    return found


def poses_of_essential(
    essential: Float[np.ndarray, "3 3"],
) -> tuple[Float[np.ndarray, "4 3 3"], Float[np.ndarray, "4 3"]]:
    """The four rotations and unit translations (second from first camera) of an essential matrix."""
    u, _, vt = np.linalg.svd(essential)
    u, vt = u * np.sign(np.linalg.det(u)), vt * np.sign(np.linalg.det(vt))
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turns = np.stack([u @ quarter @ vt, u @ quarter.T @ vt])
    return np.concatenate([turns, turns]), np.stack([u[:, 2], u[:, 2], -u[:, 2], -u[:, 2]])
