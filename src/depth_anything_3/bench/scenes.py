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
from PIL import Image

from depth_anything_3.errors import InputError
from depth_anything_3.io.images import decode_image
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


@dataclass(frozen=True, kw_only=True)
class _RealScene:
    """What the note beside a scene says about using it.

    Attributes:
        slices: as in :class:`EvalScene`.
        half: to add to the principal point, where the top-left pixel's centre counts as (0, 0).
        depth_range: depth outside of it is noise.
    """

    slices: tuple[str, ...]
    half: float = 0.0
    depth_range: tuple[float, float] = (0.0, np.inf)


REAL_SCENES: dict[str, _RealScene] = {
    "alicevision_buddha13": _RealScene(slices=("real", "object", "cameras only")),
    # Its lens has some radial distortion, which is left in.
    "lund_door12": _RealScene(slices=("real", "outdoor", "cameras only")),
    # The right depth map is empty: it would only be a derived one.
    "middlebury_motorcycle": _RealScene(slices=("real", "indoor")),
    # Five frames of the sequence below, with other depth and poses: not an independent scene.
    "open3d_redwood5": _RealScene(slices=("rendered", "indoor"), half=0.5),
    "princeton_box50": _RealScene(slices=("real", "object"), depth_range=(0.2, 0.8)),
    "redwood_livingroom1_micro": _RealScene(slices=("rendered", "indoor"), half=0.5),
    "tum_fr1_rpy": _RealScene(slices=("real", "indoor", "rotation"), half=0.5),
}
"""The scenes that :func:`load_real_scene` knows, by folder name."""


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
    facts = REAL_SCENES[path.name]
    with np.load(path / "scene.npz", allow_pickle=False) as file:
        names, intrinsics, c2w = (file[key] for key in ("names", "K", "c2w"))
    index = {str(name): i for i, name in enumerate(names)}
    if unknown := [name for name in frames if name not in index]:
        raise InputError("frames", ", ".join(unknown), f"frames that {path / 'scene.npz'} lists")
    chosen = [index[name] for name in frames]
    intrinsics = intrinsics[chosen].astype(np.float64)
    intrinsics[:, :2, 2] += facts.half
    images = np.stack([_image(path, name, i) for name, i in zip(frames, chosen, strict=True)])
    depth = np.stack([_depth(path, name, images.shape[1:3]) for name in frames])
    low, high = facts.depth_range
    scene = EvalScene(
        name=path.name,
        slices=facts.slices,
        images=images,
        depth=np.where((depth >= low) & (depth <= high), depth, 0),
        intrinsics=intrinsics,
        extrinsics=np.linalg.inv(c2w[chosen].astype(np.float64))[:, :3],
    )
    return scene if longest_side is None else at_longest_side(scene, longest_side)


def _image(folder: Path, name: str, index: int) -> npt.NDArray[np.uint8]:
    # Names may hold a dot, so that `with_suffix` would cut them.
    found = [p for p in (folder / "images" / f"{name}{end}" for end in (".png", ".jpg")) if p.is_file()]
    if not found:
        raise InputError("folder", f"{folder} without an image {name}", "images/NAME.png or images/NAME.jpg")
    return decode_image(found[0], index=index, alpha="drop").pixels


def _depth(folder: Path, name: str, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Metres; 0 where there is no depth, everywhere where there is no file."""
    file = folder / "depth" / f"{name}.png"
    if not (folder / "depth").is_dir():
        return np.zeros(size, np.float32)
    if not file.is_file():
        raise InputError("folder", f"{folder} without a depth map {name}", "depth/NAME.png for every image")
    try:
        with Image.open(file) as image:
            return np.asarray(image).astype(np.float32) / np.float32(1000)
    except OSError as error:
        raise InputError("folder", f"{file} ({error})", "16-bit depth maps in PNG files") from error


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
