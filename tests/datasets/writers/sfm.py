"""Pictures beside a reconstruction: Tanks and Temples, MegaDepth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2

from datasets.world import Shot
from datasets.writers.colmap import Registered, write_binary, write_text
from datasets.writers.dl3dv import NO_LENS, Lens, grid, registered


def write_tanks(folder: Path, shots: Sequence[Shot], *, lens: Lens = NO_LENS, binary: bool = True) -> None:
    """``images/000001.png``, ... and ``sparse/0``."""
    _write(folder / "images", folder / "sparse" / "0", shots, lens, binary)


def write_megadepth(folder: Path, shots: Sequence[Shot], *, lens: Lens = NO_LENS) -> None:
    """``images/000001.png``, ... and ``sparse/manhattan/0``, as text."""
    _write(folder / "images", folder / "sparse" / "manhattan" / "0", shots, lens, binary=False)


def _write(pictures: Path, model: Path, shots: Sequence[Shot], lens: Lens, binary: bool) -> None:
    pictures.mkdir(parents=True)
    images, points = registered(shots, [grid(shot) for shot in shots])
    named = []
    for image in images:
        name = f"{int(image.name[-9:-4]):06d}.png"
        cv2.imwrite(str(pictures / name), image.shot.image[..., ::-1])
        named.append(Registered(name, image.shot, image.features))
    (write_binary if binary else write_text)(model, named, points, lens)
