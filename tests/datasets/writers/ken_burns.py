"""3D Ken Burns: four cameras on a square with sides of 20 units, one field of view."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.exr import write_exr

PLACES = {"bl": (0, 0), "br": (20, 0), "tl": (0, -20), "tr": (20, -20)}
"""Right and down of the camera at the bottom left."""


def write(root: Path, name: str, index: str, shots: Mapping[str, Shot], *, far: float = 1e6) -> None:
    images, depths = root / name, root / f"{name}-depth"
    images.mkdir(parents=True, exist_ok=True)
    depths.mkdir(parents=True, exist_ok=True)
    for corner, shot in shots.items():
        cv2.imwrite(str(images / f"{index}-{corner}-image.png"), shot.image[..., ::-1])
        depth = np.where(shot.hit, shot.z, far).astype(np.float32)
        write_exr(depths / f"{index}-{corner}-depth.exr", {"Y": depth})
    shot = shots["bl"]
    degrees = 2 * math.degrees(math.atan2(max(shot.size) / 2, shot.k[0, 0]))
    (images / f"{index}-meta.json").write_text(json.dumps({"intSample": int(index), "fltFov": degrees}))
