"""TRELLIS renders: an angle for each frame, depth between the two ends of the unit cube."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.blender import camera_angle_x, rgba, transform_matrix


def write(folder: Path, shots: Sequence[Shot], *, radius: float = 2, depth: bool = True) -> None:
    folder.mkdir(parents=True)
    near, far = radius - math.sqrt(3) / 2, radius + math.sqrt(3) / 2
    frames = []
    for i, shot in enumerate(shots):
        cv2.imwrite(str(folder / f"{i:03d}.png"), rgba(shot))
        entry = {
            "file_path": f"{i:03d}.png",
            "camera_angle_x": camera_angle_x(shot),
            "transform_matrix": transform_matrix(shot),
        }
        if depth:
            share = np.where(shot.hit, (shot.z - near) / (far - near), 1).clip(0, 1)
            cv2.imwrite(str(folder / f"{i:03d}_depth.png"), np.rint(share * 65535).astype(np.uint16))
            entry["depth"] = {"min": near, "max": far}
        frames.append(entry)
    content = {"aabb": [[-0.5] * 3, [0.5] * 3], "scale": 1.0, "offset": [0, 0, 0], "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))


def write_metadata(subset: Path, files: Mapping[str, str]) -> None:
    """``files``: sha256 -> file_identifier."""
    with (subset / "metadata.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["sha256", "file_identifier", "aesthetic_score"])
        table.writerows([sha, file, 5.5] for sha, file in files.items())
