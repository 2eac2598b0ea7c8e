"""Scales of maps that show some of the same things: one factor each, from where they overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

Array = npt.NDArray[np.float64]

_FEWEST = 20  # samples of an overlap, before it is believed
_ROUNDS = 20


@dataclass(frozen=True)
class Overlap:
    """What two maps say about the same places.

    Attributes:
        first, second: indices of the maps.
        log_ratio: by place, the logarithm of the first map's value over the second's.
    """

    first: int
    second: int
    log_ratio: Float[np.ndarray, " p"]


def common_scales(count: int, overlaps: Sequence[Overlap]) -> Float[np.ndarray, " n"]:
    """Factors of N maps that make them agree; their logarithms have mean zero in every connected group.

    Least squares over the medians of the overlaps, each weighted by the root of its size and reweighted by the
    Cauchy loss, so that a few overlaps may be wrong. A map that overlaps with none keeps the factor one.
    """
    usable = [o for o in overlaps if len(o.log_ratio) >= _FEWEST]
    logs = np.zeros(count)
    if not usable:
        return np.ones(count)
    rows = np.zeros((len(usable), count))
    for row, overlap in zip(rows, usable, strict=True):
        row[overlap.first], row[overlap.second] = 1.0, -1.0
    wanted = -np.array([np.median(o.log_ratio) for o in usable])
    size = np.sqrt([len(o.log_ratio) for o in usable])
    weight = size.copy()
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)[:, None]
        logs = np.linalg.lstsq(root * rows, root[:, 0] * wanted, rcond=None)[0]  # least norm: each group has mean 0
        off = np.abs(rows @ logs - wanted)
        noise = max(1.4826 * float(np.median(off)), 1e-4)
        weight = size / (1 + (off / (2 * noise)) ** 2)
    scales: Array = np.exp(logs)
    return scales


def seam(overlaps: Sequence[Overlap], scales: Float[np.ndarray, " n"] | None = None) -> float:
    """Median of ``|log ratio|`` over all places of all overlaps, after the scales if there are any; NaN without any."""
    factor = np.zeros(max((max(o.first, o.second) for o in overlaps), default=0) + 1)
    if scales is not None:
        factor = np.log(scales)
    parts = [o.log_ratio + factor[o.first] - factor[o.second] for o in overlaps]
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(np.median(np.abs(values))) if len(values) else float("nan")
