"""From what the heads report to cameras, sky and metres: pure functions with the published behaviour as default.

Every statistic is taken over one scene, never over the batch, and without random sampling.

Letters: B scenes, N views, H W pixels.
"""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SKY_THRESHOLD = 0.3
"""Scores below it are not sky."""

SKY_QUANTILE = 0.99
CANONICAL_FOCAL = 300.0
"""The metric network predicts depth for a camera with this focal length in pixels."""

_MIN_PIXELS = 10  # of either kind, before a statistic is believed
_MAX_METRIC_SKY_DEPTH = 200.0  # metres
_SKY_CONFIDENCE = 1.0  # the lowest value that 1 + exp(x) can take


def fill_sky(
    depth: Float[Tensor, "B N H W"],
    sky: Float[Tensor, "B N H W"],
    *,
    threshold: float = SKY_THRESHOLD,
    max_depth: float | None = None,
) -> Float[Tensor, "B N H W"]:
    """Depth with the sky of each scene set to the 99 % quantile of what is not sky.

    A scene with hardly any sky, or hardly anything else, stays as it is.

    Args:
        depth, sky: z-depth and sky score.
        threshold: scores from here on are sky.
        max_depth: upper bound of the value that is filled in.
    """
    return torch.stack([_fill_scene(d, s < threshold, max_depth) for d, s in zip(depth, sky, strict=True)])


def _fill_scene(
    depth: Float[Tensor, "N H W"], non_sky: Bool[Tensor, "N H W"], max_depth: float | None
) -> Float[Tensor, "N H W"]:
    count = int(non_sky.sum())
    if count <= _MIN_PIXELS or non_sky.numel() - count <= _MIN_PIXELS:
        return depth
    value = quantile(depth[non_sky], SKY_QUANTILE)
    if max_depth is not None:
        value = value.clamp(max=max_depth)
    return torch.where(non_sky, depth, value)


def quantile(values: Float[Tensor, " n"], q: float) -> Float[Tensor, ""]:
    """Quantile with linear interpolation of any number of values (``torch.quantile`` stops at 16 million)."""
    rank = q * (len(values) - 1)
    below = int(rank)
    low = values.kthvalue(below + 1).values
    high = values.kthvalue(min(below + 2, len(values))).values
    return torch.lerp(low, high, rank - below)


def metric_depth(canonical: Float[Tensor, "B N H W"], intrinsics: Float[Tensor, "B N 3 3"]) -> Float[Tensor, "B N H W"]:
    """Metres from the metric network's output: times the focal length in pixels (mean of fx and fy), over 300."""
    focal = (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2
    return canonical * (focal / CANONICAL_FOCAL)[..., None, None]


def metric_scale(
    depth: Float[Tensor, "B N H W"],
    depth_conf: Float[Tensor, "B N H W"],
    metres: Float[Tensor, "B N H W"],
    sky: Float[Tensor, "B N H W"],
) -> Float[Tensor, " B"]:
    """Factor per scene that brings the relative depth to metres; NaN where nothing can tell.

    Least squares without shift over the more confident half of the pixels that are not sky.
    """
    scales = [_scene_scale(*scene) for scene in zip(depth, depth_conf, metres, sky < SKY_THRESHOLD, strict=True)]
    return torch.stack(scales)


def _scene_scale(depth: Tensor, conf: Tensor, metres: Tensor, non_sky: Tensor) -> Float[Tensor, ""]:
    plausible = non_sky & (metres > 1e-2) & (depth > 1e-3)
    if int(non_sky.sum()) <= _MIN_PIXELS or not plausible.any():
        return depth.new_tensor(torch.nan)
    confident = plausible & (conf >= quantile(conf[non_sky], 0.5))
    chosen = confident if confident.any() else plausible
    x, y = depth[chosen], metres[chosen]
    return (x @ y) / (x @ x).clamp(min=1e-12)


def to_metres(
    depth: Float[Tensor, "B N H W"],
    depth_conf: Float[Tensor, "B N H W"],
    extrinsics: Float[Tensor, "B N 3 4"],
    scale: Float[Tensor, " B"],
    sky: Float[Tensor, "B N H W"],
) -> tuple[Float[Tensor, "B N H W"], Float[Tensor, "B N H W"], Float[Tensor, "B N 3 4"]]:
    """Depth, confidence and extrinsics of each scene in metres, sky far away and of lowest confidence.

    A scene whose scale is NaN stays in its own unit, with a warning.
    """
    known = ~scale.isnan()
    if not known.all():
        warnings.warn(
            "metric scale: nothing but sky, or no overlap of valid depth, in "
            f"{int((~known).sum())} of {len(scale)} scenes; their depth and poses stay relative",
            stacklevel=3,
        )
    factor = torch.where(known, scale, 1.0)
    depth = depth * factor[:, None, None, None]
    extrinsics = torch.cat([extrinsics[..., :3], extrinsics[..., 3:] * factor[:, None, None, None]], -1)
    non_sky = sky < SKY_THRESHOLD
    enough = (non_sky.flatten(1).sum(1) > _MIN_PIXELS)[:, None, None, None]
    depth_conf = torch.where(non_sky | ~enough, depth_conf, _SKY_CONFIDENCE)
    return fill_sky(depth, sky, max_depth=_MAX_METRIC_SKY_DEPTH), depth_conf, extrinsics
