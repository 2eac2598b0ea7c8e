"""What a running inference tells its caller."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["load", "decode", "preprocess", "network", "postprocess", "refine", "export"]


@dataclass(frozen=True)
class Progress:
    """How far a stage is: ``done`` of ``total`` units (frames, images, transformer blocks, files).

    Attributes:
        stage: what is being done.
        done: units that are done; 0 where the stage, or the item, only begins.
        total: units there are.
        item: of ``export``, the format whose files are counted; of ``refine``, ``gaussians`` for steps on these.
    """

    stage: Stage
    done: int
    total: int
    item: str = ""


ProgressCallback = Callable[[Progress], None]
