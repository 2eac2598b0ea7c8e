"""``gs_spz``: 3D Gaussians compressed to about a quarter of ``gs_ply``, for viewers and phones, ``gs_spz/0000.spz``.

See :mod:`depth_anything_3.splat.spz`. All bands of the harmonics are kept; everything is rounded to 8 to 24 bits. The
world is turned upright as the format wants it (y up), which no other format here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from depth_anything_3._files import atomic_path
from depth_anything_3.errors import InputError
from depth_anything_3.export.base import Exporter
from depth_anything_3.splat.options import SPZ_VERSIONS, CleanOptions

if TYPE_CHECKING:
    from depth_anything_3.types.prediction import Prediction

NEEDS = frozenset({"gaussians"})
FILE = "gs_spz/0000.spz"


@dataclass(frozen=True, kw_only=True)
class Options(CleanOptions):
    """Which Gaussians are written, how many, and in which version of the format.

    Attributes:
        version: 3 stores rotations more exactly; older readers know 2.
    """

    version: int = 3

    def __post_init__(self) -> None:
        CleanOptions.__post_init__(self)
        if self.version not in SPZ_VERSIONS:
            raise InputError("version", repr(self.version), "a version of SPZ that is written here", SPZ_VERSIONS)


def planned_files(count: int, options: Options) -> list[str]:
    """The file that will be written, relative to the folder, for ``count`` views."""
    return [FILE]


def export(prediction: Prediction, folder: Path, options: Options) -> list[Path]:
    """Write the file.

    Raises:
        InputError: a centre is too far away for the format.

    Warns:
        UserWarning: no Gaussian is left.
    """
    from depth_anything_3.export._gaussians import cleaned
    from depth_anything_3.splat.spz import write_spz

    gaussians = cleaned(prediction, options, "gs_spz")
    with atomic_path(folder / FILE) as temporary, temporary.open("wb") as file:
        write_spz(file, gaussians, options.version)
    return [folder / FILE]


EXPORTER = Exporter(options=Options, export=export, planned_files=planned_files, needs=NEEDS)
