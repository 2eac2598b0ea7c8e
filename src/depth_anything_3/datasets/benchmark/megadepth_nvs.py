"""MegaDepth, the nineteen scenes that novel views are scored on, as :mod:`depth_anything_3.datasets` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from depth_anything_3.datasets import megadepth
from depth_anything_3.datasets.benchmark._photos import Photographs


class MegaDepthScored(Photographs, megadepth.MegaDepth):
    """Scenes are ``megadepth_nvs/5000/0`` and so on: the first reconstruction of each place."""

    name = "megadepth_nvs"
    title = "MegaDepth, novel views"

    def _find(self) -> Iterator[tuple[str, Path]]:
        return (found for found in super()._find() if found[0] in megadepth.NOVEL_VIEW_SCENES)


DATASET = MegaDepthScored
