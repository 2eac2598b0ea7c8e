"""Cameras for scenes: trajectories that see something and run into nothing.

Poses are world-to-camera with OpenCV axes, metres, in a world with z up. Everything is a function of the scene and the
seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.synth.raycast import cast
from depth_anything_3.synth.scenes import Scene
from depth_anything_3.synth.shapes import World
from depth_anything_3.synth.terrain import height_at

_TRIES = 60
_MOST_RANDOM = 64
_PROBES = 12  # rays along each side of the coarse grid that judges a view


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """N pinhole cameras.

    Attributes:
        intrinsics: in pixels; the centre of the top-left pixel is (0.5, 0.5).
        extrinsics: world-to-camera poses, OpenCV axes, metres.
    """

    intrinsics: Float[np.ndarray, "n 3 3"]
    extrinsics: Float[np.ndarray, "n 3 4"]

    def __post_init__(self) -> None:
        count = len(self.extrinsics)
        for name, shape in (("intrinsics", (count, 3, 3)), ("extrinsics", (count, 3, 4))):
            if getattr(self, name).shape != shape:
                raise InputError(name, f"shape {getattr(self, name).shape}", f"shape {shape}")


def look_at(
    position: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], roll: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 3 4"]:
    """Poses at positions, with the targets in the middle of the picture; ``roll`` in radians about the view axis.

    Raises:
        InputError: a target is at its position, or straight above or below it.
    """
    forward = target - position
    forward = forward / np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-12)
    if (np.abs(forward[:, 2]) > 0.99999).any() or (np.abs(forward).sum(1) < 0.5).any():
        raise InputError("target", "a point at, above or below its position", "a point to the side of it")
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    rotation = np.stack((c * right + s * down, c * down - s * right, forward), axis=1)
    translation = -(rotation @ position[:, :, None])
    return np.concatenate((rotation, translation), axis=2).astype(np.float32)


def intrinsics_of(
    fov_deg: float, height: int, width: int, *, shift: tuple[float, float] = (0.0, 0.0)
) -> Float[np.ndarray, "3 3"]:
    """Camera matrix with square pixels.

    Args:
        fov_deg: angle in degrees that the longer side would cover with the principal point in its middle.
        height: rows.
        width: columns.
        shift: of the principal point from the middle, as fractions of the width and the height: an off-centre crop.

    Raises:
        InputError: the angle is not between 1 and 170 degrees, or a size is below 1.
    """
    if not 1 <= fov_deg <= 170:
        raise InputError("fov_deg", str(fov_deg), "an angle from 1 to 170 degrees")
    if min(height, width) < 1:
        raise InputError("height, width", f"{height} x {width}", "sizes of at least 1")
    focal = max(height, width) / 2 / math.tan(math.radians(fov_deg) / 2)
    cx, cy = (0.5 + shift[0]) * width, (0.5 + shift[1]) * height
    return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]], dtype=np.float32)


def clearance(world: World, points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, " p"]:
    """Metres from points to the nearest thing, at most: bounding boxes stand for solids and cuts count as filled.

    Zero or negative inside something, below the ground or below the terrain.
    """
    p = torch.as_tensor(points, dtype=torch.float32)
    solids = world.solids
    result = torch.full((len(p),), torch.inf)
    if len(solids):
        local = torch.einsum("spi,sij->spj", p[None] - solids.centre[:, None], solids.rotation)
        outside = local.abs() - solids.half_size[:, None]
        distance = outside.clamp_min(0).norm(dim=2) + outside.amax(2).clamp_max(0)
        result = distance.amin(0)
    if world.ground is not None:
        result = torch.minimum(result, p[:, 2] - world.ground)
    if world.terrain is not None:
        result = torch.minimum(result, (p[:, 2] - height_at(world.terrain, p[:, 0], p[:, 1])) * 0.7)
    return result.numpy()


def overlaps(scene: Scene, cameras: Cameras, height: int, width: int) -> Float[np.ndarray, "n n"]:
    """Share of the surface points in each view (row) that are also visible in each other view (column).

    Measured with a coarse grid of rays; sky does not count. A view of nothing but sky has 0 everywhere.
    """
    points, seen = _probe(scene, cameras.extrinsics, cameras.intrinsics, height, width)
    return _visible(scene, points, seen, cameras, height, width)


def make_cameras(
    scene: Scene,
    count: int,
    height: int,
    width: int,
    *,
    seed: int,
    kind: str | None = None,
    fov_deg: float | None = None,
    off_centre: bool | None = None,
    overlap: tuple[float, float] = (0.25, 0.7),
    zoom: float = 1.0,
) -> Cameras:
    """Cameras in a scene.

    Args:
        scene: where.
        count: how many; the rig has six at each of its stops.
        height: rows of the pictures.
        width: columns of the pictures.
        seed: not negative.
        kind: one of :data:`TRAJECTORIES`, or None to let the seed choose.
        fov_deg: of the longer side, in degrees; None draws one from 35 to 110.
        off_centre: shift the principal point as a crop does; None lets the seed choose, one time in four.
        overlap: wanted share of a view that an earlier view shows too; only for ``"random"``.
        zoom: each view's focal length is multiplied by its own factor from 1 / ``zoom`` to ``zoom``; 1 leaves all the
            same. The random views are chosen before they are zoomed.

    Raises:
        InputError: an unknown kind, or a number out of its range.
        DA3Error: the scene has no free place for the trajectory.
    """
    if count < 1 or seed < 0:
        raise InputError("count, seed", f"{count}, {seed}", "a count of at least 1 and a seed that is not negative")
    if not 1 <= zoom <= 4:
        raise InputError("zoom", str(zoom), "a factor from 1 to 4")
    if kind is not None and kind not in TRAJECTORIES:
        raise InputError("kind", repr(kind), "a kind of trajectory", TRAJECTORIES)
    rng = np.random.default_rng([seed, scene.seed, 77])
    kind = tuple(TRAJECTORIES)[int(rng.integers(len(TRAJECTORIES)))] if kind is None else kind
    fov = float(rng.uniform(*((65, 80) if kind == "rig" else (35, 110)))) if fov_deg is None else fov_deg
    crop = bool(rng.random() < 0.25) if off_centre is None else off_centre
    shift = tuple(rng.uniform(-0.25, 0.25, 2)) if crop else (0.0, 0.0)
    matrix = intrinsics_of(fov, height, width, shift=(float(shift[0]), float(shift[1])))
    matrices = np.repeat(matrix[None], count, 0)
    zoomed = matrices.copy()
    factors = zoom ** np.random.default_rng([seed, scene.seed, 78]).uniform(-1, 1, count)
    zoomed[:, [0, 1], [0, 1]] *= factors.astype(np.float32)[:, None]
    search = _Search(scene, count, height, width, matrices if kind == "random" else zoomed, rng, overlap)
    return Cameras(intrinsics=zoomed, extrinsics=TRAJECTORIES[kind](search))


@dataclass(frozen=True)
class _Search:
    """What every kind of trajectory works with."""

    scene: Scene
    count: int
    height: int
    width: int
    intrinsics: np.ndarray
    rng: np.random.Generator
    overlap: tuple[float, float]

    def position(self, many: int) -> np.ndarray:
        """Random points of the stage, collisions included: (many, 3)."""
        low, high = self.scene.stage.low.numpy(), self.scene.stage.high.numpy()
        return self.lifted(self.rng.uniform(low, high, (many, 3)))

    def lifted(self, points: np.ndarray) -> np.ndarray:
        """Heights that counted from the ground now count from z = 0."""
        terrain = self.scene.world.terrain
        if terrain is None:
            return points
        p = torch.as_tensor(points, dtype=torch.float32)
        return points + np.stack((p[:, 0] * 0, p[:, 1] * 0, height_at(terrain, p[:, 0], p[:, 1])), 1)

    def focus(self) -> np.ndarray:
        """A random point worth looking at."""
        points = self.scene.stage.focus.numpy()
        return points[int(self.rng.integers(len(points)))].astype(np.float64)

    def free(self, points: np.ndarray) -> bool:
        """Whether all points keep their distance from everything and stay within reach of the stage."""
        stage = self.scene.stage
        low, high, slack = stage.low.numpy()[:2], stage.high.numpy()[:2], np.array(stage.slack)
        if (points[:, :2] < low - slack).any() or (points[:, :2] > high + slack).any():
            return False
        return bool((clearance(self.scene.world, points) >= stage.near).all())

    def good(self, poses: np.ndarray, intrinsics: np.ndarray | None = None) -> np.ndarray:
        """Which views show enough that is neither sky nor right before the lens."""
        k = self.intrinsics[: len(poses)] if intrinsics is None else intrinsics
        points, seen = _probe(self.scene, poses, k, self.height, self.width)
        depth = (points @ poses[:, :, :3].transpose(0, 2, 1) + poses[:, None, :, 3])[..., 2]
        close = (seen & (depth < 2 * self.scene.stage.near)).mean(1)
        nearest = np.where(seen, depth, np.inf).min(1)
        return (seen.mean(1) > 0.3) & (close < 0.15) & (nearest > 0.5 * self.scene.stage.near)

    def found(self, propose: Callable[[float], tuple[np.ndarray, np.ndarray]], roll: float) -> np.ndarray:
        """Poses of the first proposal (positions, targets) that collides with nothing and sees something.

        A proposal gets a size from 1 down to 0.1, smaller the longer the search goes on.
        """
        for attempt in range(_TRIES * 4):
            position, target = propose(max(0.1, 0.985**attempt))
            if not self.free(position) or (np.linalg.norm((target - position)[:, :2], axis=1) < 1e-2).any():
                continue
            poses = look_at(position, target, _wander(self.rng, len(position), roll))
            if self.good(poses).mean() >= 0.9:
                return poses
        raise DA3Error(f"no free trajectory in scene {self.scene.seed} ({self.scene.kind}) after {_TRIES * 4} tries")


def _wander(rng: np.random.Generator, count: int, size: float) -> np.ndarray:
    """A smooth random curve of about the given size: (count,)."""
    t = np.linspace(0, max(count / 12, 1), count)
    waves = rng.uniform(0.5, 2.5, 3), rng.uniform(0, 2 * np.pi, 3)
    return size * sum(np.sin(f * t + p) for f, p in zip(*waves, strict=True)) / 2.0


def _orbit(search: _Search) -> np.ndarray:
    """Around a point worth looking at, on an arc or a full circle."""

    def propose(size: float) -> tuple[np.ndarray, np.ndarray]:
        target, start = search.focus(), search.position(1)[0]
        arc = search.rng.uniform(0.5, 2 * np.pi) * size * (1 if search.rng.random() < 0.5 else -1)
        away = start - target
        angle = np.arctan2(away[1], away[0]) + np.linspace(0, arc, search.count)
        radius = np.hypot(away[0], away[1]) * (1 + _wander(search.rng, search.count, 0.05))
        rise = away[2] + _wander(search.rng, search.count, 0.05 * radius.mean())
        path = target + np.stack((radius * np.cos(angle), radius * np.sin(angle), rise), 1)
        return path, np.repeat(target[None], search.count, 0)

    return search.found(propose, 0.03)


def _walk(search: _Search) -> np.ndarray:
    """On a curve between two places, looking ahead and around, with a step in it."""

    def propose(size: float) -> tuple[np.ndarray, np.ndarray]:
        a, b, c = search.position(3)
        b, c = a + (b - a) * size, a + (c - a) * size
        t = np.linspace(0, 1, search.count)[:, None]
        path = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        path[:, 2] = a[2] + 0.03 * np.sin(t[:, 0] * max(search.count / 6, 1) * np.pi)
        if search.scene.world.terrain is not None:
            height = search.lifted(np.concatenate((path[:, :2], np.zeros((search.count, 1))), 1))[:, 2]
            path[:, 2] += height - height[0]
        first, last = search.focus(), search.focus()
        return path, (1 - t) * first + t * last + _shake(search, 0.1)

    return search.found(propose, 0.03)


def _drive(search: _Search) -> np.ndarray:
    """Forward along the longer axis of the stage, looking where it goes."""

    def propose(size: float) -> tuple[np.ndarray, np.ndarray]:
        start, end = search.position(2)
        span = (search.scene.stage.high - search.scene.stage.low).numpy()[:2]
        axis = int(np.argmax(span))
        end[1 - axis], end[2] = start[1 - axis] + search.rng.uniform(-0.1, 0.1) * abs(end[axis] - start[axis]), start[2]
        end = start + (end - start) * size
        t = np.linspace(0, 1, search.count)[:, None]
        path = start + t * (end - start)
        if search.scene.world.terrain is not None:
            height = search.lifted(np.concatenate((path[:, :2], np.zeros((search.count, 1))), 1))[:, 2]
            path[:, 2] = start[2] + height - height[0]
        ahead = (end - start) / max(np.linalg.norm(end - start), 1e-6) * 8
        side = np.array([-ahead[1], ahead[0], 0.0]) * _wander(search.rng, search.count, 0.08)[:, None]
        return path, path + ahead + side - [0, 0, search.rng.uniform(0, 0.8)]

    return search.found(propose, 0.01)


def _loop(search: _Search) -> np.ndarray:
    """Round and round through the stage, looking ahead: the end of each round is its beginning."""
    rounds = 1 + search.count // 300
    angle = np.linspace(0, 2 * np.pi * rounds, search.count)

    def propose(size: float) -> tuple[np.ndarray, np.ndarray]:
        middle, span = search.position(1)[0], (search.scene.stage.high - search.scene.stage.low).numpy()
        radius = span[:2] * search.rng.uniform(0.25, 0.5, 2) * size
        start, side = search.rng.uniform(0, 2 * np.pi), 1 if search.rng.random() < 0.5 else -1
        path = np.repeat(middle[None], search.count, 0)
        path[:, :2] += radius * np.stack((np.cos(start + side * angle), np.sin(start + side * angle)), 1)
        if search.scene.world.terrain is not None:
            ground = search.lifted(np.concatenate((path[:, :2], np.zeros((search.count, 1))), 1))[:, 2]
            path[:, 2] = middle[2] + ground - search.lifted(middle[None] * [1, 1, 0])[0, 2]
        ahead = side * radius * np.stack((-np.sin(start + side * angle), np.cos(start + side * angle)), 1)
        ahead = ahead / np.maximum(np.linalg.norm(ahead, axis=1, keepdims=True), 1e-9)
        return path, path + np.concatenate((ahead, np.full((search.count, 1), -0.12)), 1)

    return search.found(propose, 0.0)


def _handheld(search: _Search) -> np.ndarray:
    """In one place, shaking and swaying."""

    def propose(size: float) -> tuple[np.ndarray, np.ndarray]:
        place, target = search.position(1)[0], search.focus()
        reach = float(np.linalg.norm(target - place))
        return place + _shake(search, 0.08 * reach * size), target + _shake(search, 0.1 * reach)

    return search.found(propose, 0.06)


def _shake(search: _Search, size: float) -> np.ndarray:
    return np.stack([_wander(search.rng, search.count, size) for _ in range(3)], 1)


def _rig(search: _Search) -> np.ndarray:
    """Six cameras around one point, 60 degrees apart, carried along the drive: hardly any overlap at one stop."""
    stops = -(-search.count // 6)
    base = _Search(search.scene, stops, search.height, search.width, search.intrinsics, search.rng, search.overlap)
    for _ in range(_TRIES):
        drive = _drive(base)
        centre = -(drive[:, :, :3].transpose(0, 2, 1) @ drive[:, :, 3:])[..., 0].astype(np.float64)
        yaw = np.arctan2(drive[:, 2, 1], drive[:, 2, 0])[:, None] + np.arange(6) * np.pi / 3
        ahead = np.stack((np.cos(yaw), np.sin(yaw), np.zeros_like(yaw)), -1)
        reach = min(0.4, 0.8 * search.scene.stage.near)
        position = (centre[:, None] + reach * ahead).reshape(-1, 3)
        if clearance(search.scene.world, position).min() > 0.25 * search.scene.stage.near:
            target = position + ahead.reshape(-1, 3) - [0, 0, 0.1]
            return look_at(position, target, np.zeros(len(position)))[: search.count]
    raise DA3Error(f"no room for a rig in scene {search.scene.seed} ({search.scene.kind})")


def _random(search: _Search) -> np.ndarray:
    """Views of a place from here and there, each overlapping with an earlier one as much as asked."""
    if search.count > _MOST_RANDOM:
        raise InputError("count", str(search.count), f"at most {_MOST_RANDOM} random views")
    pool = _candidates(search, max(24, 2 * search.count))
    cameras = Cameras(intrinsics=np.repeat(search.intrinsics[:1], len(pool), 0), extrinsics=pool)
    shared = overlaps(search.scene, cameras, search.height, search.width)
    distance = np.abs((shared + shared.T) / 2 - sum(search.overlap) / 2)
    chosen = [0]
    distance[:, 0] = np.inf
    while len(chosen) < search.count:
        anchor = chosen[int(search.rng.integers(len(chosen)))]
        chosen.append(int(np.argmin(distance[anchor])))
        distance[:, chosen[-1]] = np.inf
    return pool[chosen]


def _candidates(search: _Search, many: int) -> np.ndarray:
    """Good views from anywhere on the stage, looking at anything."""
    kept: list[np.ndarray] = []
    for _ in range(_TRIES):
        position = search.position(4 * many)
        position = position[clearance(search.scene.world, position) >= search.scene.stage.near][:many]
        target = np.array([search.focus() for _ in position]).reshape(-1, 3)
        keep = np.linalg.norm((target - position)[:, :2], axis=1) > 0.05
        poses = look_at(position[keep], target[keep], search.rng.normal(0, 0.06, int(keep.sum())))
        if len(poses):
            kept.append(poses[search.good(poses, np.repeat(search.intrinsics[:1], len(poses), 0))])
        if sum(map(len, kept)) >= many:
            return np.concatenate(kept)[:many]
    raise DA3Error(f"too few free places in scene {search.scene.seed} ({search.scene.kind})")


def _probe(
    scene: Scene, poses: np.ndarray, intrinsics: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points that a coarse grid of rays meets in each view (N, P, 3), and where there are any (N, P)."""
    steps = (np.arange(_PROBES) + 0.5) / _PROBES
    x, y = (v.ravel() for v in np.meshgrid(steps * width, steps * height))
    k = intrinsics[:, :, :, None].astype(np.float64)
    rays = np.stack(((x - k[:, 0, 2]) / k[:, 0, 0], (y - k[:, 1, 2]) / k[:, 1, 1], np.ones((len(k), len(x)))), -1)
    rotation = poses[:, :, :3].astype(np.float64)
    directions = rays @ rotation
    centre = -(poses[:, None, :, 3] @ rotation)
    origins = np.broadcast_to(centre, directions.shape)
    hits = cast(
        scene.world,
        *(torch.as_tensor(np.ascontiguousarray(v), dtype=torch.float32).view(-1, 3) for v in (origins, directions)),
    )
    depth = hits.depth.numpy().reshape(len(k), -1, 1)
    seen = np.isfinite(depth)
    return np.where(seen, origins + np.where(seen, depth, 0) * directions, 0.0), seen[..., 0]


def _visible(
    scene: Scene, points: np.ndarray, seen: np.ndarray, cameras: Cameras, height: int, width: int
) -> np.ndarray:
    """Share of each set of points (M, P, 3) that is inside and not hidden in each camera: (M, N)."""
    pose, k = cameras.extrinsics.astype(np.float64), cameras.intrinsics.astype(np.float64)
    local = points[:, None] @ pose[:, :, :3].transpose(0, 2, 1) + pose[:, None, :, 3]
    z = local[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        x = k[:, 0, 0, None] * local[..., 0] / z + k[:, 0, 2, None]
        y = k[:, 1, 1, None] * local[..., 1] / z + k[:, 1, 2, None]
    inside = (z > 1e-3) & (x > 0) & (x < width) & (y > 0) & (y < height) & seen[:, None]
    centre = -(pose[:, :, 3][:, None] @ pose[:, :, :3])
    origins = np.broadcast_to(centre, (*inside.shape, 3))[inside]
    towards = np.broadcast_to(points[:, None], (*inside.shape, 3))[inside] - origins
    hits = cast(scene.world, *(torch.as_tensor(v, dtype=torch.float32) for v in (origins, towards)))
    inside[inside] = hits.depth.numpy() > 0.99
    return inside.sum(2) / np.maximum(seen.sum(1), 1)[:, None]


TRAJECTORIES: dict[str, Callable[[_Search], np.ndarray]] = {
    "orbit": _orbit,
    "walk": _walk,
    "drive": _drive,
    "loop": _loop,
    "handheld": _handheld,
    "random": _random,
    "rig": _rig,
}
"""Kinds of trajectories by name."""
