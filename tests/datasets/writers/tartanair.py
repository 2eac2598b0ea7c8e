"""TartanAir: text poses ``tx ty tz qx qy qz qw`` of cameras with x forward, y right, z down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot

SKY = 10000.0


def ned(vector: np.ndarray) -> np.ndarray:
    """North, east, down of a vector right, down, forward."""
    right, down, forward = vector
    return np.array([forward, right, down])


def pose_line(shot: Shot) -> str:
    right, down, forward, centre = (shot.c2w[:3, i] for i in range(4))
    turned = np.stack([ned(forward), ned(right), ned(down)], axis=1)
    vector = cv2.Rodrigues(turned)[0][:, 0]
    angle = np.linalg.norm(vector)
    quaternion = [*(0.5 * np.sinc(angle / 2 / np.pi) * vector), np.cos(angle / 2)]
    return " ".join(f"{number:.9e}" for number in (*ned(centre), *quaternion))


def write(folder: Path, shots: Sequence[Shot]) -> None:
    for name in ("image_left", "depth_left"):
        (folder / name).mkdir(parents=True)
    for i, shot in enumerate(shots):
        cv2.imwrite(str(folder / "image_left" / f"{i:06d}_left.png"), shot.image[..., ::-1])
        depth = np.where(shot.hit, shot.z, SKY).astype(np.float32)
        np.save(folder / "depth_left" / f"{i:06d}_left_depth.npy", depth)
    (folder / "pose_left.txt").write_text("".join(pose_line(shot) + "\n" for shot in shots))
