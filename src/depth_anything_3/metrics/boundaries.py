"""Edges of depth: whether they are where they should be, and what hangs in the air beside them (numpy, z-depth).

An edge lies between two neighbouring pixels whose depths differ by more than a ratio; on which side the farther one is
belongs to it. Ratios see no scale, so relative depth needs no alignment for :func:`boundary_scores`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import valid_pixels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

RATIOS = tuple(float(r) for r in np.linspace(1.05, 1.25, 10))
"""Ratios that make an edge; the scores are means over them, a ratio r counting r - 1."""

FLYING_TOLERANCE = 0.02
"""A pixel within this share of a true depth nearby is on a surface."""

FLYING_EDGE = 1.1
"""Farthest over nearest true depth of a square, from which on it holds an edge."""

FLYING_RADIUS = 2
"""Pixels from the middle of a square to its sides."""


@dataclass(frozen=True, kw_only=True)
class BoundaryScores:
    """Agreement of edges, from 0 to 1.

    Attributes:
        precision: part of the predicted edges that are true ones.
        recall: part of the true edges that are predicted.
        f1: mean over the ratios of the harmonic mean of both.
    """

    precision: float
    recall: float
    f1: float


def boundary_scores(
    predicted: Float[np.ndarray, "h w"],
    true: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> BoundaryScores | None:
    """Precision, recall and F1 of edges, pixel by pixel (Bochkovskii et al., "Depth Pro", 2024, section 4).

    Only neighbours that both have a true depth are looked at. A prediction that is not finite and positive has no edge.

    Args:
        predicted: z-depth in any unit, at the size of the truth.
        true, mask: see :func:`~depth_anything_3.metrics.depth.valid_pixels`.

    Returns:
        The scores; None where the truth has no edge at any ratio.

    Raises:
        InputError: the shapes differ.
    """
    if np.shape(predicted) != np.shape(true):
        raise InputError("predicted", f"shape {np.shape(predicted)}", f"the shape of `true`, {np.shape(true)}")
    valid = valid_pixels(true, mask)
    rows = [row for ratio in RATIOS if (row := _at_ratio(predicted, true, valid, ratio)) is not None]
    if not rows:
        return None
    weights, precision, recall, f1 = np.array(rows).T
    mean = [float(np.average(values, weights=weights)) for values in (precision, recall, f1)]
    return BoundaryScores(precision=mean[0], recall=mean[1], f1=mean[2])


def flying_rate(
    predicted: Float[np.ndarray, "h w"],
    true: Float[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"] | None = None,
) -> float | None:
    """Part of the pixels at true edges whose prediction hangs between the surfaces, from 0 to 1.

    A pixel is at an edge where the true depths in the square around it reach beyond a ratio of :data:`FLYING_EDGE`. It
    flies where its prediction is nearer than the farthest and farther than the nearest of them, and off every one by
    more than :data:`FLYING_TOLERANCE`.

    Args:
        predicted: z-depth, aligned to the truth.
        true, mask: see :func:`~depth_anything_3.metrics.depth.valid_pixels`; only valid pixels count as surfaces.

    Returns:
        The share; None where no pixel is at an edge.

    Raises:
        InputError: the shapes differ.
    """
    if np.shape(predicted) != np.shape(true):
        raise InputError("predicted", f"shape {np.shape(predicted)}", f"the shape of `true`, {np.shape(true)}")
    valid = valid_pixels(true, mask)
    near, far, off = np.full(true.shape, np.inf), np.zeros(true.shape), np.full(true.shape, np.inf)
    for around in _squares(np.where(valid, true, np.nan)):
        known = np.isfinite(around)
        near, far = np.fmin(near, around), np.fmax(far, around)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.fmin(off, np.where(known, np.abs(predicted / around - 1), np.inf))
    edge = valid & (far > FLYING_EDGE * near)
    if not edge.any():
        return None
    with np.errstate(invalid="ignore"):
        flies = (off > FLYING_TOLERANCE) & (predicted > near) & (predicted < far)
    return float(flies[edge].mean())


def _at_ratio(predicted: Array, true: Array, valid: Mask, ratio: float) -> tuple[float, float, float, float] | None:
    """Weight, precision, recall and F1 at one ratio; None where there is no true edge."""
    wanted = found = both = 0
    for (p, q), (g, h), (u, v) in zip(_neighbours(predicted), _neighbours(true), _neighbours(valid), strict=True):
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            usable = u & v
            true_edge = usable & (h > ratio * g)
            edge = usable & np.isfinite(p) & np.isfinite(q) & (p > 0) & (q > ratio * p)
        wanted, found = wanted + int(true_edge.sum()), found + int(edge.sum())
        both += int((edge & true_edge).sum())
    if not wanted:
        return None
    precision, recall = both / found if found else 0.0, both / wanted
    total = precision + recall
    return ratio - 1, precision, recall, 2 * precision * recall / total if total else 0.0


def _neighbours(image: npt.NDArray) -> list[tuple[npt.NDArray, npt.NDArray]]:  # type: ignore[type-arg]
    """Pairs of images: every pixel with its neighbour to the right, left, below and above."""
    pairs = [(image[:, :-1], image[:, 1:]), (image[:-1], image[1:])]
    return [ordered for a, b in pairs for ordered in ((a, b), (b, a))]


def _squares(image: Array) -> list[Array]:
    """The image moved to all places of a square; NaN from outside."""
    r, (height, width) = FLYING_RADIUS, image.shape
    padded = np.pad(image.astype(np.float64), r, constant_values=np.nan)
    return [padded[y : y + height, x : x + width] for y in range(2 * r + 1) for x in range(2 * r + 1)]
