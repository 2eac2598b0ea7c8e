"""Distances all around one place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.types.prediction import Prediction


@dataclass(frozen=True, kw_only=True, eq=False)
class Panorama:
    """What a panorama or a fisheye picture shows, on its own pixels. Arrays are read-only.

    Attributes:
        distance: (H, W) float32: the range, from the camera to the surface along the ray of the pixel. It is no
            z-depth, which has no meaning behind a camera. NaN in the sky, and where no tangent view shows the pixel.
        rays: (H, W, 3) float32 unit directions, OpenCV axes; ``distance * rays`` are the points. NaN where the lens
            sees nothing.
        is_metric: True where distances are metres.
        conf: (H, W) float32, or None for models without a confidence.
        sky: (H, W) bool, or None for models without a sky branch.
        views: the tangent views, with the scales that make them agree; in the frame of the panorama's camera.
        scales: by view, the factor that its depth was multiplied by; their geometric mean is one.
        seam_before, seam: median of ``|log|`` of the ratio of the distances that two views give a pixel which both
            show, before the scales and after them.
        coverage: share of the pixels that the camera sees that some tangent view shows too.
    """

    distance: npt.NDArray[np.float32]
    rays: npt.NDArray[np.float32]
    is_metric: bool
    conf: npt.NDArray[np.float32] | None
    sky: npt.NDArray[np.bool_] | None
    views: Prediction
    scales: tuple[float, ...]
    seam_before: float
    seam: float
    coverage: float

    def __post_init__(self) -> None:
        for name in ("distance", "rays", "conf", "sky"):
            if (value := getattr(self, name)) is not None:
                frozen = value.view()
                frozen.flags.writeable = False
                object.__setattr__(self, name, frozen)
