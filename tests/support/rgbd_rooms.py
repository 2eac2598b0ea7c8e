"""Posed RGB-D folders of the little rooms, in the layout of :mod:`depth_anything_3.datasets.rgbd_folder`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from support.training import RoomSource


def write_room(folder: Path, *, frames: int = 6, seed: int = 0, sky: bool = True, poses: bool = True) -> Path:
    """Views of one room, between which the camera moves little, and return the folder."""
    _, room = RoomSource(count=1).sample(np.random.default_rng(seed), frames, (0, 1), 0)
    for kind in ("images", "depth", *(("sky",) if sky else ())):
        (folder / kind).mkdir(parents=True)
    names = [f"{i:03d}" for i in range(frames)]
    for name, image, depth, above in zip(names, room.images, room.depth, room.sky, strict=True):
        cv2.imwrite(str(folder / "images" / f"{name}.png"), image[..., ::-1])
        np.save(folder / "depth" / f"{name}.npy", depth)
        if sky:
            cv2.imwrite(str(folder / "sky" / f"{name}.png"), np.where(above, 255, 0).astype(np.uint8))
    world_to_camera = np.tile(np.eye(4), (frames, 1, 1))
    world_to_camera[:, :3] = room.extrinsics
    content = {"names": np.array(names), "K": room.intrinsics, "c2w": np.linalg.inv(world_to_camera)}
    np.savez(folder / "scene.npz", **{key: value for key, value in content.items() if poses or key != "c2w"})
    return folder


def damage(file: Path) -> None:
    """Keep the first half of a file, as an interrupted download does."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
