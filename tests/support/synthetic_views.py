"""Views of random points with descriptors of their own: matching and geometry without a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.refine.features import Features
from depth_anything_3.refine.reconstruct import Prior

Array = npt.NDArray[np.float64]
SIZE = (480, 640)


@dataclass(frozen=True, kw_only=True)
class Views:
    """N views of P points: truth, and what a detector would find."""

    extrinsics: Array
    intrinsics: Array
    features: list[Features]
    depth: Array  # (N, 12, 16): a plane through the middle of the points, so a poor map

    def prior(self, rng: np.random.Generator, *, turn: float = 0.0, focal: float = 0.0, depth: float = 0.0) -> Prior:
        """The truth, off by so many radians and so large parts."""
        poses = self.extrinsics.copy()
        for pose in poses[1:]:
            axis = rng.normal(size=3)
            pose[:] = rotation_from_vector(turn * axis / np.linalg.norm(axis)) @ pose
        lenses = self.intrinsics.copy()
        lenses[:, [0, 1], [0, 1]] *= np.exp(focal * rng.choice([-1, 1]))
        maps = self.depth * np.exp(depth * rng.normal(size=self.depth.shape))
        return Prior(extrinsics=poses, intrinsics=lenses, depth=maps, focal_sigma=0.3)


def random_views(
    seed: int, count: int = 6, *, points: int = 400, noise: float = 0.4, wrong: float = 0.0, turn_only: bool = False,
    flat: bool = False, moving: float = 0.0, doubles: float = 0.0, step: float = 0.17,
) -> Views:  # fmt: skip
    """Cameras on an arc round a ball of points.

    Args:
        seed: of everything.
        count: views.
        points: in the scene.
        noise: of keypoints, in pixels.
        wrong: share of the keypoints of every view that carry the descriptor of another point.
        turn_only: cameras stay in one place.
        flat: points on a plane.
        moving: share of the points that move together, differently from view to view.
        doubles: share of the points that look like another one.
        step: from view to view along the arc, in radians.
    """
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (points, 3))
    if flat:
        places[:, 2] = 0.1 * places[:, 0]
    names = rng.normal(size=(points, 64))
    twin = rng.permutation(points)[: round(doubles * points)]
    names[twin] = names[rng.permutation(points)[: len(twin)]]
    mover = rng.random(points) < moving
    lens = np.array([[560.0, 0, 320], [0, 560, 240], [0, 0, 1]])
    poses, found, maps = [], [], []
    for k in range(count):
        angle = (k - count / 2) * step
        rotation = rotation_from_vector(np.array([0.05 * np.sin(k), angle if not turn_only else 0.06 * k, 0.02 * k]))
        place = (
            np.array([0, 0, -4.0])
            if turn_only
            else 4.0 * np.array([np.sin(angle), step / 1.7 * np.cos(k), -np.cos(angle)])
        )
        pose = np.c_[rotation, -rotation @ place]
        shift = mover[:, None] * rng.uniform(-0.5, 0.5, 3) * [1, 1, 0.3]
        local = (places + shift) @ pose[:, :3].T + pose[:, 3]
        xy = (local @ lens.T)[:, :2] / local[:, 2:] + rng.normal(scale=noise, size=(points, 2))
        seen = (local[:, 2] > 0.1) & (xy > 0).all(1) & (xy < SIZE[::-1]).all(1)
        seen &= rng.random(points) < 0.9
        owner = np.flatnonzero(seen)
        bad = rng.random(len(owner)) < wrong
        owner_named = owner.copy()
        owner_named[bad] = rng.permutation(owner[bad])
        descriptors = names[owner_named] + 0.1 * rng.normal(size=(len(owner), 64))
        descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
        poses.append(pose)
        found.append(Features(xy=xy[owner], descriptors=descriptors.astype(np.float32)))
        maps.append(np.full((12, 16), np.median(local[:, 2])))
    return Views(
        extrinsics=np.array(poses), intrinsics=np.tile(lens, (count, 1, 1)), features=found, depth=np.array(maps)
    )
