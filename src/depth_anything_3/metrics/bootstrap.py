"""How far a number over few scenes can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from depth_anything_3.errors import InputError

Statistic = Literal["mean", "median"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and the interval around it.

    Attributes:
        estimate: the statistic of all values.
        low: lower end.
        high: upper end.
        count: number of values.
    """

    estimate: float
    low: float
    high: float
    count: int


def bootstrap_interval(
    values: Float[np.ndarray, " n"],
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval (Efron 1979) of a mean or median over scenes.

    The same values give the same interval: the generator is local and its seed fixed. With one value the interval has
    no width, which says nothing about trust; look at ``count``.

    Args:
        values: one number per scene. Scenes are what is independent; pixels and pairs of views are not.
        statistic: ``"mean"`` or ``"median"``.
        level: probability of the interval, between 0 and 1.
        resamples: how many resampled sets of the same size.
        seed: of the local generator.

    Raises:
        InputError: there is no value, one is not finite, or another argument is out of range.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InputError("values", f"shape {values.shape}, {values}", "one finite number per scene, at least one")
    if statistic not in ("mean", "median"):
        raise InputError("statistic", repr(statistic), "what to estimate", ("mean", "median"))
    if not 0 < level < 1:
        raise InputError("level", repr(level), "a probability between 0 and 1")
    if resamples < 1:
        raise InputError("resamples", repr(resamples), "at least 1")
    reduce = np.mean if statistic == "mean" else np.median
    drawn = values[np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))]
    low, high = np.quantile(reduce(drawn, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate=float(reduce(values)), low=float(low), high=float(high), count=len(values))
