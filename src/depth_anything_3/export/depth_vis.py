"""``depth_vis``: every view beside its coloured depth, as ``depth_vis/0000.jpg``, ``depth_vis/0001.jpg``, ..."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"processed_images"})
_QUALITY = 95


@dataclass(frozen=True, kw_only=True)
class Options:
    """The format has no options. Colours are stretched per view: near is dark red, far and unknown are violet."""


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    return [f"depth_vis/{index:04d}.jpg" for index in range(count)]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write one JPEG per view: the image on the left, its depth on the right."""
    import numpy as np
    from PIL import Image

    from depth_anything_3.export._colormap import colour_depth
    from depth_anything_3.types.prediction import known_depth

    assert prediction.processed_images is not None
    paths = [folder / name for name in planned_files(len(prediction.depth), options)]
    for path, image, depth in zip(paths, prediction.processed_images, known_depth(prediction), strict=True):
        pair = np.concatenate((image, colour_depth(depth)), axis=1)
        with atomic_path(path) as temporary:
            Image.fromarray(pair).save(temporary, format="JPEG", quality=_QUALITY)
    return paths


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
