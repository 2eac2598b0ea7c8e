"""Where points were seen: what matches tell, whatever the world and its unit are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from depth_anything_3.errors import InputError

_PREFIX = "observations."


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Where points (or tracks) were seen: O flat observations, in any order.

    Attributes:
        point: (O,) index of the point.
        view: (O,) index of the view.
        xy: (O, 2) pixel, the centre of the top-left one at (0.5, 0.5).
        weight: (O,) from 0 to 1, on the squared error.
    """

    point: npt.NDArray[np.int64]
    view: npt.NDArray[np.int64]
    xy: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        count = len(self.point)
        for name, shape in {"view": (count,), "xy": (count, 2), "weight": (count,)}.items():
            if np.shape(getattr(self, name)) != shape:
                raise InputError(f"observations.{name}", f"shape {np.shape(getattr(self, name))}", f"shape {shape}")
        if not (np.isfinite(self.xy).all() and np.isfinite(self.weight).all()):
            raise InputError("observations", "a value that is not finite", "finite pixels and weights")
        if (self.weight < 0).any():
            raise InputError("observations.weight", f"{self.weight.min():.3g}", "weights of at least 0")

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.integer]) -> Observations:
        """Those that are chosen, by a mask or by their places and in that order; the indices of points stay."""
        return Observations(
            point=self.point[chosen], view=self.view[chosen], xy=self.xy[chosen], weight=self.weight[chosen]
        )

    def as_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays under the names that they have in files: ``observations.point``, ..."""
        return {f"{_PREFIX}{field.name}": getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Observations | None:
        """Those of :meth:`as_arrays` among other arrays; None where they are not there."""
        names = {field.name: f"{_PREFIX}{field.name}" for field in dataclasses.fields(cls)}
        if not arrays.keys() >= set(names.values()):
            return None
        return cls(**{name: arrays[stored] for name, stored in names.items()})

    def check(self, points: int, views: int) -> None:
        """Raise InputError where an index is out of range."""
        for name, index, count in (("point", self.point, points), ("view", self.view, views)):
            if len(index) and not 0 <= index.min() <= index.max() < count:
                raise InputError(
                    f"observations.{name}", f"indices {index.min()} to {index.max()}", f"indices from 0 to {count - 1}"
                )
