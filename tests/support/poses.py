"""Camera poses for tests: anywhere, and the same in another world frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def rotation(axis: npt.ArrayLike, degrees: float) -> Array:
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = np.radians(degrees)
    turned: Array = np.eye(3) + np.sin(a) * k + (1 - np.cos(a)) * k @ k
    return turned


def random_rotation(rng: np.random.Generator, largest_deg: float = 180) -> Array:
    """About any axis."""
    return rotation(rng.normal(size=3), rng.uniform(0, largest_deg))


def random_poses(seed: int, count: int) -> Array:
    """World-to-camera poses (count, 3, 4), about one unit apart."""
    rng = np.random.default_rng(seed)
    turns = np.stack([random_rotation(rng) for _ in range(count)])
    return np.concatenate([turns, rng.normal(size=(count, 3, 1))], -1)


def centres(poses: Array) -> Array:
    """Positions of the cameras."""
    found: Array = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
    return found


def with_centres(turns: Array, positions: Array) -> Array:
    """World-to-camera poses from world-to-camera rotations and positions in the world."""
    return np.concatenate([turns, -turns @ positions[..., None]], -1)


def in_another_world(poses: Array, seed: int, scale: float = 1.0) -> Array:
    """The same cameras after the world was turned, shifted and scaled."""
    rng = np.random.default_rng(seed)
    turn, shift = random_rotation(rng), rng.normal(size=3) * 3
    return with_centres(poses[:, :, :3] @ turn.T, scale * centres(poses) @ turn.T + shift)


def disturbed(poses: Array, seed: int, degrees: float, distance: float) -> Array:
    """Every camera turned by exactly this angle and moved by exactly this distance, each in its own direction.

    The directions depend on the seed alone, so that noise grows with the numbers.
    """
    rng = np.random.default_rng(seed)
    turns = np.stack([rotation(rng.normal(size=3), degrees) for _ in poses])
    steps = rng.normal(size=(len(poses), 3))
    steps *= distance / np.linalg.norm(steps, axis=1, keepdims=True)
    return with_centres(turns @ poses[:, :, :3], centres(poses) + steps)
