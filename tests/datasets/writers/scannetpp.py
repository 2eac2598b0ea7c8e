"""ScanNet++: a COLMAP model, pictures as taken, depth rendered through the same lens in millimetres."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.colmap import Point, Registered, write_text
from datasets.writers.dl3dv import NO_LENS, Lens

FOLDERS = {"dslr": ("resized_images", "resized_anon_masks", "JPG"), "iphone": ("rgb", "rgb_masks", "jpg")}


def write(
    scene: Path,
    shots: Mapping[str, Shot],
    *,
    device: str = "dslr",
    lens: Lens = NO_LENS,
    depth: str = "render_depth",
    smaller: int = 1,
    hidden: slice | None = None,
    bad: tuple[str, ...] = (),
) -> None:
    """``smaller`` depth maps hold every so manieth pixel; ``hidden`` columns are masked in all pictures."""
    images, masks, suffix = FOLDERS[device]
    place = scene / device
    for name in (images, masks, depth, "nerfstudio"):
        (place / name).mkdir(parents=True)
    for name, shot in shots.items():
        cv2.imwrite(str(place / images / f"{name}.{suffix}"), shot.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        steps = np.where(shot.hit, np.rint(shot.z * 1000), 0).astype(np.uint16)
        cv2.imwrite(str(place / depth / f"{name}.png"), steps[smaller // 2 :: smaller, smaller // 2 :: smaller])
        mask = np.full(shot.size, 255, np.uint8)
        mask[:, hidden or slice(0)] = 0
        cv2.imwrite(str(place / masks / f"{name}.png"), mask)
    registered = [Registered(f"{name}.{suffix}", shot, [(1.0, 2.0, -1)]) for name, shot in shots.items()]
    write_text(place / "colmap", registered[::-1], [Point(1, (0, 0, 1), 0.5, [(1, 0)])], lens)
    frames = [{"file_path": f"{name}.{suffix}", "is_bad": name in bad} for name in shots]
    (place / "nerfstudio" / "transforms.json").write_text(json.dumps({"frames": frames, "test_frames": []}))
