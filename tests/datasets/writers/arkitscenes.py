"""ARKitScenes: filmed with the tablet on its side, in a world with z up; rotation vectors, world-to-camera."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot

Z_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""The world of the files from that of the shots, whose y axis points down."""

VIDEO = "40753679"


def on_its_side(shot: Shot, turns: int) -> Shot:
    """A picture as filmed by a tablet that was turned to the right: everything in it is turned to the left."""
    for _ in range(turns):
        k, width = shot.k, shot.size[1]
        turned = np.array([[k[1, 1], 0, k[1, 2]], [0, k[0, 0], width - k[0, 2]], [0, 0, 1]])
        roll = np.array([[0.0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        shot = Shot(turned, roll @ shot.w2c, np.rot90(shot.z), np.ascontiguousarray(np.rot90(shot.image)))
    return shot


def write(
    root: Path,
    shots: Mapping[str, Shot],
    *,
    turns: int = 1,
    pictures: str = "vga_wide",
    around: float = 0.0,
    late: int = 0,
    doubtful: slice | None = None,
) -> None:
    """Names of shots are milliseconds.

    Args:
        around: seconds before and after each picture at which its pose stands in the trajectory, instead of at it.
        late: milliseconds by which the names of depth and cameras are off.
        doubtful: columns of the depth, as filmed, without confidence.
    """
    place = root / "raw" / "Training" / VIDEO
    for kind in (pictures, "lowres_depth", "confidence", f"{pictures}_intrinsics"):
        (place / kind).mkdir(parents=True)
    lines = []
    for name, upright in shots.items():
        shot, seconds = on_its_side(upright, turns), int(name) / 1000
        file, other = f"{VIDEO}_{seconds:.3f}", f"{VIDEO}_{seconds + late / 1000:.3f}"
        cv2.imwrite(str(place / pictures / f"{file}.png"), shot.image[..., ::-1])
        steps = np.where(shot.hit, np.rint(shot.z * 1000), 0).astype(np.uint16)
        cv2.imwrite(str(place / "lowres_depth" / f"{other}.png"), steps)
        confidence = np.full(shot.size, 2, np.uint8)
        confidence[:, doubtful or slice(0)] = 0
        cv2.imwrite(str(place / "confidence" / f"{other}.png"), confidence)
        (height, width), k = shot.size, shot.k
        numbers = f"{width} {height} {k[0, 0]:.9g} {k[1, 1]:.9g} {k[0, 2]:.9g} {k[1, 2]:.9g}"
        (place / f"{pictures}_intrinsics" / f"{other}.pincam").write_text(numbers)
        w2c = shot.w2c @ np.linalg.inv(Z_UP)
        row = (*cv2.Rodrigues(w2c[:3, :3])[0][:, 0], *w2c[:3, 3])
        for at in (seconds - around, seconds + around) if around else (seconds,):
            lines.append(" ".join(f"{x:.9g}" for x in (at, *row)))
    (place / "lowres_wide.traj").write_text("\n".join(lines) + "\n")
