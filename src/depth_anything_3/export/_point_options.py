"""Options that several exporters share: which pixels become points, and in which frame."""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from depth_anything_3.errors import InputError
from depth_anything_3.types.options import CLEAN_PRESETS, check_choice

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

Frame = Literal["input", "first_camera", "z_up"]
"""Where exported coordinates count from; see :func:`depth_anything_3.export._frames.frame_from_world`."""


@dataclass(frozen=True, kw_only=True)
class PointOptions:
    """Which pixels become points.

    A pixel needs a confidence of ``min(max(conf_thresh, P(conf_thresh_percentile)), P(ensure_thresh_percentile))``,
    where P are percentiles over all pixels of all views. Predictions without confidence keep every valid pixel.

    Attributes:
        num_max_points: at most so many points; more are thinned out evenly.
        conf_thresh: the lowest confidence that is ever enough.
        filter_black_bg: leave out pixels that are nearly black (all channels below 16).
        filter_white_bg: leave out pixels that are nearly white (all channels at least 240).
        conf_thresh_percentile: the share of pixels, in percent, that is left out as least confident.
        ensure_thresh_percentile: above this percentile pixels are kept, however uncertain the scene is.
        clean: name of a preset of :data:`~depth_anything_3.types.options.CLEAN_PRESETS`, which then decides in the
            place of the three thresholds.
    """

    num_max_points: int = 1_000_000
    conf_thresh: float = 1.05
    filter_black_bg: bool = False
    filter_white_bg: bool = False
    conf_thresh_percentile: float = 40.0
    ensure_thresh_percentile: float = 90.0
    clean: str | None = None

    def __post_init__(self) -> None:
        if self.clean is not None:
            check_choice("clean", self.clean, tuple(CLEAN_PRESETS))
        if self.num_max_points < 1:
            raise InputError("num_max_points", str(self.num_max_points), "at least 1")
        if math.isnan(self.conf_thresh):
            raise InputError("conf_thresh", "nan", "a confidence")
        for name in ("conf_thresh_percentile", "ensure_thresh_percentile"):
            if not 0 <= getattr(self, name) <= 100:
                raise InputError(name, str(getattr(self, name)), "a percentage from 0 to 100")


def warn_without_effect(prediction: Prediction, options: PointOptions, exporter: str) -> None:
    """Say which options do nothing for this prediction.

    Warns:
        UserWarning: an option has no effect.
    """
    if options.conf_thresh_percentile > options.ensure_thresh_percentile:
        warnings.warn(
            f"{exporter}: conf_thresh_percentile={options.conf_thresh_percentile:g} has no effect above "
            f"ensure_thresh_percentile={options.ensure_thresh_percentile:g}",
            stacklevel=3,
        )
    names = ("conf_thresh", "conf_thresh_percentile", "ensure_thresh_percentile")
    published = {field.name: field.default for field in dataclasses.fields(options)}
    changed = [name for name in names if getattr(options, name) != published[name]]
    if options.clean is not None and changed:
        warnings.warn(f"{exporter}: {', '.join(changed)} without effect beside clean={options.clean!r}", stacklevel=3)
    elif prediction.conf is None and changed:
        warnings.warn(
            f"{exporter}: {', '.join(changed)} without effect, the prediction has no confidence", stacklevel=3
        )
