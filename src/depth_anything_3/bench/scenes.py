"""Scenes with known answers, in one form wherever they come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.datasets.base import CorruptSample
from depth_anything_3.datasets.benchmark.real_mini import REAL_SCENES, RealMini
from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest, valid_pixels

Array = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class EvalScene:
    """N views of one scene with what is true about them. Arrays are read-only.

    Attributes:
        name: unique within a report.
        slices: groups that the scene is also reported in ("indoor", "real", ...).
        images: (N, H, W, 3) uint8 RGB.
        depth: (N, H, W) float32 z-depth; 0 where it is not known. All 0 for scenes with cameras alone.
        intrinsics: (N, 3, 3) float64 in pixels; the centre of the top-left pixel is (0.5, 0.5).
        extrinsics: (N, 3, 4) float64 world-to-camera, OpenCV axes, in the unit of the depth.
        sky: (N, H, W) bool, or None where it is not known.
    """

    name: str
    slices: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32]
    intrinsics: npt.NDArray[np.float64]
    extrinsics: npt.NDArray[np.float64]
    sky: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.images) != 4 or 0 in np.shape(self.images) or np.asarray(self.images).dtype != np.uint8:
            got = f"shape {np.shape(self.images)} and dtype {np.asarray(self.images).dtype}"
            raise InputError("images", got, "at least one image, shape (N, H, W, 3), dtype uint8")
        n, h, w, _ = self.images.shape
        expected: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {
            "images": ((n, h, w, 3), np.uint8),
            "depth": ((n, h, w), np.float32),
            "intrinsics": ((n, 3, 3), np.float64),
            "extrinsics": ((n, 3, 4), np.float64),
            "sky": ((n, h, w), np.bool_),
        }
        for name, (shape, dtype) in expected.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, _checked(name, value, shape, dtype))

    @property
    def has_depth(self) -> bool:
        """Whether any pixel has a true depth."""
        return bool(valid_pixels(self.depth).any())


def scene_from_rendering(
    name: str,
    slices: tuple[str, ...],
    *,
    rgb: npt.ArrayLike,
    depth: npt.ArrayLike,
    intrinsics: npt.ArrayLike,
    extrinsics: npt.ArrayLike,
    sky: npt.ArrayLike | None = None,
) -> EvalScene:
    """A scene from what a renderer gives; tensors on the CPU are fine.

    Args:
        name, slices: as in :class:`EvalScene`.
        rgb: (N, H, W, 3) picture values from 0 to 1, or uint8.
        depth: (N, H, W) z-depth; what is not finite and positive (sky) becomes 0.
        intrinsics: (N, 3, 3) in pixels.
        extrinsics: (N, 3, 4) world-to-camera.
        sky: (N, H, W) bool, or None.

    Raises:
        InputError: the arrays do not fit together.
    """
    picture, z = np.asarray(rgb), np.asarray(depth)
    if picture.dtype != np.uint8:
        picture = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return EvalScene(
        name=name,
        slices=slices,
        images=picture,
        depth=np.where(valid_pixels(z), z, 0).astype(np.float32),
        intrinsics=np.asarray(intrinsics, np.float64),
        extrinsics=np.asarray(extrinsics, np.float64),
        sky=None if sky is None else np.asarray(sky, bool),
    )


def evenly_spaced(available: int, count: int) -> list[int]:
    """Indices of ``count`` of so many views: the first, the last and evenly between them; the first alone for one.

    Raises:
        InputError: fewer views than asked for.
    """
    if not 1 <= count <= available:
        raise InputError("count", repr(count), f"1 to {available} views")
    return [int(i) for i in np.rint(np.linspace(0, available - 1, count))]


def select_views(scene: EvalScene, indices: list[int]) -> EvalScene:
    """The scene with these of its views, in this order."""
    return replace(
        scene,
        images=scene.images[indices],
        depth=scene.depth[indices],
        intrinsics=scene.intrinsics[indices],
        extrinsics=scene.extrinsics[indices],
        sky=None if scene.sky is None else scene.sky[indices],
    )


def at_longest_side(scene: EvalScene, pixels: int) -> EvalScene:
    """The scene with smaller images; depth comes from the nearest pixel, intrinsics follow. Small images stay.

    Args:
        scene: any.
        pixels: the longer side afterwards.

    Raises:
        InputError: the size is not positive.
    """
    if pixels < 1:
        raise InputError("pixels", repr(pixels), "at least 1")
    height, width = scene.depth.shape[1:]
    if max(height, width) <= pixels:
        return scene
    h, w = (max(round(side * pixels / max(height, width)), 1) for side in (height, width))
    return replace(
        scene,
        images=np.stack([cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA) for image in scene.images]),
        depth=resized_nearest(scene.depth, h, w),
        intrinsics=scene.intrinsics * np.array([[w / width], [h / height], [1.0]]),
        sky=None if scene.sky is None else resized_nearest(scene.sky, h, w),
    )


def load_real_scene(
    folder: str | os.PathLike[str], *, frames: Sequence[str], longest_side: int | None = None
) -> EvalScene:
    """One scene: ``scene.npz`` (names, K, c2w), ``images/`` and, where there is one, ``depth/`` (16 bit, millimetres).

    Args:
        folder: named as in :data:`REAL_SCENES`, which holds the corrections it needs.
        frames: names of the views to take, in this order.
        longest_side: scale the images down to it.

    Raises:
        InputError: the folder is not a known scene, has no such frame, or a file cannot be read.
    """
    path = Path(folder)
    if path.name not in REAL_SCENES or not (path / "scene.npz").is_file():
        raise InputError("folder", str(path), "the folder of a known scene, with its scene.npz", sorted(REAL_SCENES))
    data, name = RealMini(path), f"{RealMini.name}/{path.name}"
    if unknown := [frame for frame in frames if frame not in data.frames(name)]:
        raise InputError("frames", ", ".join(unknown), f"frames that {path / 'scene.npz'} lists")
    try:
        views = [data.load(name, frame) for frame in frames]
    except CorruptSample as error:
        raise InputError("folder", f"{error.file} {error.reason}", "a complete, undamaged scene") from error
    images = np.stack([view.image for view in views])
    scene = EvalScene(
        name=path.name,
        slices=REAL_SCENES[path.name].slices,
        images=images,
        depth=np.stack([np.zeros(images.shape[1:3], np.float32) if v.depth is None else v.depth for v in views]),
        intrinsics=np.stack([view.intrinsics for view in views]).astype(np.float64),
        extrinsics=np.stack([view.extrinsics for view in views if view.extrinsics is not None]).astype(np.float64),
    )
    return scene if longest_side is None else at_longest_side(scene, longest_side)


def _checked(name: str, value: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    array = np.asarray(value)
    if array.shape != shape:
        raise InputError(name, f"shape {array.shape}", f"shape {shape}")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(name, f"dtype {array.dtype}", f"dtype {np.dtype(dtype)}")
    if name in ("depth", "intrinsics", "extrinsics") and not np.isfinite(array).all():
        raise InputError(name, "values that are not finite", "finite values (depth that is not known is 0)")
    frozen = array.astype(dtype, copy=False).view()
    frozen.flags.writeable = False
    return frozen
