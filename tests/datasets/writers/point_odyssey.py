"""PointOdyssey: steps of 1000/65535 metres, cameras and tracked points in one archive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


def write(folder: Path, shots: Sequence[Shot], *, annotations: str = "anno.npz", tracked: Sequence[Shot] = ()) -> None:
    """``tracked`` are the shots that the tracks are made from, by default the same."""
    for name in ("rgbs", "depths"):
        (folder / name).mkdir(parents=True)
    for i, shot in enumerate(shots):
        quality = [cv2.IMWRITE_JPEG_QUALITY, 98]
        cv2.imwrite(str(folder / "rgbs" / f"rgb_{i:05d}.jpg"), shot.image[..., ::-1], quality)
        steps = np.where(shot.hit, np.rint(shot.z / 1000 * 65535), 65535).astype(np.uint16)
        cv2.imwrite(str(folder / "depths" / f"depth_{i:05d}.png"), steps)
    points = np.random.default_rng(0).uniform((-1, -0.5, 3), (1, 1, 6), (50, 3))
    pixels = []
    for shot in tracked or shots:
        seen = (np.column_stack((points, np.ones(50))) @ shot.w2c.T)[:, :3] @ shot.k.T
        pixels.append(seen[:, :2] / seen[:, 2:])
    np.savez(
        folder / annotations,
        intrinsics=np.stack([shot.k for shot in shots]).astype(np.float32),
        extrinsics=np.stack([shot.w2c for shot in shots]).astype(np.float32),
        trajs_3d=np.repeat(points[None], len(shots), 0).astype(np.float32),
        trajs_2d=np.stack(pixels).astype(np.float32),
        visibs=np.ones((len(shots), 50), np.bool_),
    )
