"""``npz``: all arrays of a prediction, with the images, in ``exports/npz/results.npz``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS: frozenset[str] = frozenset()
FILE = "exports/npz/results.npz"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The format has no options. Depth is rounded to 6 decimals, confidence to 2."""


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write ``depth``, ``conf``, ``extrinsics``, ``intrinsics``, ``image`` and what says how to read them."""
    from depth_anything_3.export._archive import write_archive

    return [write_archive(prediction, folder / FILE, depth_decimals=6, with_images=True)]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
