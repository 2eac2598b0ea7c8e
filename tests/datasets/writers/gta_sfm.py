"""GTA-SfM: one HDF5 file; camera-to-world in a world with z up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot

Z_UP = np.array([[1.0, 0, 0, 8.6], [0, 0, 1, 493], [0, -1, 0, 176], [0, 0, 0, 1]])
"""Where the world of the game has the world of the shots."""


def write(file: Path, shots: Sequence[Shot], *, far: float = np.inf) -> None:
    import h5py

    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as stream:
        for i, shot in enumerate(shots):
            stream[f"image_{i}"] = cv2.imencode(".png", shot.image[..., ::-1])[1].ravel()
            stream[f"depth_{i}"] = np.where(shot.hit, shot.z, far).astype(np.float32)
            stream[f"K_{i}"] = shot.k
            stream[f"pose_{i}"] = Z_UP @ shot.c2w
