"""Plain Gaussians from depth maps: one ball per pixel, no network."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.geometry.harmonics import C0
from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction


def gaussians_from_depth(
    depth: Float[np.ndarray, "N H W"],
    images: UInt8[np.ndarray, "N H W 3"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    extrinsics: Float[np.ndarray, "N 3 4"],
    *,
    sigma: float = 0.6,
    opacity: float = 0.9,
) -> Gaussians:
    """One scene of N x H x W round Gaussians with the colours of the pixels, on the CPU.

    Args:
        depth: z-depth; pixels where it is not finite or not positive get an opacity of 0.
        images: RGB.
        intrinsics: in pixels of the depth.
        extrinsics: world-to-camera poses in the unit of the depth.
        sigma: standard deviation in pixels of the view that a Gaussian comes from.
        opacity: of every Gaussian with a depth.

    Raises:
        InputError: the sizes differ.
    """
    if images.shape != (*depth.shape, 3):
        raise InputError("images", f"shape {images.shape}", f"shape {(*depth.shape, 3)}")
    known = np.isfinite(depth) & (depth > 0)
    z = np.where(known, depth, 1).astype(np.float32)
    means = torch.from_numpy(unproject(z, intrinsics, extrinsics)).float().reshape(1, -1, 3)
    focal = np.sqrt(intrinsics[:, 0, 0] * intrinsics[:, 1, 1])
    scales = torch.from_numpy(z * (sigma / focal).astype(np.float32)[:, None, None]).reshape(1, -1, 1)
    colours = torch.from_numpy(images.astype(np.float32) / 255).reshape(1, -1, 3, 1)
    return Gaussians(
        means=means,
        scales=scales.expand(-1, -1, 3).contiguous(),
        rotations=means.new_tensor([1.0, 0, 0, 0]).repeat(1, means.shape[1], 1),
        harmonics=(colours - 0.5) / C0,
        opacities=torch.from_numpy(known.astype(np.float32) * np.float32(opacity)).reshape(1, -1),
    )


def plain_gaussians(prediction: Prediction) -> Gaussians:
    """:func:`gaussians_from_depth` of all pixels of a prediction, in view-row-column order.

    Raises:
        CapabilityError: the prediction has no cameras or no pictures.
    """
    images, lenses, poses = prediction.processed_images, prediction.intrinsics, prediction.extrinsics
    if images is None or lenses is None or poses is None:
        raise CapabilityError("prediction", "no cameras, or no pictures", "a prediction of a model with cameras")
    return gaussians_from_depth(prediction.depth, images, lenses, poses)
