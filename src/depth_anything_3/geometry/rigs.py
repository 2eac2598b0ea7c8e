"""Poses of cameras that are fixed to each other: the rig from poses, and poses from the rig.

Poses of T times C cameras come in one list, all cameras of the first time first. World-to-camera, OpenCV axes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jaxtyping import Float, Float64

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rotation_vectors import nearest_rotation

Array = npt.NDArray[np.float64]

_ROUNDS = 10


def place_rig(
    extrinsics: Float[np.ndarray, "n 3 4"], camera_from_rig: Float[np.ndarray, "c 3 4"]
) -> tuple[Float64[np.ndarray, "n 3 4"], float]:
    """The poses nearest to ``extrinsics`` that a rig can have, in the unit of the rig, and how many of it one unit is.

    Rotations are chordal means over the cameras of a time. One scale for all times brings centres together: it is the
    root of the product of both regressions, of which one would be too small and one too large by the noise. A rig of
    one place or one camera tells no scale, and its unit is that of the poses.

    Args:
        extrinsics: T x C poses in any world and unit.
        camera_from_rig: of the rig.

    Raises:
        InputError: the number of poses is no multiple of the number of cameras.
    """
    poses, rig = _by_time(extrinsics, len(camera_from_rig)), np.asarray(camera_from_rig, np.float64)
    places, offsets = camera_centres(poses), camera_centres(rig)
    turns = _turns(poses, rig)
    seen = np.einsum("tij,tcj->tci", turns, places - places.mean(1, keepdims=True))
    scale = _scale(seen, offsets - offsets.mean(0))
    return _placed(rig, turns, scale * places.mean(1)).reshape(-1, 3, 4), scale


def estimate_rig(extrinsics: Float[np.ndarray, "n 3 4"], cameras: int) -> Float64[np.ndarray, "c 3 4"]:
    """The rig that explains poses of several times best, in the frame of its first camera and the unit of the poses.

    Rig and motion are averaged in turns, starting with the first camera as the rig.

    Args:
        extrinsics: T x C poses in one world.
        cameras: C.

    Raises:
        InputError: the number of poses is no multiple of ``cameras``.
    """
    poses = _by_time(extrinsics, cameras)
    rig_from_world = poses[:, 0]
    rig = _mean_rig(poses, rig_from_world)
    for _ in range(_ROUNDS):
        placed = _placed(rig, _turns(poses, rig), camera_centres(poses).mean(1))
        rig = _mean_rig(poses, _composed(_inverse(rig)[None, 0], placed[:, 0]))
    return _composed(rig, _inverse(rig)[:1])


def _by_time(extrinsics: Float[np.ndarray, "n 3 4"], cameras: int) -> Array:
    if cameras < 1 or not len(extrinsics) or len(extrinsics) % cameras:
        got = f"{cameras} cameras for {len(extrinsics)} views"
        raise InputError("rig", got, "views of every camera at every time, all cameras of the first time first")
    return np.asarray(extrinsics, np.float64).reshape(-1, cameras, 3, 4)


def _scale(seen: Array, offsets: Array) -> float:
    """From the unit of ``seen`` (T, C, 3) to that of ``offsets`` (C, 3)."""
    size, wanted = float((seen**2).sum()), float((offsets**2).sum() * len(seen))
    tiny = 1e-12 * max(1.0, size, wanted)
    return 1.0 if min(size, wanted) <= tiny else float(np.sqrt(wanted / size))


def _turns(poses: Array, rig: Array) -> Array:
    """By time, the rotation of rig from world that the cameras agree on best: (T, 3, 3)."""
    turns: Array = nearest_rotation(np.einsum("cji,tcjk->tik", rig[:, :, :3], poses[..., :3]))
    return turns


def _placed(rig: Array, turns: Array, middles: Array) -> Array:
    """Poses (T, C, 3, 4) of a rig with given orientations, the mean of its cameras' centres at ``middles``."""
    shift = camera_centres(rig).mean(0) - np.einsum("tij,tj->ti", turns, middles)
    return _composed(rig[None], np.concatenate([turns, shift[..., None]], -1)[:, None])


def _mean_rig(poses: Array, rig_from_world: Array) -> Array:
    """Means over time of camera from rig."""
    each = _composed(poses, _inverse(rig_from_world)[:, None])
    rotation = nearest_rotation(each[..., :3].mean(0))
    centre = camera_centres(each).mean(0)
    return np.concatenate([rotation, -(rotation @ centre[..., None])], -1)


def _inverse(pose: Array) -> Array:
    rotation = pose[..., :3].swapaxes(-1, -2)
    return np.concatenate([rotation, -(rotation @ pose[..., 3:])], -1)


def _composed(second: Array, first: Array) -> Array:
    """``second`` after ``first``."""
    rotation = second[..., :3] @ first[..., :3]
    return np.concatenate([rotation, second[..., :3] @ first[..., 3:] + second[..., 3:]], -1)
