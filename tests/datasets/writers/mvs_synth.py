"""MVS-Synth: decimetres, world-to-camera in a world whose y axis is turned round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.exr import write_exr


def write(folder: Path, shots: Mapping[str, Shot]) -> None:
    for kind in ("images", "depths", "poses"):
        (folder / kind).mkdir(parents=True)
    for name, shot in shots.items():
        cv2.imwrite(str(folder / "images" / f"{name}.png"), shot.image[..., ::-1])
        write_exr(folder / "depths" / f"{name}.exr", {"Y": (10 * shot.z).astype(np.float32)})
        game = shot.c2w.copy()
        game[1] *= -1  # the y coordinates of the camera's place and of its axes
        game[:3, 3] *= 10
        k = shot.k
        content = {"f_x": k[0, 0], "f_y": k[1, 1], "c_x": k[0, 2], "c_y": k[1, 2]}
        content["extrinsic"] = np.linalg.inv(game).tolist()
        (folder / "poses" / f"{name}.json").write_text(json.dumps(content))
