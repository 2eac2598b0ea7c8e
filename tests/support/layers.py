"""Pictures with exact depth that cost nothing to make: a textured board in front of a wall, plain in one corner."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from support.poses import rotation, with_centres

HEIGHT, WIDTH = 120, 160
WALL, BOARD = 4.0, 2.5  # distances
PLAIN = (0.4, 0.2)  # the wall has no texture right of and below this place


@dataclass(frozen=True)
class Layers:
    """N views; depth is z-depth, ``plain`` says where there is no texture."""

    images: np.ndarray
    depth: np.ndarray
    plain: np.ndarray
    intrinsics: np.ndarray
    extrinsics: np.ndarray


def layers(views: int = 4, *, baseline: float = 0.25, seed: int = 0) -> Layers:
    """Cameras in a row that turn a little towards the middle, with a little noise in the pictures.

    Args:
        views: how many.
        baseline: between neighbours.
        seed: of the texture and the noise.
    """
    rng = np.random.default_rng(seed)
    k = np.array([[150.0, 0, WIDTH / 2], [0, 150, HEIGHT / 2], [0, 0, 1]])
    places = (np.arange(views) - (views - 1) / 2) * baseline
    turns = np.stack([rotation([0, 1, 0], 10 * x) for x in places])
    extrinsics = with_centres(turns, np.stack([places, 0.1 * places**2, 0 * places], 1))
    textures = [_texture(rng) for _ in range(2)]
    shots = [_view(k, pose, textures) for pose in extrinsics]
    images, depth, plain = (np.stack(part) for part in zip(*shots, strict=True))
    images = np.clip(images + rng.normal(0, 2, images.shape), 0, 255).astype(np.uint8)
    return Layers(
        images=np.repeat(images[..., None], 3, -1),
        depth=depth,
        plain=plain,
        intrinsics=np.repeat(k[None], views, 0),
        extrinsics=extrinsics,
    )


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Blobs of several sizes, 100 to a unit of length."""
    noise = [cv2.GaussianBlur(rng.standard_normal((1200, 1200)), (0, 0), s) * s for s in (3, 8, 20)]
    return np.clip(128 + 90 * sum(noise), 0, 255).astype(np.float32)


def _view(k: np.ndarray, pose: np.ndarray, textures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(k).T @ pose[:, :3]
    centre = -pose[:, :3].T @ pose[:, 3]
    grey, depth, plain = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH), bool)
    for distance, texture in zip((WALL, BOARD), textures, strict=True):
        z = (distance - centre[2]) / rays[..., 2]
        u, v = (centre[i] + z * rays[..., i] for i in (0, 1))
        seen = np.ones_like(plain) if distance == WALL else (np.abs(u + 0.3) < 0.6) & (np.abs(v) < 0.5)
        colour = cv2.remap(texture, *(np.float32(100 * c + 600) for c in (u, v)), cv2.INTER_LINEAR)
        blank = seen & (distance == WALL) & (u > PLAIN[0]) & (v > PLAIN[1])
        grey[seen], depth[seen], plain[seen] = np.where(blank, 128, colour)[seen], z[seen], blank[seen]
    return grey, depth, plain
