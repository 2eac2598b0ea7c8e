"""The indoor part of DIODE, for depth in metres up to 25 m. Layout as in ``diode``."""

from __future__ import annotations

from depth_anything_3.datasets.benchmark.diode import Diode


class DiodeIndoor(Diode):
    """Scenes are scans (``diode_indoor/indoors/scene_00019/scan_00183``)."""

    name = "diode_indoor"
    title = "DIODE, indoor"
    modes = ("mono", "metric")
    depth_range = (0.01, 25.0)
    places = ("indoors",)


DATASET = DiodeIndoor
