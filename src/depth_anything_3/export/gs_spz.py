"""``gs_spz``: 3D Gaussians compressed to about a quarter of ``gs_ply``, for viewers and phones, ``gs_spz/0000.spz``.

See :mod:`depth_anything_3.splat.spz`. All bands of the harmonics are kept; everything is rounded to 8 to 24 bits. The
world is turned upright as the format wants it (y up), which no other format here does.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BufferedIOBase
from typing import TYPE_CHECKING

from depth_anything_3.errors import InputError
from depth_anything_3.export._gaussians import gaussian_exporter
from depth_anything_3.splat.options import SPZ_VERSIONS, CleanOptions

if TYPE_CHECKING:
    from depth_anything_3.types.gaussians import Gaussians


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


def write(file: BufferedIOBase, gaussians: Gaussians, options: Options) -> None:
    """Write the file. Raises :class:`InputError` where a centre is too far away for the format."""
    from depth_anything_3.splat.spz import write_spz

    write_spz(file, gaussians, options.version)


EXPORTER = gaussian_exporter("gs_spz/0000.spz", Options, write)
NEEDS = EXPORTER.needs
