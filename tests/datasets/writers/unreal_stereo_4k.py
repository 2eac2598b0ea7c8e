"""UnrealStereo4K: disparity, and world-to-camera in a world whose y axis is turned round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


def write(folder: Path, shots: Sequence[Shot], *, first: int = 0, k_factor: float = 1, suffix: str = ".png") -> None:
    """Pairs: left, right, left, right, ... Pictures have an alpha channel."""
    for kind in ("Image", "Disp", "Extrinsics"):
        for side in "01":
            (folder / f"{kind}{side}").mkdir(parents=True, exist_ok=True)
    for i, shot in enumerate(shots):
        name, side = f"{first + i // 2:05d}", i % 2
        blue_first = shot.image[..., ::-1]
        if suffix == ".png":
            blue_first = np.dstack((blue_first, np.full(shot.size, 255, np.uint8)))
        cv2.imwrite(str(folder / f"Image{side}" / f"{name}{suffix}"), blue_first)
        pair = shots[i - side], shots[i - side + 1]
        baseline = np.linalg.norm(pair[0].c2w[:3, 3] - pair[1].c2w[:3, 3])
        disparity = np.where(shot.hit, baseline * shot.k[0, 0] / shot.z, 0)
        np.save(folder / f"Disp{side}" / f"{name}.npy", disparity.astype(np.float32))
        (folder / f"Extrinsics{side}" / f"{name}.txt").write_text(camera_text(shot, k_factor))


def camera_text(shot: Shot, k_factor: float = 1) -> str:
    k = shot.k * [[k_factor], [k_factor], [1]]
    left_handed = shot.c2w.copy()
    left_handed[1] *= -1  # the y coordinates of the camera's place and of its axes
    stored = np.linalg.inv(left_handed)[:3]
    return "\n".join(" ".join(f"{x:.9g}" for x in matrix.ravel()) for matrix in (k, stored)) + "\n"
