"""COLMAP models, as text and as binary files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from datasets.world import Shot


@dataclass(frozen=True)
class Registered:
    """An image with (x, y, point id) for each feature; -1 for features without a point."""

    name: str
    shot: Shot
    features: Sequence[tuple[float, float, int]]


@dataclass(frozen=True)
class Point:
    number: int
    xyz: tuple[float, float, float]
    error: float
    track: Sequence[tuple[int, int]]


def quaternion(shot: Shot) -> tuple[float, float, float, float]:
    """w, x, y, z of the world-to-camera rotation."""
    vector = cv2.Rodrigues(shot.w2c[:3, :3])[0][:, 0]
    angle = float(np.linalg.norm(vector))
    axis = vector / angle if angle else vector
    return (float(np.cos(angle / 2)), *map(float, np.sin(angle / 2) * axis))


def parameters(shot: Shot, lens: Sequence[float]) -> list[float]:
    return [shot.k[0, 0], shot.k[1, 1], shot.k[0, 2], shot.k[1, 2], *lens]


def write_text(folder: Path, images: Sequence[Registered], points: Sequence[Point], lens: Sequence[float]) -> None:
    """One camera of the model OPENCV; ids of images start at 1."""
    folder.mkdir(parents=True)
    height, width = images[0].shot.size
    numbers = " ".join(map(repr, map(float, parameters(images[0].shot, lens))))
    (folder / "cameras.txt").write_text(f"# Camera list\n1 OPENCV {width} {height} {numbers}\n")
    lines = ["# Image list with two lines of data per image:"]
    for i, image in enumerate(images):
        pose = " ".join(map(repr, map(float, (*quaternion(image.shot), *image.shot.w2c[:3, 3]))))
        lines += [f"{i + 1} {pose} 1 {image.name}", " ".join(f"{x!r} {y!r} {p}" for x, y, p in image.features)]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    rows = ["# 3D point list"]
    for point in points:
        xyz = " ".join(map(repr, map(float, point.xyz)))
        rows.append(f"{point.number} {xyz} 1 2 3 {point.error} " + " ".join(f"{a} {b}" for a, b in point.track))
    (folder / "points3D.txt").write_text("\n".join(rows) + "\n")


def write_binary(folder: Path, images: Sequence[Registered], points: Sequence[Point], lens: Sequence[float]) -> None:
    """The same as :func:`write_text`."""
    folder.mkdir(parents=True)
    height, width = images[0].shot.size
    camera = struct.pack("<QIiQQ8d", 1, 1, 4, width, height, *parameters(images[0].shot, lens))
    (folder / "cameras.bin").write_bytes(camera)
    content = struct.pack("<Q", len(images))
    for i, image in enumerate(images):
        content += struct.pack("<I7dI", i + 1, *quaternion(image.shot), *image.shot.w2c[:3, 3], 1)
        content += image.name.encode() + b"\0" + struct.pack("<Q", len(image.features))
        for x, y, number in image.features:
            content += struct.pack("<ddQ", x, y, number % 2**64)
    (folder / "images.bin").write_bytes(content)
    content = struct.pack("<Q", len(points))
    for point in points:
        content += struct.pack("<Q3d3BdQ", point.number, *point.xyz, 1, 2, 3, point.error, len(point.track))
        content += b"".join(struct.pack("<II", a, b) for a, b in point.track)
    (folder / "points3D.bin").write_bytes(content)
