"""What a running inference tells its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["load", "preprocess", "network", "postprocess", "refine", "export"]


@dataclass(frozen=True)
class Progress:
    """One step done: ``done`` of ``total`` units of ``stage`` (images, transformer blocks, files)."""

    stage: Stage
    done: int
    total: int


ProgressCallback = Callable[[Progress], None]
