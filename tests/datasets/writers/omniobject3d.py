"""OmniObject3D: one angle, depth alike in three channels of 16 bits or more, unpadded names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.blender import camera_angle_x, rgba, transform_matrix
from datasets.writers.exr import write_exr


def write(folder: Path, shots: Sequence[Shot], *, opaque: bool = False, background: float = 1e10) -> None:
    """``folder`` is that of the object."""
    render = folder / "render"
    for name in ("images", "depths"):
        (render / name).mkdir(parents=True)
    frames = []
    for i, shot in enumerate(shots):
        picture = shot.image[..., ::-1] if opaque else rgba(shot)
        cv2.imwrite(str(render / "images" / f"r_{i}.png"), picture)
        depth = np.where(shot.hit, shot.z, background).astype(np.float32)
        write_exr(render / "depths" / f"r_{i}_depth.exr", dict.fromkeys("BGR", depth))
        frames.append({"file_path": f"./render/r_{i}", "transform_matrix": transform_matrix(shot)})
    content = {"camera_angle_x": camera_angle_x(shots[0]), "scale": 0.01, "frames": frames}
    (render / "transforms.json").write_text(json.dumps(content))
