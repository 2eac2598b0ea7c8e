"""Crops and camera effects for training pictures.

All randomness comes from the generator that is passed in, so a sample is a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """How pictures are varied.

    Attributes:
        smallest_crop: least side of a crop, as a share of the largest one that fits.
        off_centre: share of samples whose crop does not keep the principal point in the middle.
        flip: share of samples that are mirrored, world and all.
        quarter_turn: share of samples whose cameras are turned by a quarter about their axes, either way.
        colour: strength of the changes of brightness, contrast, saturation and tint, the same for all views.
        per_view_colour: share of samples whose views differ in exposure.
        jpeg, blur, noise: shares of samples with these effects.
    """

    smallest_crop: float = 0.7
    off_centre: float = 0.3
    flip: float = 0.5
    quarter_turn: float = 0.0
    colour: float = 0.3
    per_view_colour: float = 0.2
    jpeg: float = 0.15
    blur: float = 0.15
    noise: float = 0.25


NO_AUGMENTATION = AugmentOptions(
    smallest_crop=1.0, off_centre=0.0, flip=0.0, colour=0.0, per_view_colour=0.0, jpeg=0.0, blur=0.0, noise=0.0
)
"""Pictures as they are, but for their size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Views of one scene of one size; arrays as in :class:`~depth_anything_3.datasets.base.View`, stacked.

    ``sky_known`` says whether the sky mask can be trusted; with ``objects`` it holds everything around a single object.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    depth: Float32[np.ndarray, "n h w"]
    sky: Bool[np.ndarray, "n h w"]
    intrinsics: Float32[np.ndarray, "n 3 3"]
    extrinsics: Float32[np.ndarray, "n 3 4"]
    sky_known: bool = True
    objects: bool = False


def crop_and_resize(
    pictures: Pictures, size: tuple[int, int], rng: np.random.Generator, options: AugmentOptions
) -> Pictures:
    """One crop for all views, resized. Depth takes the nearest pixel: no value that was not there appears."""
    height, width = pictures.images.shape[1:3]
    unit = min(height / size[0], width / size[1])
    unit *= rng.uniform(options.smallest_crop, 1.0)
    crop_h, crop_w = size[0] * unit, size[1] * unit
    if rng.random() < options.off_centre:
        top, left = rng.uniform(0, height - crop_h), rng.uniform(0, width - crop_w)
    else:
        top, left = (height - crop_h) / 2, (width - crop_w) / 2
    # Whole pixels, so that the picture and its cameras agree exactly.
    box = [round(v) for v in (top, left, crop_h, crop_w)]
    box[0], box[1] = min(box[0], height - box[2]), min(box[1], width - box[3])
    return _resized(pictures, (box[0], box[1], box[2], box[3]), size)


def _resized(pictures: Pictures, box: tuple[int, int, int, int], size: tuple[int, int]) -> Pictures:
    top, left, height, width = box
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    # Means of areas shift the picture by up to a pixel where it is enlarged.
    how = cv2.INTER_AREA if height >= size[0] and width >= size[1] else cv2.INTER_LINEAR
    images = [cv2.resize(v, size[::-1], interpolation=how) for v in pictures.images[window]]
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(int)
    nearest = (slice(None), rows[:, None], columns)
    intrinsics = pictures.intrinsics.copy()
    intrinsics[:, 0, 2] -= left
    intrinsics[:, 1, 2] -= top
    intrinsics[:, 0] *= size[1] / width
    intrinsics[:, 1] *= size[0] / height
    return replace(
        pictures,
        images=np.stack(images),
        depth=pictures.depth[window][nearest],
        sky=pictures.sky[window][nearest],
        intrinsics=intrinsics,
    )


def mirror(pictures: Pictures) -> Pictures:
    """Left and right exchanged in the pictures and in the world."""
    width = pictures.images.shape[2]
    intrinsics, extrinsics = pictures.intrinsics.copy(), pictures.extrinsics.copy()
    intrinsics[:, 0, 2] = width - intrinsics[:, 0, 2]
    intrinsics[:, 0, 1] *= -1
    flip = np.array([-1, 1, 1], dtype=np.float32)
    extrinsics[:, :, :3] *= flip[:, None] * flip
    extrinsics[:, :, 3] *= flip
    return replace(
        pictures,
        images=pictures.images[:, :, ::-1],
        depth=pictures.depth[:, :, ::-1],
        sky=pictures.sky[:, :, ::-1],
        intrinsics=intrinsics,
        extrinsics=extrinsics,
    )


_QUARTER = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=np.float32)  # clockwise, as the picture is seen


def turn(pictures: Pictures) -> Pictures:
    """All cameras turned about their axes, so that pictures are turned clockwise; the world stays. No skew."""
    height = pictures.images.shape[1]
    intrinsics = np.zeros_like(pictures.intrinsics)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = pictures.intrinsics[:, 1, 1], pictures.intrinsics[:, 0, 0]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = height - pictures.intrinsics[:, 1, 2], pictures.intrinsics[:, 0, 2]
    intrinsics[:, 2, 2] = 1
    return replace(
        pictures,
        images=np.rot90(pictures.images, -1, (1, 2)),
        depth=np.rot90(pictures.depth, -1, (1, 2)),
        sky=np.rot90(pictures.sky, -1, (1, 2)),
        intrinsics=intrinsics,
        extrinsics=_QUARTER @ pictures.extrinsics,
    )


def camera_effects(
    images: UInt8[np.ndarray, "n h w 3"], rng: np.random.Generator, options: AugmentOptions
) -> UInt8[np.ndarray, "n h w 3"]:
    """Colour, exposure, blur, noise and JPEG, each by chance."""
    x = images.astype(np.float32) / 255
    x = _coloured(x, rng, options.colour)
    if rng.random() < options.per_view_colour:
        x = x * np.exp(rng.normal(0, 0.15, (len(x), 1, 1, 1))).astype(np.float32)
    if rng.random() < options.blur:
        sigma = float(rng.uniform(0.3, 0.9))
        x = np.stack([cv2.GaussianBlur(v, (0, 0), sigma) for v in x])
    if rng.random() < options.noise:
        x = x + rng.standard_normal(x.shape, dtype=np.float32) * np.float32(rng.uniform(0.003, 0.03))
    result = (x.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    if rng.random() < options.jpeg:
        quality = int(rng.integers(35, 95))
        result = np.stack([_jpeg(v, quality) for v in result])
    return result


def _coloured(x: Float[np.ndarray, "n h w 3"], rng: np.random.Generator, strength: float) -> np.ndarray:
    if strength == 0:
        return x
    gamma = np.exp(rng.normal(0, strength * 0.6))
    tint = np.exp(rng.normal(0, strength * 0.25, 3)).astype(np.float32)
    contrast, saturation = np.exp(rng.normal(0, strength * 0.5, 2)).astype(np.float32)
    x = np.power(x.clip(0, 1), np.float32(gamma)) * tint
    grey = (x @ _WEIGHTS)[..., None]
    x = grey + (x - grey) * saturation
    middle = np.float32(grey.mean())
    return np.asarray(middle + (x - middle) * contrast)


def _jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
