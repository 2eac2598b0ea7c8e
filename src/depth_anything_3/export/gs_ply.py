"""``gs_ply``: 3D Gaussians in the layout that viewers and trainers of Gaussian splatting share, ``gs_ply/0000.ply``.

Binary little-endian PLY, one vertex of float32 properties per Gaussian: x y z, nx ny nz (0), f_dc_0..2 (degree 0),
f_rest_* (the higher degrees, colour by colour), opacity (logit), scale_0..2 (natural logarithm of the deviations),
rot_0..3 (unit quaternion, w first). Frame and unit are those of the depth and the poses: OpenCV axes, y down.
"""

from __future__ import annotations

from io import BufferedIOBase
from typing import TYPE_CHECKING

from depth_anything_3.export._gaussians import gaussian_exporter
from depth_anything_3.splat.options import CleanOptions as Options

if TYPE_CHECKING:
    from depth_anything_3.types.gaussians import Gaussians


def write(file: BufferedIOBase, gaussians: Gaussians, options: Options) -> None:
    """Write all bands of the harmonics; opacities are limited so that their logits are finite."""
    import numpy as np

    from depth_anything_3.splat.blocks import blocks

    rest = 3 * (gaussians.harmonics.shape[-1] - 1)
    names = ["x", "y", "z", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(rest))]
    names += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {gaussians.means.shape[1]}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    file.write("\n".join(header).encode("ascii"))
    for block in blocks(gaussians):
        colour = (block.harmonics[:, :, 0], block.harmonics[:, :, 1:].reshape(len(block.means), rest))
        logit = np.log(block.opacities) - np.log1p(-block.opacities)
        columns = (block.means, np.zeros_like(block.means), *colour, logit[:, None], np.log(block.scales))
        file.write(np.concatenate((*columns, block.rotations), 1).astype("<f4").data)


EXPORTER = gaussian_exporter("gs_ply/0000.ply", Options, write)
NEEDS = EXPORTER.needs
