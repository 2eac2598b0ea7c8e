"""Predicted Gaussians without those that spoil a scene, and no more of them than wanted."""

from __future__ import annotations

import dataclasses
import warnings

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.splat.base import check_gaussians
from depth_anything_3.splat.merge import merge_gaussians
from depth_anything_3.splat.options import CleanOptions
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction, usable_pixels, valid_pixels

_FEW_VIEWS = 12


def clean_gaussians(
    prediction: Prediction, options: CleanOptions, *, mask: Bool[np.ndarray, "N H W"] | None = None
) -> Gaussians:
    """The Gaussians of a prediction that are worth keeping, merged into at most ``max_gaussians``.

    Gaussians that are not finite, or have a scale of zero or less, always go.

    Args:
        prediction: with one Gaussian per pixel, in view-row-column order. Where their number is another, they have
            been cleaned before, and the options about pixels do nothing.
        options: what is kept.
        mask: pixels to keep; None keeps all.

    Raises:
        CapabilityError: the prediction has no Gaussians.
        InputError: there are several scenes, or the mask does not fit.

    Warns:
        UserWarning: the Gaussians are not one per pixel.
    """
    if prediction.gaussians is None:
        raise CapabilityError("prediction", "no gaussians", "an inference with infer_gs=True")
    check_gaussians(prediction.gaussians)
    scenes, count = prediction.gaussians.means.shape[:2]
    if scenes != 1:
        raise InputError("prediction.gaussians", f"{scenes} scenes", "one scene")
    kept = drawable(prediction.gaussians, options.min_opacity)
    if count == prediction.depth.size:
        kept &= torch.from_numpy(pixels_to_draw(prediction, options, mask=mask).reshape(-1)).to(kept.device)
    elif mask is not None:
        raise InputError("mask", "pixels to keep", f"None: {count} Gaussians are not one per pixel")
    else:
        warnings.warn(
            f"{count} Gaussians are not one per pixel ({prediction.depth.size}): options about pixels have no effect",
            stacklevel=2,
        )
    chosen = select(prediction.gaussians, kept.nonzero()[:, 0])
    return chosen if options.max_gaussians is None else merge_gaussians(chosen, options.max_gaussians)


def select(gaussians: Gaussians, index: Int[Tensor, " g"]) -> Gaussians:
    """Some Gaussians of every scene."""
    fields = [field.name for field in dataclasses.fields(Gaussians)]
    return Gaussians(**{name: getattr(gaussians, name)[:, index] for name in fields})


def pixels_to_draw(
    prediction: Prediction, options: CleanOptions, *, mask: Bool[np.ndarray, "N H W"] | None = None
) -> Bool[np.ndarray, "N H W"]:
    """Pixels whose Gaussians pass the tests of the options that need no Gaussians.

    Raises:
        InputError: the mask has another shape.
    """
    depth = prediction.depth
    if mask is not None and mask.shape != depth.shape:
        raise InputError("mask", f"shape {mask.shape}", f"shape {depth.shape}")
    keep = inside_border(depth.shape, options.border) & (
        usable_pixels(prediction) if options.drop_sky else valid_pixels(prediction)
    )
    if mask is not None:
        keep &= mask
    if options.max_depth_percentile < 100:
        deepest = np.nanpercentile(np.where(np.isfinite(depth), depth, np.nan), options.max_depth_percentile, (1, 2))
        keep &= depth <= deepest[:, None, None]
    if options.max_depth_jump:
        keep &= ~floating_pixels(depth, options.max_depth_jump)
    interval = options.gs_views_interval or max(len(depth) // _FEW_VIEWS, 1)
    keep[np.arange(len(depth)) % interval != 0] = False
    return keep


def inside_border(shape: tuple[int, ...], share: float) -> Bool[np.ndarray, "N H W"]:
    """All pixels but those within ``share`` of the height or the width (rounded down to pixels) of an edge."""
    keep = np.zeros(shape, np.bool_)
    rows, columns = int(share * shape[1]), int(share * shape[2])
    keep[:, rows : shape[1] - rows, columns : shape[2] - columns] = True
    return keep


def floating_pixels(depth: Float[np.ndarray, "N H W"], jump: float) -> Bool[np.ndarray, "N H W"]:
    """Pixels between a nearer and a farther neighbour, each apart by more than ``jump`` times the depth.

    At a sharp edge no pixel is in between, and none is lost; the ramps of a blurred edge go.
    """
    square = np.ones((3, 3), np.uint8)
    nearest = np.stack([cv2.erode(view, square) for view in depth])
    farthest = np.stack([cv2.dilate(view, square) for view in depth])
    with np.errstate(invalid="ignore"):
        return (nearest * (1 + jump) < depth) & (depth * (1 + jump) < farthest)


def drawable(gaussians: Gaussians, min_opacity: float) -> Bool[Tensor, " G"]:
    """Which Gaussians of the first scene are finite, have an extent, and are not fainter than ``min_opacity``."""
    opacity = gaussians.opacities[0]
    keep = opacity.isfinite() & (opacity >= min_opacity) & (gaussians.scales[0] > 0).all(-1)
    for name in ("means", "scales", "rotations", "harmonics"):
        keep &= getattr(gaussians, name)[0].flatten(1).isfinite().all(-1)
    return keep & gaussians.rotations[0].any(-1)
