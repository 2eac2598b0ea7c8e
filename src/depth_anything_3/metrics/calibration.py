"""Probabilities against what happened: how honest they are, and the map that makes scores honest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError

Array = npt.NDArray[np.float64]


def expected_calibration_error(
    probability: Float[np.ndarray, " p"], right: Bool[np.ndarray, " p"], *, bins: int = 10
) -> float:
    """Mean of ``|share that is right - mean probability|`` over bins of equal width, weighted by what falls in each.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), eq. 3.

    Raises:
        InputError: nothing to compare, or a probability outside of 0 to 1.
    """
    if not len(probability) or probability.shape != right.shape:
        raise InputError("probability", f"shape {probability.shape}", f"that of right, {right.shape}, not empty")
    if not (probability.min() >= 0 and probability.max() <= 1):
        raise InputError("probability", "values outside of 0 to 1", "probabilities")
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(index, right.astype(np.float64) - probability, bins)
    return float(np.abs(gap).sum() / len(probability))


def fit_monotone(
    score: Float[np.ndarray, " p"], right: Bool[np.ndarray, " p"], *, knots: int = 24
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Least-squares map that never falls from scores to shares of what is right, at a few knots.

    Scores are put into bins of equal size; neighbours that fall are pooled (pool adjacent violators: Ayer et al. 1955).

    Returns:
        mean scores of the bins, rising, and their shares, never falling.

    Raises:
        InputError: fewer scores than knots.
    """
    if len(score) < knots or score.shape != right.shape:
        raise InputError("score", f"{len(score)} scores", f"at least {knots}, as many as right")
    edges = np.unique(np.sort(score)[np.arange(knots) * len(score) // knots])
    index = np.searchsorted(edges, score, side="right") - 1  # equal scores share a bin
    parts = [np.flatnonzero(index == k) for k in range(len(edges))]
    places = np.array([score[p].mean() for p in parts])
    blocks: list[tuple[float, float, int]] = []  # share, weight, how many bins
    for part in parts:
        blocks.append((float(right[part].mean()), float(len(part)), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    shares = np.concatenate([np.full(count, share) for share, _, count in blocks])
    return places, shares
