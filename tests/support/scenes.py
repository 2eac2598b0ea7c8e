"""A scene with exact truth that costs nothing to make: a wall in front of cameras that move past it."""

from __future__ import annotations

import numpy as np

from depth_anything_3.bench.scenes import EvalScene
from support.poses import rotation, with_centres

HEIGHT, WIDTH, FOCAL = 36, 48, 50.0


def wall(
    name: str = "wall", *, views: int = 8, slices: tuple[str, ...] = ("made",), distance: float = 2.0
) -> EvalScene:
    """Cameras that turn and move away; depth where the ray of each pixel meets the plane z = distance.

    Args:
        name, slices: of the scene.
        views: how many.
        distance: from the first camera to the wall.
    """
    k = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    turns = np.stack([rotation([0.2, 1, 0.1], 3 * i) for i in range(views)])
    positions = distance * np.array([[0.1 * i, 0.03 * i**1.5, 0.02 * i] for i in range(views)])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], -1)
    towards = np.einsum("nji,hwj->nhwi", turns, rays)
    depth = (distance - positions[:, None, None, 2]) / towards[..., 2]
    colours = np.random.default_rng(0).integers(0, 255, (views, HEIGHT, WIDTH, 3), dtype=np.uint8)
    depth[:, :4] = 0  # not known
    return EvalScene(
        name=name,
        slices=slices,
        images=colours,
        depth=depth.astype(np.float32),
        intrinsics=np.repeat(k[None], views, 0),
        extrinsics=with_centres(turns, positions),
    )
