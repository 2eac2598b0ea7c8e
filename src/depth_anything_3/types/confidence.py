"""What a confidence is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class ConfidenceMaps:
    """What the confidences of one network are worth: by how many views it saw together, which changes what it knows.

    Attributes:
        own: number of views -> map of the confidence that the network says; empty where that was not measured.
        derived: the same of the one that is derived from how well it agrees with itself.

    Raises:
        InputError: a number of views below 1.
    """

    own: Mapping[int, ConfidenceMap] = field(default_factory=dict)
    derived: Mapping[int, ConfidenceMap] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for views in (*self.own, *self.derived):
            if views < 1:
                raise InputError("confidence_maps", f"a map for {views} views", "at least one view")

    def of(self, views: int, *, derived: bool) -> ConfidenceMap | None:
        """The map for so many views: between those that were measured, linear in the logarithm of their number.

        Fewer or more views than were measured count as the fewest or the most. None where nothing was measured.
        """
        maps = self.derived if derived else self.own
        if not maps or views in maps:
            return maps.get(views)
        for (few, fewer), (many, more) in pairwise(sorted(maps.items())):
            if few < views < many:
                return _between(fewer, more, float(np.log(views / few) / np.log(many / few)))
        return maps[max(maps) if views > max(maps) else min(maps)]

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            name: {str(views): asdict(found) for views, found in sorted(maps.items())}
            for name, maps in (("own", self.own), ("derived", self.derived))
            if maps
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> ConfidenceMaps:
        """What :meth:`as_dict` gave.

        Raises:
            InputError: a map that cannot be.
            TypeError, ValueError, AttributeError: other data.
        """
        return cls(
            **{
                name: {int(views): ConfidenceMap(**_knots(found)) for views, found in maps.items()}
                for name, maps in value.items()
            }
        )


def _knots(value: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(float(number) for number in numbers) for name, numbers in value.items()}


def _between(a: ConfidenceMap, b: ConfidenceMap, share: float) -> ConfidenceMap:
    """The map that says ``1 - share`` of what ``a`` says plus ``share`` of what ``b`` says."""
    knots = tuple(sorted({*a.conf, *b.conf}))
    both = [found(np.array(knots)).astype(np.float64) for found in (a, b)]
    said = np.maximum.accumulate(((1 - share) * both[0] + share * both[1]).clip(0, 1))
    return ConfidenceMap(knots, tuple(said.tolist()))


def log_excess(conf: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """``log(conf - 1)``, the number that a network's ``1 + exp(x)`` was made of, bounded below."""
    return np.log(np.maximum(np.asarray(conf, np.float64) - 1, _LEAST))
