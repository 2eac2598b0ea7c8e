"""``preview``: the whole result in one picture, ``preview.jpg``, to look at before anything is opened.

On the left some views beside their coloured depth; on the right, where there are cameras, the points and the cameras
as seen from behind and above the first camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3.errors import InputError
from depth_anything_3.export.base import Exporter

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"processed_images"})
FILE = "preview.jpg"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Size of the picture.

    Attributes:
        views: at most so many views, evenly chosen.
        height: of the picture, in pixels.
    """

    views: int = 4
    height: int = 720

    def __post_init__(self) -> None:
        if self.views < 1:
            raise InputError("views", str(self.views), "at least 1")
        if not 64 <= self.height <= 4320:
            raise InputError("height", str(self.height), "64 to 4320 pixels")


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the picture."""
    from PIL import Image

    from depth_anything_3._files import atomic_path
    from depth_anything_3.export._preview import draw_preview

    with atomic_path(folder / FILE) as temporary:
        Image.fromarray(draw_preview(prediction, options)).save(temporary, format="JPEG", quality=90)
    return [folder / FILE]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
