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
    """Colours by inverse depth: near is dark red, far is violet; what has no depth (masked out, padded) is grey.

    Attributes:
        shared_range: one range of colours for all views, as for the frames of a video; else each view has its own.
        colour_bar: a bar beside each picture says which colour is which depth.
    """

    shared_range: bool = False
    colour_bar: bool = False


def planned_files(count: int, options: Options) -> list[str]:
    """The files that will be written, relative to the folder, for ``count`` views."""
    return [f"depth_vis/{index:04d}.jpg" for index in range(count)]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write one JPEG per view: the image on the left, its depth on the right."""
    import numpy as np
    from PIL import Image

    from depth_anything_3.export._colormap import colour_bar, colour_depth, inverse_limits
    from depth_anything_3.types.prediction import known_depth

    assert prediction.processed_images is not None
    maps = known_depth(prediction)
    shared = inverse_limits(maps) if options.shared_range else None
    unit, holes = " m" if prediction.is_metric else "", not (np.isfinite(maps) & (maps > 0)).all()
    paths = [folder / name for name in planned_files(len(maps), options)]
    for path, image, depth in zip(paths, prediction.processed_images, maps, strict=True):
        limits = shared or inverse_limits(depth)
        parts = [image, colour_depth(depth, limits)]
        if options.colour_bar:
            parts.append(colour_bar(len(depth), limits, unit, unknown=holes))
        pair = np.concatenate(parts, axis=1)
        with atomic_path(path) as temporary:
            Image.fromarray(pair).save(temporary, format="JPEG", quality=_QUALITY)
    return paths


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
