"""``feat_vis``: features of the network as colours, beside the pictures, one by one and as a film.

For every layer that was asked for (``export_feat_layers``): ``feat_vis/feat_layer_<i>/000000.jpg``, ... and
``feat_vis/feat_layer_<i>.mp4``. Red, green and blue are the three directions in which the features of all views vary
most (principal components), each stretched from its 10th to its 90th percentile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"processed_images", "aux"})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which layers, and the speed of the film.

    Attributes:
        fps: pictures per second of the film.
        layers: numbers of the blocks; they must be in the prediction. Empty for all that are there, which can only be
            listed once they are.
        video: whether to write films.
    """

    fps: float = 15.0
    layers: tuple[int, ...] = ()
    video: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise InputError("fps", str(self.fps), "a positive number of pictures per second")


def planned_files(count: int, options: Options) -> list[str]:
    """The files of ``options.layers``, relative to the folder, for ``count`` views."""
    files = []
    for layer in options.layers:
        files += [f"feat_vis/feat_layer_{layer}/{index:06d}.jpg" for index in range(count)]
        files += [f"feat_vis/feat_layer_{layer}.mp4"] if options.video else []
    return files


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write pictures and film of every layer.

    Raises:
        InputError: a layer is not in the prediction.
        DA3Error: OpenCV cannot write films here.
    """
    from depth_anything_3.export._feature_pictures import write_layers

    return write_layers(prediction, folder, options)


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
