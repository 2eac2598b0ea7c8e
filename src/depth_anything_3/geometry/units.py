"""A prediction in another unit of length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from depth_anything_3.types.prediction import Prediction


def in_other_unit(prediction: Prediction, factor: float) -> Prediction:
    """Depth, poses, Gaussians and ``scale_factor`` times one factor; what is said of the unit stays as it is."""
    extrinsics, gaussians = prediction.extrinsics, prediction.gaussians
    if extrinsics is not None:
        extrinsics = np.concatenate([extrinsics[..., :3], extrinsics[..., 3:] * np.float32(factor)], -1)
    if gaussians is not None:
        from depth_anything_3.geometry.gaussians import scale_gaussians

        gaussians = scale_gaussians(gaussians, gaussians.means.new_tensor([factor]))
    return replace(
        prediction,
        depth=prediction.depth * np.float32(factor),
        extrinsics=extrinsics,
        gaussians=gaussians,
        scale_factor=None if prediction.scale_factor is None else prediction.scale_factor * factor,
    )
