"""A world of a sphere and discs, seen by pinhole cameras, with exact depth: the truth that files are written from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np


@dataclass(frozen=True)
class Sphere:
    centre: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Disc:
    centre: tuple[float, float, float]
    normal: tuple[float, float, float]
    radius: float


@dataclass(frozen=True, eq=False)
class Shot:
    """What one camera sees; pixel centres at +0.5, OpenCV axes, ``z`` is inf where nothing is hit."""

    k: np.ndarray
    w2c: np.ndarray
    z: np.ndarray
    image: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        return np.isfinite(self.z)

    @property
    def size(self) -> tuple[int, int]:
        return self.z.shape[0], self.z.shape[1]

    @property
    def c2w(self) -> np.ndarray:
        return np.linalg.inv(self.w2c)

    @property
    def alpha(self) -> np.ndarray:
        return np.where(self.hit, 255, 0).astype(np.uint8)


OUTDOORS = (Disc((0, 1.2, 6), (0, -1, 0), 14), Sphere((0.3, 0.2, 4), 1))
"""Ground and a ball under the sky."""

ROOM = (*OUTDOORS, Disc((0, 0, 8), (0.2, 0, -1), 100))
"""The same before a wall that fills the view."""

OBJECT = (Sphere((0.05, 0, 0.1), 0.3), Disc((0, 0, -0.15), (0.1, 0.2, 1), 0.42))
"""Inside the unit cube around the origin, z up."""


def camera_matrix(focal: float, width: int, height: int, shift: tuple[float, float] = (0, 0)) -> np.ndarray:
    return np.array([[focal, 0, width / 2 + shift[0]], [0, focal, height / 2 + shift[1]], [0, 0, 1.0]])


def pose(rotation: Sequence[float], centre: Sequence[float]) -> np.ndarray:
    """World-to-camera from a rotation vector (radians) and the place of the camera."""
    w2c = np.eye(4)
    w2c[:3, :3] = cv2.Rodrigues(np.array(rotation, np.float64))[0]
    w2c[:3, 3] = -w2c[:3, :3] @ np.array(centre, np.float64)
    return w2c


POSES = (
    pose((0.02, -0.03, 0.05), (0, 0, 0)),
    pose((0.04, 0.10, -0.06), (0.5, -0.1, 0.2)),
    pose((-0.03, -0.12, 0.1), (-0.4, 0.15, -0.3)),
)
"""Three cameras before :data:`OUTDOORS` and :data:`ROOM`."""


def orbit(count: int, radius: float = 2.0) -> list[np.ndarray]:
    """World-to-camera poses around the origin of a world with z up."""
    poses = []
    for i in range(count):
        angle, height = 0.5 * i, 0.5 + 0.1 * i
        centre = np.array([np.cos(angle), np.sin(angle), height])
        centre *= radius / np.linalg.norm(centre)
        forward = -centre / radius
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        w2c = np.eye(4)
        w2c[:3, :3] = np.stack((right, np.cross(forward, right), forward))
        w2c[:3, 3] = -w2c[:3, :3] @ centre
        poses.append(w2c)
    return poses


def shoot(
    k: np.ndarray,
    w2c: np.ndarray,
    size: tuple[int, int],
    world: Sequence[Sphere | Disc] = OUTDOORS,
    *,
    unit: float = 1.0,
    background: tuple[int, int, int] = (120, 170, 230),
) -> Shot:
    """Take a picture; ``unit`` is the number of stored units in one of the world (poses are in stored units)."""
    height, width = size
    v, u = np.mgrid[:height, :width] + 0.5
    rays = np.stack(((u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)), -1)
    z, points = cast(rays, w2c, world, unit)
    return Shot(k, w2c, z, paint(points / unit, np.isfinite(z), background))


def shoot_through(
    lens: Sequence[float],
    k: np.ndarray,
    w2c: np.ndarray,
    size: tuple[int, int],
    world: Sequence[Sphere | Disc] = OUTDOORS,
) -> Shot:
    """A picture with distortion, that of OpenCV: the rays are those that it projects to the centres of the pixels."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    wanted = np.stack(((u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1]), -1).reshape(-1, 2)
    rays = np.column_stack((wanted, np.ones(len(wanted))))
    for _ in range(20):
        there = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), np.eye(3), np.array(lens))[0][:, 0]
        rays[:, :2] += wanted - there
    assert np.abs(wanted - there).max() < 1e-9
    z, points = cast(rays.reshape(*size, 3), w2c, world)
    return Shot(k, w2c, z, paint(points, np.isfinite(z), (120, 170, 230)))


def cast(
    rays: np.ndarray, w2c: np.ndarray, world: Sequence[Sphere | Disc], unit: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """z-depth along camera rays with third coordinate 1, and the world points."""
    c2w = np.linalg.inv(w2c)
    origin, directions = c2w[:3, 3], rays @ c2w[:3, :3].T
    z = np.full(rays.shape[:-1], np.inf)
    for thing in world:
        centre = np.array(thing.centre) * unit
        if isinstance(thing, Sphere):
            a = (directions**2).sum(-1)
            b = directions @ (origin - centre)
            root = b**2 - a * (((origin - centre) ** 2).sum() - (thing.radius * unit) ** 2)
            near = (-b - np.sqrt(np.maximum(root, 0))) / a
            good = (root > 0) & (near > 0)
        else:
            normal = np.array(thing.normal, np.float64)
            with np.errstate(divide="ignore", invalid="ignore"):
                near = normal @ (centre - origin) / (directions @ normal)
            offset = origin + np.where(np.isfinite(near), near, 0)[..., None] * directions - centre
            good = (near > 0) & ((offset**2).sum(-1) < (thing.radius * unit) ** 2)
        z = np.where(good & (near < z), near, z)
    points = origin + np.where(np.isfinite(z), z, 0)[..., None] * directions
    return z, points


def paint(points: np.ndarray, hit: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Smooth colours that tell where a point is."""
    waves = np.sin(points @ np.array([[1.1, 0.3, 0.7], [0.4, 1.3, -0.6], [0.9, -0.5, 0.8]]) + [0, 1, 2])
    return np.where(hit[..., None], np.rint(127.5 + 90 * waves), background).astype(np.uint8)


def mutate(shot: Shot, kind: str) -> Shot:
    """A shot as a writer with one mistake in its head would take it."""
    if kind == "scale":
        return replace(shot, z=shot.z * 10)
    if kind == "ray length":
        return replace(shot, z=shot.z * ray_lengths(shot.k, shot.size))
    if kind == "inverted pose":
        return replace(shot, w2c=shot.c2w)
    if kind == "other axes":
        return replace(shot, w2c=np.diag([1.0, -1, -1, 1]) @ shot.w2c)
    if kind == "half a pixel":
        k = shot.k.copy()
        k[:2, 2] -= 0.5
        return replace(shot, k=k)
    if kind == "mirrored depth":
        return replace(shot, z=shot.z[:, ::-1])
    assert kind == "mirrored image"
    return replace(shot, image=np.ascontiguousarray(shot.image[:, ::-1]))


MUTATIONS = (
    "scale",
    "ray length",
    "inverted pose",
    "other axes",
    "half a pixel",
    "mirrored depth",
    "mirrored image",
)


def ray_lengths(k: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Distance along the ray for each unit of z."""
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    return np.sqrt(((u - k[0, 2]) / k[0, 0]) ** 2 + ((v - k[1, 2]) / k[1, 1]) ** 2 + 1)
