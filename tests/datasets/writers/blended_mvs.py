"""BlendedMVS: PFM files from the bottom up, cameras as MVSNet has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


def write(
    folder: Path, shots: Mapping[str, Shot], *, neighbours: Sequence[int] = (), nearest: float = 0.4, order: str = "<"
) -> None:
    """``neighbours`` are their numbers for each shot; without any there is no ``pair.txt``."""
    for kind in ("blended_images", "cams", "rendered_depth_maps"):
        (folder / kind).mkdir(parents=True)
    for name, shot in shots.items():
        quality = [cv2.IMWRITE_JPEG_QUALITY, 98]
        cv2.imwrite(str(folder / "blended_images" / f"{name}.jpg"), shot.image[..., ::-1], quality)
        cv2.imwrite(str(folder / "blended_images" / f"{name}_masked.jpg"), shot.image * 0)
        write_pfm(folder / "rendered_depth_maps" / f"{name}.pfm", np.where(shot.hit, shot.z, 0), order)
        pose, k = ("\n".join(" ".join(f"{x:.9g}" for x in row) for row in matrix) for matrix in (shot.w2c, shot.k))
        camera = f"extrinsic\n{pose}\n\nintrinsic\n{k}\n\n{nearest} 0.1 128 20.0\n"
        (folder / "cams" / f"{name}_cam.txt").write_text(camera)
    if neighbours:
        lines = [str(len(shots))]
        for name, count in zip(shots, neighbours, strict=True):
            lines += [str(int(name)), " ".join([str(count), *(f"{i} 1.5" for i in range(count))])]
        (folder / "cams" / "pair.txt").write_text("\n".join(lines) + "\n")


def write_pfm(file: Path, values: np.ndarray, order: str) -> None:
    header = f"Pf\n{values.shape[1]} {values.shape[0]}\n{-1.0 if order == '<' else 1.0}\n"
    file.write_bytes(header.encode() + np.flipud(values).astype(f"{order}f4").tobytes())
