"""DL3DV, the 140 scenes of its benchmark, as :mod:`depth_anything_3.datasets` reads it; they are a download of their
own, so that every scene of the folder counts."""

from __future__ import annotations

from depth_anything_3.datasets import dl3dv
from depth_anything_3.datasets.benchmark._photos import Photographs


class Dl3dvBenchmark(Photographs, dl3dv.Dl3dv):
    """Scenes are ``dl3dv_benchmark/HASH``."""

    name = "dl3dv_benchmark"
    title = "DL3DV benchmark"


DATASET = Dl3dvBenchmark
