"""``gs_splat``: 3D Gaussians at 32 bytes each, for viewers in a browser, ``gs_splat/0000.splat``.

Little-endian records without a header: centre (3 float32), deviations (3 float32), red, green, blue and opacity (4
bytes), unit quaternion with w first (4 bytes, 128 + 128 q). Colours are those of degree 0: the same from everywhere.
Viewers show the file while it loads, so that what matters comes first: the largest volume times opacity.
"""

from __future__ import annotations

from io import BufferedIOBase
from typing import TYPE_CHECKING

from depth_anything_3.export._gaussians import gaussian_exporter
from depth_anything_3.splat.options import CleanOptions as Options

if TYPE_CHECKING:
    from depth_anything_3.types.gaussians import Gaussians


def write(file: BufferedIOBase, gaussians: Gaussians, options: Options) -> None:
    """Write one record per Gaussian."""
    import numpy as np

    from depth_anything_3.geometry.harmonics import C0
    from depth_anything_3.splat.blocks import blocks
    from depth_anything_3.splat.clean import select

    weight = gaussians.scales[0].double().prod(-1) * gaussians.opacities[0]
    layout = np.dtype([("centre", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)])
    for block in blocks(select(gaussians, weight.argsort(descending=True, stable=True))):
        rgba = np.concatenate((0.5 + C0 * block.harmonics[:, :, 0], block.opacities[:, None]), 1)
        records = np.empty(len(block.means), layout)
        records["centre"], records["scales"] = block.means, block.scales
        records["rgba"] = np.round(rgba.clip(0, 1) * 255)
        records["rotation"] = np.round(block.rotations * 128 + 128).clip(0, 255)
        file.write(records.data)


EXPORTER = gaussian_exporter("gs_splat/0000.splat", Options, write)
NEEDS = EXPORTER.needs
