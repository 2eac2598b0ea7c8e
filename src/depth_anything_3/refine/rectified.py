"""What a rectified pair leaves open, decided by another estimate of depth.

With principal points that differ by ``c``, depth is ``f B / (d + c)`` for a disparity ``d``. The pictures alone do not
tell ``c``; a depth map that is known up to scale does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

Array = npt.NDArray[np.float64]

_ROUNDS = 50
_LEAST_POINTS = 30
_LEAST_GAIN = 0.2  # of the residual: a smaller gain is no reason to move principal points
_FLOOR = 1e-3  # of the residuals, in log depth
_NEAREST_TO_INFINITY = 0.25  # pixels of disparity that the farthest points keep


def disparity_offset(disparity: Float[np.ndarray, " m"], depth: Float[np.ndarray, " m"]) -> float:
    """The ``c`` in pixels with which ``log(disparity + c) + log(depth)`` varies least, robustly; 0 if it says little.

    Args:
        disparity: in pixels.
        depth: of the same points, up to scale; what is not finite and positive is left out.
    """
    known = np.isfinite(depth) & (depth > 0)
    d, log_depth = np.asarray(disparity, np.float64)[known], np.log(depth[known])
    if len(d) < _LEAST_POINTS:
        return 0.0
    least = _NEAREST_TO_INFINITY - float(np.quantile(d, 0.02))
    span = float(np.ptp(np.quantile(d, [0.02, 0.98])))
    tried = max(least, 0.0) + np.concatenate([[0.0], span * np.geomspace(0.02, 4.0, 40)])
    if least < 0:
        tried = np.concatenate([np.linspace(least, 0.0, 10, endpoint=False), tried])
    cost = [_spread(d, log_depth, float(c)) for c in tried]
    offset = _refined(d, log_depth, float(tried[int(np.argmin(cost))]), least)
    plain = _spread(d, log_depth, max(least, 0.0))
    return offset if _spread(d, log_depth, offset) < (1 - _LEAST_GAIN) * plain else max(least, 0.0)


def _residual(d: Array, log_depth: Array, offset: float) -> Array:
    """Deviation of log disparity + log depth from its median."""
    total: Array = np.log(np.maximum(d + offset, _NEAREST_TO_INFINITY)) + log_depth
    return total - np.median(total)


def _spread(d: Array, log_depth: Array, offset: float) -> float:
    return float(np.mean(np.minimum(np.abs(_residual(d, log_depth, offset)), 1.0)))


def _refined(d: Array, log_depth: Array, offset: float, least: float) -> float:
    """Gauss-Newton over the offset and the scale, reweighted (Cauchy)."""
    for _ in range(_ROUNDS):
        residual = _residual(d, log_depth, offset)
        spread = max(1.4826 * float(np.median(np.abs(residual))), _FLOOR)
        weight = np.sqrt(1 / (1 + (residual / spread) ** 2))
        slope = 1 / np.maximum(d + offset, _NEAREST_TO_INFINITY)
        rows = np.stack([slope, np.ones_like(slope)], 1) * weight[:, None]
        step = float(np.linalg.lstsq(rows, -residual * weight, rcond=None)[0][0])
        offset = max(offset + step, least)
        if abs(step) < 1e-6:
            break
    return offset
