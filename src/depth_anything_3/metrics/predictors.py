"""What can be had without looking at the picture: the floor under every report.

Maps of depth are relative: each image is divided by its median before images are averaged.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest, valid_pixels

Array = npt.NDArray[np.float64]

MapRule = Literal["mean log", "median"]


def typical_depth_map(depth: Float[np.ndarray, "n h w"], *, rule: MapRule = "mean log") -> Float[np.ndarray, "h w"]:
    """The depth that a pixel has on average over images, relative to the median of the image.

    Args:
        depth: z-depth of n images; pixels that are not finite and positive are left out.
        rule: ``"mean log"``: exponential of the mean log depth, the best guess for a squared error in log depth;
            ``"median"``: the best guess for an absolute error.

    Returns:
        float64; 1 at pixels that have a depth in no image.

    Raises:
        InputError: no image has a depth, or the rule is unknown.
    """
    if rule not in ("mean log", "median"):
        raise InputError("rule", repr(rule), "a way to average", ("mean log", "median"))
    logs = [_relative_log(image) for image in depth if valid_pixels(image).any()]
    if not logs:
        raise InputError("depth", "no valid pixel", "at least one image with a depth")
    stacked = np.stack(logs)
    seen = np.isfinite(stacked).any(0)
    stacked[:, ~seen] = 0.0
    averaged: Array = np.exp(np.nanmean(stacked, 0) if rule == "mean log" else np.nanmedian(stacked, 0))
    return averaged


def depth_from_map(
    typical: Float[np.ndarray, "h w"], count: int, height: int, width: int
) -> Float[np.ndarray, "n y x"]:
    """The same map for every view, at another size (nearest pixel).

    Args:
        typical: from :func:`typical_depth_map`.
        count: views.
        height, width: wanted size.
    """
    return np.repeat(resized_nearest(typical[None], height, width), count, 0)


def constant_depth(count: int, height: int, width: int, *, value: float = 1.0) -> Float[np.ndarray, "n y x"]:
    """A wall parallel to the image, (count, height, width) float64."""
    return np.full((count, height, width), value)


def identity_poses(count: int) -> Float[np.ndarray, "n 3 4"]:
    """Cameras that never moved."""
    return np.repeat(np.eye(3, 4)[None], count, 0)


def mean_focal(intrinsics: Float[np.ndarray, "n 3 3"], height: int, width: int) -> float:
    """Typical focal length as a part of the longer side: exponential of the mean log over views and axes.

    Args:
        intrinsics: camera matrices in pixels.
        height, width: size of the images the matrices belong to.

    Raises:
        InputError: there is no view, or a focal length is not positive.
    """
    focal = np.asarray(intrinsics, np.float64)[:, [0, 1], [0, 1]]
    if not focal.size or not (focal > 0).all():
        raise InputError("intrinsics", f"focal lengths {focal}", "positive focal lengths of at least one view")
    return float(np.exp(np.log(focal).mean()) / max(height, width))


def centred_intrinsics(focal: float, count: int, height: int, width: int) -> Float[np.ndarray, "n 3 3"]:
    """Cameras with one focal length and the principal point in the middle.

    Args:
        focal: part of the longer side, as from :func:`mean_focal`.
        count: views.
        height, width: of the images in pixels.
    """
    f = focal * max(height, width)
    return np.repeat(np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])[None], count, 0)


def _relative_log(image: npt.NDArray[np.floating]) -> Array:
    """Log depth minus its median; NaN where there is no depth."""
    valid = valid_pixels(image)
    logs = np.log(np.where(valid, image, 1).astype(np.float64))
    return np.where(valid, logs - np.median(logs[valid]), np.nan)
