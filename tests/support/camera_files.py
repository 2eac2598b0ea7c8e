"""Files of cameras, written by hand from the descriptions of their formats."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

NAMES = ("img2.png", "img10.png", "a folder/IMG 1.png")


@dataclass(frozen=True)
class Written:
    """What was written: world-to-camera poses, and one camera for all."""

    extrinsics: np.ndarray
    names: tuple[str, ...] = NAMES
    size: tuple[int, int] = (60, 80)
    focal: tuple[float, float] = (70.0, 72.0)
    centre: tuple[float, float] = (41.0, 29.5)

    @property
    def intrinsics(self) -> np.ndarray:
        (fx, fy), (cx, cy) = self.focal, self.centre
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])

    @property
    def world_from_camera(self) -> np.ndarray:
        poses = np.tile(np.eye(4), (len(self.extrinsics), 1, 1))
        poses[:, :3] = self.extrinsics
        return np.linalg.inv(poses)


def scene(seed: int = 0, count: int = 3, **changes: object) -> Written:
    rotations = Rotation.random(count, random_state=seed).as_matrix()
    shifts = np.random.default_rng(seed).normal(size=(count, 3, 1))
    return Written(np.concatenate((rotations, shifts), -1), **changes)  # type: ignore[arg-type]


def write_photos(folder: Path, written: Written, size: tuple[int, int] | None = None) -> None:
    height, width = size or written.size
    for i, name in enumerate(written.names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)


def quaternions_wxyz(written: Written) -> np.ndarray:
    return Rotation.from_matrix(written.extrinsics[:, :, :3]).as_quat()[:, [3, 0, 1, 2]]


def write_colmap(
    folder: Path,
    written: Written,
    *,
    model: tuple[str, int] = ("PINHOLE", 1),
    parameters: Sequence[float] | None = None,
    binary: bool = False,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    height, width = written.size
    numbers = [*written.focal, *written.centre] if parameters is None else list(parameters)
    quaternions, shifts = quaternions_wxyz(written), written.extrinsics[:, :, 3]
    if not binary:
        (folder / "cameras.txt").write_text(
            f"# id\n7 {model[0]} {width} {height} {' '.join(map(repr, map(float, numbers)))}\n"
        )
        rows = []
        for i, name in enumerate(written.names):
            pose = " ".join(repr(float(v)) for v in (*quaternions[i], *shifts[i]))
            rows += [f"{i + 3} {pose} 7 {name}", "1.5 2.5 -1 3.5 4.5 9" if i else ""]
        (folder / "images.txt").write_text("# images\n" + "\n".join(rows) + "\n")
        return
    (folder / "cameras.bin").write_bytes(struct.pack(f"<QiiQQ{len(numbers)}d", 1, 7, model[1], width, height, *numbers))
    content = struct.pack("<Q", len(written.names))
    for i, name in enumerate(written.names):
        content += struct.pack("<i7di", i + 3, *quaternions[i], *shifts[i], 7) + name.encode() + b"\0"
        content += struct.pack("<Q", 1) + struct.pack("<ddq", 1.5, 2.5, -1)
    (folder / "images.bin").write_bytes(content)


def write_transforms(file: Path, written: Written, *, per_frame: bool = False, **fields: object) -> None:
    """Poses are camera-to-world with OpenGL axes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    height, width = written.size
    shared = {"fl_x": written.focal[0], "fl_y": written.focal[1], "cx": written.centre[0], "cy": written.centre[1]}
    shared |= {"w": width, "h": height, **fields}
    frames = []
    for name, pose in zip(written.names, written.world_from_camera @ np.diag([1.0, -1, -1, 1]), strict=True):
        frames.append(
            {"file_path": f"images/{name}", "transform_matrix": pose.tolist(), **(shared if per_frame else {})}
        )
    file.write_text(json.dumps({"frames": frames, **({} if per_frame else shared)}))


def write_tum(file: Path, written: Written, times: Sequence[float]) -> None:
    rows = ["# timestamp tx ty tz qx qy qz qw"]
    for time, pose in zip(times, written.world_from_camera, strict=True):
        numbers = (time, *pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat())
        rows.append(" ".join(f"{number:.9f}" for number in numbers))
    file.write_text("\n".join(rows) + "\n")


def write_kitti(file: Path, written: Written, *, rows: int = 3) -> None:
    lines = [" ".join(repr(float(v)) for v in pose[:rows].ravel()) for pose in written.world_from_camera]
    file.write_text("\n".join(lines) + "\n")
