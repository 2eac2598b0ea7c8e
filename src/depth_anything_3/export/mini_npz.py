"""``mini_npz``: the arrays of a prediction without the images, in ``exports/mini_npz/results.npz``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS: frozenset[str] = frozenset()
FILE = "exports/mini_npz/results.npz"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The format has no options. Depth is rounded to 8 decimals, confidence to 2."""


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write ``depth``, ``conf``, ``extrinsics``, ``intrinsics`` and what says how to read them."""
    from depth_anything_3.export._archive import write_archive

    return [write_archive(prediction, folder / FILE, depth_decimals=8, with_images=False)]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
