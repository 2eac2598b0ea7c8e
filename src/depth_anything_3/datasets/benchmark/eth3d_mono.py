"""ETH3D again, one picture at a time: all 13 scenes, depth up to 80 m. Layout as in ``eth3d``."""

from __future__ import annotations

from depth_anything_3.datasets.benchmark.base import Surface
from depth_anything_3.datasets.benchmark.eth3d import SCENES, Eth3d


class Eth3dMono(Eth3d):
    """Scenes are folders (``eth3d_mono/courtyard``); pictures without a depth file are left out of the means."""

    name = "eth3d_mono"
    title = "ETH3D, single pictures"
    modes = ("mono", "metric")
    depth_range = (0.0, 80.0)
    max_frames = None
    wanted = (*SCENES, "meadow", "terrace")

    def surface(self, scene: str) -> Surface | None:
        """None: depth maps are scored."""
        return None


DATASET = Eth3dMono
