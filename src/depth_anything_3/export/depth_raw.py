"""``depth_raw``: depth as numbers, one file per view, ``depth_raw/0000.png``, ..., and ``depth_raw/depth.json``.

``npy``, ``pfm`` and ``exr`` (channel ``Z``) hold the float32 values as they are. ``png16`` holds whole numbers: depth
times ``per_unit``, 0 where depth is unknown or too far for 16 bits. The JSON file says the unit and the factor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS: frozenset[str] = frozenset()
FOLDER, SIDECAR = "depth_raw", "depth_raw/depth.json"
_SUFFIX = {"png16": "png", "exr": "exr", "npy": "npy", "pfm": "pfm"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How depth is stored.

    Attributes:
        encoding: ``png16``, ``exr`` (needs the extra ``exr``), ``npy`` or ``pfm``.
        per_unit: for ``png16``: steps per unit of depth. None: 1000, so millimetres, for depth in metres; for relative
            depth as many as the deepest pixel allows. TUM uses 5000, KITTI 256.
    """

    encoding: Literal["png16", "exr", "npy", "pfm"] = "png16"
    per_unit: float | None = None

    def __post_init__(self) -> None:
        if self.per_unit is not None and not 0 < self.per_unit < math.inf:
            raise InputError("per_unit", str(self.per_unit), "a positive number of steps")


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    return [*(f"{FOLDER}/{index:04d}.{_SUFFIX[options.encoding]}" for index in range(count)), SIDECAR]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write every view, and what the numbers mean.

    Raises:
        MissingExtraError: ``exr`` without OpenEXR. Nothing is written.

    Warns:
        UserWarning: ``per_unit`` has no effect, or pixels are too far for 16 bits.
    """
    from depth_anything_3.export._depth_files import write_depth

    return write_depth(prediction, [folder / name for name in planned_files(len(prediction.depth), options)], options)


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
