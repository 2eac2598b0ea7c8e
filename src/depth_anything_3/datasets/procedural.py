"""The procedural world as a data set: scene ``i`` is what seed ``i`` gives, rendered when it is first asked for.

Rendering costs more than reading, so a cache folder keeps what was rendered: one file per scene, written whole, and
the same bytes whoever writes it. Several processes may fill one folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from depth_anything_3._files import atomic_path
from depth_anything_3.datasets.base import Dataset, SceneCameras, View
from depth_anything_3.errors import DA3Error, InputError
from depth_anything_3.geometry.pinhole import project, unproject

FRAMES = 8
"""Views of a scene."""

SIZES: dict[tuple[int, int], float] = {(126, 168): 0.55, (168, 126): 0.15, (140, 140): 0.15, (98, 182): 0.15}
"""Rows and columns of a scene's pictures -> how often."""

TRAJECTORIES = {
    "random": 0.5, "orbit": 0.16, "walk": 0.12, "loop": 0.07, "drive": 0.05, "rig": 0.05, "handheld": 0.05,
}  # fmt: skip
"""Kind of camera path -> how often."""

# Depth is stored as a 16-bit logarithm: steps of 0.016 %, a tenth of what half precision would lose.
_NEAREST, _FARTHEST = 0.02, 2000.0
_STEP = np.log(_FARTHEST / _NEAREST) / 65534


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedScene:
    """The views of one scene.

    Attributes:
        images: pictures as rendered, without camera effects.
        depth: z-depth in metres, 0 where there is none.
        sky: where nothing was hit.
        intrinsics: in pixels.
        extrinsics: world-to-camera, OpenCV axes, metres.
        overlap: share of the surface in one view (row) that another (column) shows too.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    depth: Float32[np.ndarray, "n h w"]
    sky: Bool[np.ndarray, "n h w"]
    intrinsics: Float32[np.ndarray, "n 3 3"]
    extrinsics: Float32[np.ndarray, "n 3 4"]
    overlap: Float32[np.ndarray, "n n"]


def render_scene(seed: int, *, device: str = "cpu") -> RenderedScene:
    """The views of the scene of a seed.

    Args:
        seed: not negative.
        device: where to cast the rays.

    Raises:
        InputError: the seed is negative.
    """
    import torch

    from depth_anything_3.synth.cameras import make_cameras
    from depth_anything_3.synth.render import render, to_bytes
    from depth_anything_3.synth.scenes import make_scene

    if seed < 0:
        raise InputError("seed", str(seed), "an integer that is not negative")
    rng = np.random.default_rng([seed, 2])
    scene = make_scene(seed)
    height, width = tuple(SIZES)[int(rng.choice(len(SIZES), p=tuple(SIZES.values())))]
    kind = str(rng.choice(tuple(TRAJECTORIES), p=tuple(TRAJECTORIES.values())))
    low = rng.uniform(0.2, 0.55)
    try:
        cameras = make_cameras(scene, FRAMES, height, width, seed=seed, kind=kind, overlap=(low, low + 0.3))
    except DA3Error:  # a small place may have no room for this kind of path
        cameras = make_cameras(scene, FRAMES, height, width, seed=seed, kind="random", overlap=(low, low + 0.3))
    with torch.no_grad():
        views = render(scene, cameras, height, width, device=device)
    depth = torch.where(views.sky, 0.0, views.depth).cpu().numpy()
    depth = np.where((depth > _NEAREST) & (depth < _FARTHEST), depth, 0).astype(np.float32)
    return RenderedScene(
        images=to_bytes(views.rgb).cpu().numpy(),
        depth=depth,
        sky=views.sky.cpu().numpy(),
        intrinsics=cameras.intrinsics,
        extrinsics=cameras.extrinsics,
        overlap=shared_surface(depth, cameras.intrinsics, cameras.extrinsics),
    )


def shared_surface(
    depth: Float32[np.ndarray, "n h w"],
    intrinsics: Float32[np.ndarray, "n 3 3"],
    extrinsics: Float32[np.ndarray, "n 3 4"],
    *,
    stride: int = 8,
    tolerance: float = 0.1,
) -> Float32[np.ndarray, "n n"]:
    """Share of the points with depth in one view (row) that another (column) shows too, judged by its depth.

    Args:
        depth: z-depth, 0 where there is none.
        intrinsics: in pixels of the depth.
        extrinsics: world-to-camera, in the unit of the depth.
        stride: every so manieth row and column is looked at.
        tolerance: relative difference of depth that still counts as the same surface.
    """
    count, height, width = depth.shape
    points = unproject(depth, intrinsics, extrinsics)[:, stride // 2 :: stride, stride // 2 :: stride].reshape(-1, 3)
    known = depth[:, stride // 2 :: stride, stride // 2 :: stride].reshape(count, -1) > 0
    xy, z = project(np.broadcast_to(points, (count, *points.shape)), intrinsics, extrinsics)
    column, row = (
        np.nan_to_num(xy[..., axis], nan=-1, posinf=-1, neginf=-1).clip(-1, 1e6).astype(int) for axis in (0, 1)
    )
    inside = (z > 0) & (xy >= 0).all(-1) & (column < width) & (row < height)
    view = np.arange(count)[:, None]
    there = np.where(inside, depth[view, np.where(inside, row, 0), np.where(inside, column, 0)], 0)
    seen = inside & (there > 0) & (np.abs(there - z) < tolerance * z)
    seen = seen.reshape(count, count, -1).transpose(1, 0, 2) & known[:, None]  # from, to, points
    return (seen.sum(2) / np.maximum(known.sum(1), 1)[:, None]).astype(np.float32)


def save_scene(scene: RenderedScene, path: Path) -> None:
    """Write a scene to a file, whole or not at all."""
    with np.errstate(divide="ignore"):
        code = np.rint(np.log(scene.depth / _NEAREST) / _STEP) + 1
    code = np.where(scene.depth > 0, code.clip(1, 65535), 0).astype(np.uint16)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            images=scene.images,
            depth=code,
            sky=np.packbits(scene.sky),
            intrinsics=scene.intrinsics,
            extrinsics=scene.extrinsics,
            overlap=scene.overlap,
        )


def load_scene(path: Path) -> RenderedScene:
    """Read what :func:`save_scene` wrote; depth is right to a hundredth of a percent."""
    with np.load(path) as data:
        code = data["depth"]
        depth = np.where(code > 0, _NEAREST * np.exp((code.astype(np.float32) - 1) * np.float32(_STEP)), 0)
        sky = np.unpackbits(data["sky"], count=code.size).astype(bool).reshape(code.shape)
        return RenderedScene(
            images=data["images"],
            depth=depth.astype(np.float32),
            sky=sky,
            intrinsics=data["intrinsics"],
            extrinsics=data["extrinsics"],
            overlap=data["overlap"],
        )


def cached_scene(seed: int, cache: Path | None, *, device: str = "cpu") -> RenderedScene:
    """The scene of a seed, from the cache folder if it is there, else rendered and put there."""
    if cache is None:
        return render_scene(seed, device=device)
    path = cache / f"{seed // 1000:06d}" / f"{seed:09d}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_scene(render_scene(seed, device=device), path)
    return load_scene(path)


def fill_cache(cache: Path, seeds: range) -> None:
    """Render the scenes of some seeds into a cache folder; those already there are left alone."""
    for seed in seeds:
        cached_scene(seed, cache)


class ProceduralWorld(Dataset):
    """The first seeds of the procedural world.

    Args:
        root: cache folder; None renders every time.
        count: of scenes.
        first: lowest seed.
    """

    name = "procedural"
    metric = True
    real = False

    def __init__(self, root: Path | str | None = None, *, count: int = 1_000, first: int = 0) -> None:
        self.cache, self.first, self.count = None if root is None else Path(root), first, count
        self._scene = lru_cache(4)(lambda seed: cached_scene(seed, self.cache))

    def scenes(self) -> tuple[str, ...]:
        """``procedural/<seed>``."""
        return tuple(f"{self.name}/{seed:010d}" for seed in range(self.first, self.first + self.count))

    def frames(self, scene: str) -> tuple[str, ...]:
        """The numbers of the views."""
        self._seed(scene)
        return tuple(str(i) for i in range(FRAMES))

    def cameras(self, scene: str) -> SceneCameras:
        """Cameras of all views; the scene is rendered for them if it is not in the cache."""
        rendered = self._scene(self._seed(scene))
        return SceneCameras(intrinsics=rendered.intrinsics, extrinsics=rendered.extrinsics)

    def load(self, scene: str, frame: str) -> View:
        """One view."""
        rendered = self._scene(self._seed(scene))
        if frame not in self.frames(scene):
            raise InputError("frame", repr(frame), "a frame of this scene", self.frames(scene))
        i = int(frame)
        return View(
            image=rendered.images[i],
            intrinsics=rendered.intrinsics[i],
            extrinsics=rendered.extrinsics[i],
            depth=rendered.depth[i],
            sky=rendered.sky[i],
        )

    def _seed(self, scene: str) -> int:
        text = scene.removeprefix(f"{self.name}/")
        if not text.isdigit() or not self.first <= int(text) < self.first + self.count:
            raise InputError("scene", repr(scene), f"{self.name}/<seed> with {self.count} seeds from {self.first}")
        return int(text)


DATASET = ProceduralWorld
