"""ARKitScenes: rooms filmed with a tablet that measures depth.

Baruch et al., "ARKitScenes: A Diverse Real-World Dataset for 3D Indoor Scene Understanding", 2021. Layout:
``{Training|Validation}/{video}/`` (in one of the packages one folder deeper) with ``vga_wide/`` or ``lowres_wide/``,
``lowres_depth/``, ``confidence/``, ``{vga_wide|lowres_wide}_intrinsics/`` and ``lowres_wide.traj``; the files are named
``{video}_{seconds}.png`` and ``.pincam``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Shaped

from depth_anything_3.datasets._folder import (
    CameraOfFrame,
    FolderDataset,
    SceneFiles,
    assemble,
    check_size,
    folders,
    names_matching,
)
from depth_anything_3.datasets._reading import damage_in, millimetres, read_image, read_mask, read_numbers
from depth_anything_3.datasets.base import CorruptSample, View
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector, vector_from_rotation
from depth_anything_3.geometry.stored_poses import invert_rigid
from depth_anything_3.metrics.depth import resized_nearest

PICTURES = ("vga_wide", "lowres_wide")
"""Where the pictures may be; the first that is there is used. Both show what the depth camera shows."""

CONFIDENT = 1
"""Depth of a lower confidence (0, 1 or 2) is left out. A choice made here; no cleaning is published."""

LONGEST_GAP = 0.25
"""Seconds between two poses of the trajectory, which come at 10 Hz, beyond which none is interpolated between them."""

Stamps = Mapping[int, str]
"""Milliseconds -> what a file is named by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Video(SceneFiles):
    pictures: str
    images: Stamps
    depths: Stamps
    cameras: Stamps
    times: Float[np.ndarray, " t"]
    world_from_camera: Float[np.ndarray, "t 3 4"]
    turns: int


class ArkitScenes(FolderDataset[_Video]):
    """ARKitScenes; scenes are videos (``arkitscenes/{video}``), frames are named by their time in milliseconds.

    The tablet was held in one of four ways in each video; pictures, depth and cameras are turned upright: the z axis of
    the world points up. Depth is enlarged to the pictures by the nearest pixel.

    Args:
        root: the folder of videos, or any folder above.
        clean: leave out depth of low confidence.
    """

    name = "arkitscenes"
    metric = True
    real = True
    layout = "folders VIDEO that hold lowres_wide.traj, lowres_depth/ and vga_wide/ or lowres_wide/"

    def _find(self) -> Iterator[tuple[str, Path]]:
        for folder, inner, files in folders(self.root, depth=6):
            if "lowres_wide.traj" in files and "lowres_depth" in inner and set(PICTURES) & set(inner):
                inner.clear()
                numbers = [part for part in folder.parts if part.isdecimal()]
                yield numbers[-1] if numbers else folder.name, folder

    def _open(self, scene: str, place: Path) -> _Video:
        pictures = next(kind for kind in PICTURES if (place / kind).is_dir())
        images, depths = _stamps(place / pictures, ".png"), _stamps(place / "lowres_depth", ".png")
        cameras = _stamps(place / f"{pictures}_intrinsics", ".pincam")
        complete = [at for at in sorted(images) if _near(depths, at) and _near(cameras, at)]
        times, poses = _trajectory(place / "lowres_wide.traj")
        posed = [at for at in complete if _between(times, at / 1000) is not None]
        if not posed:
            raise CorruptSample(place, "no picture has depth, a camera and a pose")
        skipped = {"no depth or no camera": len(images) - len(complete), "no pose": len(complete) - len(posed)}
        return _Video(
            place=place,
            frames=tuple(map(str, posed)),
            skipped=skipped,
            pictures=pictures,
            images=images,
            depths=depths,
            cameras=cameras,
            times=times,
            world_from_camera=poses,
            turns=_turns(poses),
        )

    def _camera(self, files: _Video, index: int) -> CameraOfFrame:
        at = int(files.frames[index])
        file = files.place / f"{files.pictures}_intrinsics" / f"{_near(files.cameras, at)}.pincam"
        width, height, fx, fy, cx, cy = read_numbers(file, count=6)
        k, size = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), (int(height), int(width))
        pose = invert_rigid(_interpolated(files, at / 1000))
        for _ in range(files.turns):
            k, pose, size = _turned_camera(k, pose, size)
        return k, pose

    def _view(
        self,
        files: _Video,
        index: int,
        intrinsics: Float32[np.ndarray, "3 3"],
        extrinsics: Float32[np.ndarray, "3 4"] | None,
    ) -> View:
        at = int(files.frames[index])
        image_file = files.place / files.pictures / f"{files.images[at]}.png"
        depth_file = files.place / "lowres_depth" / f"{_near(files.depths, at)}.png"
        image, depth = read_image(image_file), millimetres(depth_file)
        _check_shape(depth_file, depth, image)
        if self.clean:
            confidence_file = files.place / "confidence" / depth_file.name
            if confidence_file.is_file():
                confidence = read_mask(confidence_file)
                check_size(confidence_file, confidence, depth.shape)
                depth = np.where(confidence >= CONFIDENT, depth, np.float32(0))
        depth = resized_nearest(depth[None], *image.shape[:2])[0]
        image, depth = (np.ascontiguousarray(np.rot90(v, -files.turns)) for v in (image, depth))
        return assemble(image, (depth_file, depth), intrinsics=intrinsics, extrinsics=extrinsics)


def _stamps(folder: Path, suffix: str) -> dict[int, str]:
    """Files of a folder by the time at the end of their names."""
    found = {}
    for name in names_matching(folder, "", suffix):
        seconds = name.rpartition("_")[2]
        if seconds.replace(".", "", 1).isdecimal():
            found[round(float(seconds) * 1000)] = name
    return found


def _near(stamps: Stamps, at: int) -> str | None:
    """The file of a time; the names of what belongs together differ by up to one millisecond."""
    return next((stamps[at + by] for by in (0, -1, 1) if at + by in stamps), None)


def _trajectory(file: Path) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, "t 3 4"]]:
    """Times and camera-to-world poses; the file has time, rotation vector and translation of world-to-camera."""
    with damage_in(file):
        rows = np.loadtxt(file, ndmin=2)
    if rows.shape[1] != 7:
        raise CorruptSample(file, f"{rows.shape[1]} numbers a line instead of 7")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    poses = [invert_rigid(np.column_stack((rotation_from_vector(row[1:4]), row[4:]))) for row in rows]
    return rows[:, 0], np.reshape(poses, (-1, 3, 4))


def _between(times: Float[np.ndarray, " t"], at: float) -> int | None:
    """The place of the first of two poses that a time lies between."""
    after = int(np.searchsorted(times, at - 5e-4))
    if after < len(times) and times[after] - at <= 5e-4:
        return after
    if not 0 < after < len(times) or times[after] - times[after - 1] > LONGEST_GAP:
        return None
    return after - 1


def _interpolated(files: _Video, at: float) -> Float[np.ndarray, "3 4"]:
    """Camera-to-world at a time: the centre along a line, the rotation at a constant rate."""
    first = _between(files.times, at)
    assert first is not None
    one = files.world_from_camera[first]
    if first + 1 == len(files.times) or abs(files.times[first] - at) <= 5e-4:
        return one
    other = files.world_from_camera[first + 1]
    share = (at - files.times[first]) / (files.times[first + 1] - files.times[first])
    turn = share * vector_from_rotation(one[:, :3].T @ other[:, :3])
    centre = (1 - share) * one[:, 3] + share * other[:, 3]
    return np.column_stack((one[:, :3] @ rotation_from_vector(turn), centre))


def _turns(world_from_camera: Float[np.ndarray, "t 3 4"]) -> int:
    """Quarter turns to the right that put pictures upright: the mean direction of gravity ends at the bottom."""
    good = world_from_camera[np.isfinite(world_from_camera).all((1, 2))]
    if not len(good):
        return 0
    right, down = -good[:, 2, :2].mean(0)  # of gravity, which points along -z of the world
    return int(np.round(np.arctan2(right, down) / (np.pi / 2))) % 4


def _turned_camera(
    k: Float[np.ndarray, "3 3"], pose: Float[np.ndarray, "3 4"], size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3 4"], tuple[int, int]]:
    """A camera behind a quarter turn of its picture to the right: what was on the right is at the bottom."""
    height, width = size
    turned = np.array([[k[1, 1], 0, height - k[1, 2]], [0, k[0, 0], k[0, 2]], [0, 0, 1]])
    return turned, np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]) @ pose, (width, height)


def _check_shape(file: Path, depth: Shaped[np.ndarray, "h w"], image: Shaped[np.ndarray, "h2 w2 3"]) -> None:
    """Depth and picture must have the same shape, not the same size."""
    if depth.shape[0] * image.shape[1] != depth.shape[1] * image.shape[0]:
        shapes = f"{depth.shape[1]}x{depth.shape[0]}, of the picture {image.shape[1]}x{image.shape[0]}"
        raise CorruptSample(file, f"width and height do not fit: {shapes}")


DATASET = ArkitScenes
