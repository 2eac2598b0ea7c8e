"""What set the frame and the unit of a prediction, and how well it fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

ScaleRule = Literal["centres", "distances", "depth ratios", "unknown", "rig", "known distance", "points", "baseline"]
"""What set the scale. With given poses: a fit to all centres; the distances between them, where they lie on a line;
depth that has to agree between views, where the predicted places do not tell; or nothing. With a rig: the distances
between its cameras. Otherwise what the prediction was rescaled to."""


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """How a prediction was brought to given poses or lengths; tuples hold one value per view, None without a pose.

    Attributes:
        rule: what set the scale.
        scale: what the network's lengths were multiplied by to get those of the given unit; with
            ``align_to_input_ext_scale=False`` they were not, and the given poses were divided by it instead.
        used: views that had a say; False for views without a given pose and for those that contradict the others.
        distance: between the given camera centre and the predicted one after the alignment, in the given unit.
        angle_deg: between the orientations, in degrees.
        error: median of ``|log(reference / prediction)|`` after rescaling, at known points or, for depth ratios, at
            what two views show; None for other rules.
    """

    rule: ScaleRule
    scale: float
    used: tuple[bool, ...] = ()
    distance: tuple[float | None, ...] = ()
    angle_deg: tuple[float | None, ...] = ()
    error: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields by name, as plain data."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Alignment:
        """The inverse of :meth:`as_dict`."""
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**values)
