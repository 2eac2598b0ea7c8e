"""Tanks and Temples, the six scenes that novel views are scored on, as :mod:`depth_anything_3.datasets` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from depth_anything_3.datasets import tanks_and_temples
from depth_anything_3.datasets.benchmark._photos import Photographs


class TanksAndTemplesScored(Photographs, tanks_and_temples.TanksAndTemples):
    """Scenes are ``tanks_and_temples/Truck`` and so on: those for training, without Courthouse."""

    title = "Tanks and Temples"

    def _find(self) -> Iterator[tuple[str, Path]]:
        return (found for found in super()._find() if found[0] in tanks_and_temples.NOVEL_VIEW_SCENES)


DATASET = TanksAndTemplesScored
