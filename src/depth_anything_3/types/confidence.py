"""What a confidence is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError

_LEAST = 1e-7  # float32 holds no smaller excess over 1


@dataclass(frozen=True)
class ConfidenceMap:
    """A monotone map from confidence to the chance that depth is within 25 % of the truth after one scale per scene.

    Attributes:
        conf: knots, rising, at least 1.
        probability: at the knots, from 0 to 1, never falling; linear in ``log(conf - 1)`` between, constant beyond.

    Raises:
        InputError: not such a map.
    """

    conf: tuple[float, ...]
    probability: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.conf, np.float64), np.array(self.probability, np.float64)
        fits = len(x) == len(y) > 0 and np.isfinite(x).all() and np.isfinite(y).all()
        if not (fits and (np.diff(x) > 0).all() and x.min() >= 1 and (np.diff(y) >= 0).all()):
            raise InputError(
                "confidence_map", f"{len(x)} and {len(y)} numbers", "rising knots and rising probabilities"
            )
        if y.min() < 0 or y.max() > 1:
            raise InputError("confidence_map", f"probabilities from {y.min():g} to {y.max():g}", "0 to 1")

    def __call__(self, conf: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Probabilities of confidences of any shape."""
        found = np.interp(log_excess(conf), log_excess(np.array(self.conf)), self.probability)
        return np.asarray(found, np.float32)


def log_excess(conf: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """``log(conf - 1)``, the number that a network's ``1 + exp(x)`` was made of, bounded below."""
    return np.log(np.maximum(np.asarray(conf, np.float64) - 1, _LEAST))
