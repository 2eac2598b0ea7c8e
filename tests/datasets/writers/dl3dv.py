"""DL3DV-10K: Blender's cameras in a world that was turned after COLMAP, pictures with lens distortion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot
from datasets.writers.blender import transform_matrix
from datasets.writers.colmap import Point, Registered, write_binary, write_text

APPLIED = np.array([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]])

Lens = tuple[float, float, float, float]
NO_LENS: Lens = (0, 0, 0, 0)


def write(
    folder: Path,
    shots: Sequence[Shot],
    *,
    lens: Lens = NO_LENS,
    factor: int = 4,
    images: str = "images_4",
    sparse: str | None = "bin",
    points: Sequence[Sequence[tuple[float, float, float]]] = (),
    applied: np.ndarray | None = APPLIED,
    **fields: object,
) -> None:
    """Pictures as in the shots; the numbers in ``transforms.json`` are those of pictures ``factor`` times as large.

    Args:
        points: for each shot, world points that it observes; by default a grid of points at centres of its pixels.
        fields: replace what ``transforms.json`` has under these keys.
    """
    (folder / images).mkdir(parents=True)
    (height, width), k = shots[0].size, shots[0].k * factor
    frames = []
    for i, shot in enumerate(shots):
        cv2.imwrite(str(folder / images / f"frame_{i + 1:05d}.png"), shot.image[..., ::-1])
        frames.append({"file_path": f"images/frame_{i + 1:05d}.png", **transform(shot, applied), "colmap_im_id": i + 1})
    content: dict[str, object] = {"w": width * factor, "h": height * factor, "camera_model": "OPENCV"}
    content |= {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
    content |= dict(zip(("k1", "k2", "p1", "p2"), lens, strict=True))
    if applied is not None:
        content["applied_transform"] = applied.tolist()
    content |= {"frames": frames, **fields}
    (folder / "transforms.json").write_text(json.dumps(content))
    if sparse is not None:
        model = folder / "colmap" / "colmap" / "sparse" / "0"
        writer = write_binary if sparse == "bin" else write_text
        writer(model, *registered(shots, points or [grid(shot) for shot in shots]), lens)


def transform(shot: Shot, applied: np.ndarray | None) -> dict[str, object]:
    turned = np.eye(4)
    turned[:3] = APPLIED if applied is None else applied
    return {"transform_matrix": (turned @ np.array(transform_matrix(shot))).tolist()}


def grid(shot: Shot) -> list[tuple[float, float, float]]:
    """World points at the centres of every third pixel."""
    found = []
    for v, u in np.argwhere(shot.hit)[::3]:
        camera = np.linalg.inv(shot.k) @ [u + 0.5, v + 0.5, 1] * shot.z[v, u]
        found.append(tuple((shot.c2w @ [*camera, 1])[:3]))
    return found


def registered(
    shots: Sequence[Shot], points: Sequence[Sequence[tuple[float, float, float]]]
) -> tuple[list[Registered], list[Point]]:
    """Images in the opposite order of the frames; every second feature has no point."""
    images, found = [], []
    for i, (shot, mine) in reversed(list(enumerate(zip(shots, points, strict=True)))):
        features = []
        for xyz in mine:
            number = 7 * len(found) + 3
            features += [(1.0, 2.0, -1), (3.0, 4.0, number)]
            found.append(Point(number, xyz, 0.5, [(len(images) + 1, len(features) - 1)]))
        images.append(Registered(f"frame_{i + 1:05d}.png", replace(shot), features))
    return images, found
