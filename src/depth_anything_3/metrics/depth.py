"""Errors of depth maps, and the alignments that relative depth needs first (numpy, z-depth, any unit).

A pixel is scored where the true depth is finite and positive and the mask, if there is one, is True. There,

* a prediction that is not finite counts as a depth of 0: an error of 100 % in :func:`abs_rel`, a miss in
  :func:`delta`. A network gains nothing by leaving hard pixels out;
* a prediction that is 0 or below keeps its value in :func:`abs_rel` and :func:`rmse` and is a miss in :func:`delta`;
* :func:`log_rmse`, which both would make infinite, is over the positive predictions; :func:`coverage` says how many
  those are.

Everything pools the pixels it is given. The usual mean over images of the error per image is for the caller to take.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Shaped

from depth_anything_3.errors import InputError

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ScaleRule = Literal["median", "least squares", "relative least squares"]
"""How one factor is found; see :func:`scale_factor`."""

_RULES = ("median", "least squares", "relative least squares")

Space = Literal["depth", "disparity"]

# Reweighted least squares: rounds, and the part of the median residual below which weights stop growing.
_ROUNDS = 50
_SMALLEST_RESIDUAL = 1e-6


def valid_pixels(
    true: Float[np.ndarray, "*shape"], mask: Bool[np.ndarray, "*shape"] | None = None
) -> Bool[np.ndarray, "*shape"]:
    """Where there is a true depth to compare with: finite, positive, and True in the mask.

    Args:
        true: z-depth; 0, NaN or inf where it is not known.
        mask: further restriction, such as a range of distances.
    """
    with np.errstate(invalid="ignore"):
        valid: Mask = np.isfinite(true) & (true > 0)
    return valid if mask is None else valid & mask


def scale_factor(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
    *,
    rule: ScaleRule = "median",
) -> float:
    """The factor that brings predicted depth to the scale of the true one, over all pixels given.

    Pass all views of a scene at once for one scale per scene. Reports use ``"median"``.

    Args:
        predicted: z-depth in any unit. Pixels that are not finite and positive have no say.
        true: z-depth; see :func:`valid_pixels`.
        mask: which pixels count.
        rule:
            ``"median"``: median over pixels of true / predicted, which minimises the mean of ``|log(s p / g)|``. Up to
            half of the pixels may be wrong. (Not the ratio of the two medians, as in Zhou et al., CVPR 2017.)
            ``"least squares"``: minimises the sum of ``(s p - g)^2``; the far pixels decide.
            ``"relative least squares"``: minimises the sum of ``(s p / g - 1)^2``; every pixel has the same weight.

    Raises:
        InputError: shapes differ, no pixel can be compared, or the rule is unknown.
    """
    if rule not in _RULES:
        raise InputError("rule", repr(rule), "a rule for one scale", _RULES)
    p, g = _comparable(predicted, true, mask)
    if rule == "median":
        return float(np.median(g / p))
    if rule == "relative least squares":
        p, g = p / g, np.ones_like(g)
    return float(p @ g / (p @ p))


def scale_and_shift(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
    *,
    robust: bool = False,
) -> tuple[float, float]:
    """The (a, b) that minimise the error of ``a * predicted + b``; meant for one image at a time.

    Args:
        predicted: depth or disparity, of either sign. Pixels that are not finite have no say.
        true: the same quantity, positive where it is known.
        mask: which pixels count.
        robust: the sum of absolute errors instead of squares, by reweighted least squares (Schlossmacher, JASA 1973).

    Raises:
        InputError: shapes differ, or no pixel can be compared.
    """
    p, g = _comparable(predicted, true, mask, positive=False)
    weights = np.ones_like(p)
    a, b = _weighted_line(p, g, weights)
    for _ in range(_ROUNDS if robust else 0):
        residual = np.abs(a * p + b - g)
        floor = max(_SMALLEST_RESIDUAL * float(np.median(residual)), float(np.finfo(np.float64).eps) * float(g.max()))
        a, b = _weighted_line(p, g, 1 / np.maximum(residual, floor))
    return a, b


def aligned_affine(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
    *,
    space: Space = "depth",
    robust: bool = False,
) -> Float[np.ndarray, "*shape"]:
    """Predicted depth of one image after scale and shift, in depth or in disparity.

    In disparity (1 / depth), the fit of MiDaS (Ranftl et al., PAMI 2022), the aligned disparity is kept at or above
    that of the farthest true pixel, so that depth stays positive and finite.

    Args:
        predicted, true, mask, robust: as in :func:`scale_and_shift`; depth in both spaces.
        space: where the line is fitted.

    Returns:
        Depth, float64. Pixels whose prediction cannot be used (not finite; in disparity also not positive) are NaN.

    Raises:
        InputError: shapes differ, no pixel can be compared, or the space is unknown.
    """
    if space not in ("depth", "disparity"):
        raise InputError("space", repr(space), "where scale and shift are fitted", ("depth", "disparity"))
    p = np.asarray(predicted, np.float64)
    if space == "depth":
        a, b = scale_and_shift(p, true, mask, robust=robust)
        return np.where(np.isfinite(p), a * p + b, np.nan)
    _, g = _comparable(predicted, true, mask)
    with np.errstate(divide="ignore", invalid="ignore"):
        disparity = np.where(np.isfinite(p) & (p > 0), 1 / p, np.nan)
        a, b = scale_and_shift(disparity, 1 / np.asarray(true, np.float64), valid_pixels(true, mask), robust=robust)
        return 1 / np.maximum(a * disparity + b, 1 / g.max())


def abs_rel(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Mean of ``|p - g| / g``.

    Args:
        predicted: z-depth in the unit of ``true``, aligned before if it is relative.
        true, mask: see :func:`valid_pixels`.

    Raises:
        InputError: shapes differ, or there is no valid pixel. So do the other errors.
    """
    p, g = _scored(predicted, true, mask)
    return float(np.mean(np.abs(p - g) / g))


def rmse(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Root of the mean of ``(p - g)^2``, in the unit of the depth. Arguments as in :func:`abs_rel`."""
    p, g = _scored(predicted, true, mask)
    return float(np.sqrt(np.mean((p - g) ** 2)))


def sq_rel(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Mean of ``(p - g)^2 / g``, in the unit of the depth. Arguments as in :func:`abs_rel`."""
    p, g = _scored(predicted, true, mask)
    return float(np.mean((p - g) ** 2 / g))


def log_rmse(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Root of the mean of ``(ln p - ln g)^2`` over positive predictions; inf where there is none.

    Arguments as in :func:`abs_rel`.
    """
    p, g = _scored(predicted, true, mask)
    positive = p > 0
    if not positive.any():
        return float("inf")
    return float(np.sqrt(np.mean(np.log(p[positive] / g[positive]) ** 2)))


def delta(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
    *,
    threshold: float = 1.25,
) -> float:
    """Part of the pixels with ``max(p / g, g / p) < threshold``, from 0 to 1.

    Args:
        predicted, true, mask: as in :func:`abs_rel`.
        threshold: above 1; 1.25, 1.25 ** 2 and 1.25 ** 3 are usual, 1.05 and 1.03 tell good methods apart.

    Raises:
        InputError: shapes differ, there is no valid pixel, or the threshold is not above 1.
    """
    if not threshold > 1:
        raise InputError("threshold", repr(threshold), "a ratio above 1")
    p, g = _scored(predicted, true, mask)
    return float(np.mean((p < threshold * g) & (p * threshold > g)))


def coverage(
    predicted: Float[np.ndarray, "*shape"],
    true: Float[np.ndarray, "*shape"],
    mask: Bool[np.ndarray, "*shape"] | None = None,
) -> float:
    """Part of the scored pixels whose prediction is finite and positive. Arguments as in :func:`abs_rel`."""
    p, _ = _scored(predicted, true, mask)
    return float(np.mean(p > 0))


def resized_nearest(maps: Shaped[np.ndarray, "n h w"], height: int, width: int) -> Shaped[np.ndarray, "n y x"]:
    """Maps at another size, each pixel from the one that its centre falls on: no depths between near and far appear.

    Args:
        maps: n maps of depth, or of anything else with one value per pixel.
        height: wanted rows.
        width: wanted columns.
    """
    rows = ((np.arange(height) + 0.5) * maps.shape[1] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * maps.shape[2] / width).astype(int)
    return maps[:, rows[:, None], columns]


def _scored(
    predicted: npt.NDArray[np.floating], true: npt.NDArray[np.floating], mask: Mask | None
) -> tuple[Array, Array]:
    """Predicted and true depth of the pixels that count; what is not finite is 0."""
    _check_shapes(predicted, true, mask)
    valid = valid_pixels(true, mask)
    if not valid.any():
        raise InputError("true", "no valid pixel", "a finite, positive depth at one pixel of the mask at least")
    p, g = predicted[valid].astype(np.float64), true[valid].astype(np.float64)
    return np.where(np.isfinite(p), p, 0.0), g


def _comparable(
    predicted: npt.NDArray[np.floating], true: npt.NDArray[np.floating], mask: Mask | None, *, positive: bool = True
) -> tuple[Array, Array]:
    """Predicted and true values of the pixels where both can be used."""
    _check_shapes(predicted, true, mask)
    usable = valid_pixels(true, mask) & np.isfinite(predicted)
    if positive:
        with np.errstate(invalid="ignore"):
            usable &= predicted > 0
    if not usable.any():
        raise InputError(
            "predicted", "no pixel to compare", "a usable prediction at one valid pixel of `true` at least"
        )
    return predicted[usable].astype(np.float64), true[usable].astype(np.float64)


def _check_shapes(predicted: npt.NDArray[np.floating], true: npt.NDArray[np.floating], mask: Mask | None) -> None:
    if np.shape(predicted) != np.shape(true):
        raise InputError("predicted", f"shape {np.shape(predicted)}", f"the shape of `true`, {np.shape(true)}")
    if mask is not None and np.shape(mask) != np.shape(true):
        raise InputError("mask", f"shape {np.shape(mask)}", f"the shape of `true`, {np.shape(true)}")


def _weighted_line(x: Array, y: Array, weights: Array) -> tuple[float, float]:
    """Weighted least squares of y by a x + b; a constant x gives a factor and no shift."""
    total = weights.sum()
    mean_x, mean_y = weights @ x / total, weights @ y / total
    spread = weights @ (x - mean_x) ** 2
    if spread <= np.finfo(np.float64).eps * (weights @ x**2):
        return float(mean_y / mean_x) if mean_x else 0.0, 0.0 if mean_x else float(mean_y)
    a = weights @ ((x - mean_x) * (y - mean_y)) / spread
    return float(a), float(mean_y - a * mean_x)
