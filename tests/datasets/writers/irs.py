"""IRS: disparity of the left picture in a single channel ``G``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.exr import write_exr


def write(folder: Path, shots: Sequence[Shot], index: str = "00001") -> None:
    """A pair: left, right. The disparity is 48 pixels at one metre."""
    folder.mkdir(parents=True, exist_ok=True)
    for letter, shot in zip("lr", shots, strict=True):
        cv2.imwrite(str(folder / f"{letter}_{index}.png"), shot.image[..., ::-1])
    write_exr(folder / f"d_{index}.exr", {"G": np.where(shots[0].hit, 48 / shots[0].z, 0).astype(np.float32)})
