"""The losses of the paper, each a pure function with one value per sample.

A sample is one scene of N views. Equations are those of the Depth Anything 3 paper, section 3; where it leaves a
choice open, the docstring says what is taken here. Nothing is averaged over the batch: that is the objective's part.

Letters: B samples, N views, H W pixels, h w size of the ray map.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

DepthSpace = Literal["linear", "log"]

_NEAR_ZERO = 1e-6


def masked_mean(values: Float[Tensor, "B ..."], mask: Bool[Tensor, "B ..."]) -> Float[Tensor, " B"]:
    """Mean of each sample's values where the mask holds; 0 where it holds nowhere."""
    weight = mask.flatten(1).to(values.dtype)
    total = (torch.where(mask, values, 0.0)).flatten(1).sum(1)
    return total / weight.sum(1).clamp(min=1)


def points_scale(
    points: Float[Tensor, "B N H W 3"], valid: Bool[Tensor, "B N H W"], *, floor: float = 1e-3
) -> Float[Tensor, " B"]:
    """Mean distance of a sample's valid points from the origin of the reference view.

    All truth of a sample (depth, points, translations) is divided by it: "ground truth is normalised by the mean
    l2 norm of the valid points" (section 3.2). A sample without valid points has the scale 1.
    """
    scale = masked_mean(points.norm(dim=-1), valid)
    return torch.where(valid.flatten(1).any(1), scale.clamp(min=floor), 1.0)


def depth_loss(
    depth: Float[Tensor, "B N H W"],
    target: Float[Tensor, "B N H W"],
    valid: Bool[Tensor, "B N H W"],
    conf: Float[Tensor, "B N H W"] | None = None,
    *,
    conf_weight: float = 0.2,
    space: DepthSpace = "linear",
) -> Float[Tensor, " B"]:
    """Depth with confidence: 1/Z sum m (c |d' - d| - lambda log c) (section 3.2, L_D).

    Args:
        depth, target: positive where valid.
        conf: at least 1; None leaves the confidence out of it.
        conf_weight: lambda, which the paper does not state.
        space: ``log`` compares logarithms, so that near and far count alike (not in the paper; for small networks).
    """
    error = (_in_space(depth, space) - _in_space(target, space)).abs()
    if conf is not None:
        error = conf * error - conf_weight * conf.log()
    return masked_mean(error, valid)


def gradient_loss(
    depth: Float[Tensor, "B N H W"],
    target: Float[Tensor, "B N H W"],
    valid: Bool[Tensor, "B N H W"],
    *,
    space: DepthSpace = "linear",
    scales: int = 1,
) -> Float[Tensor, " B"]:
    """l1 difference of the finite differences along x and y (section 3.2, L_grad).

    Args:
        depth, target: positive where valid.
        space: as in :func:`depth_loss`.
        scales: also on every second, fourth, ... pixel; the paper has one scale.
    """
    difference = _in_space(depth, space) - _in_space(target, space)
    total = torch.zeros(len(depth), device=depth.device)
    for level in range(scales):
        step = 2**level
        d, m = difference[..., ::step, ::step], valid[..., ::step, ::step]
        if min(d.shape[-2:]) < 2:
            break
        total = total + masked_mean((d[..., 1:] - d[..., :-1]).abs(), m[..., 1:] & m[..., :-1])
        total = total + masked_mean((d[..., 1:, :] - d[..., :-1, :]).abs(), m[..., 1:, :] & m[..., :-1, :])
    return total


def ray_loss(
    ray: Float[Tensor, "B N h w 6"],
    target: Float[Tensor, "B N h w 6"],
    conf: Float[Tensor, "B N h w"] | None = None,
    *,
    conf_weight: float = 0.2,
    direction_weight: float = 1.0,
) -> Float[Tensor, " B"]:
    """l1 of the ray map: directions (channels 0-2) and origins (3-5) (section 3.2, L_M).

    Args:
        ray, target: see :func:`ray_map`.
        conf: at least 1, or None.
        conf_weight: as in :func:`depth_loss`.
        direction_weight: of the directions against the origins.
    """
    error = (ray - target).abs()
    error = direction_weight * error[..., :3].sum(-1) + error[..., 3:].sum(-1)
    if conf is not None:
        error = conf * error - conf_weight * conf.log()
    return error.flatten(1).mean(1)


def point_loss(
    depth: Float[Tensor, "B N h w"],
    ray: Float[Tensor, "B N h w 6"],
    target: Float[Tensor, "B N h w 3"],
    valid: Bool[Tensor, "B N h w"],
    *,
    relative: bool = False,
) -> Float[Tensor, " B"]:
    """l1 between predicted depth along predicted rays and the true points: |d' * dir' + t' - P| (section 3.2, L_P).

    Args:
        depth: at the size of the ray map, see :func:`at_ray_size`.
        ray: predicted rays.
        target: true points in the frame of the reference view.
        valid: where they are known.
        relative: divide by the distance of the point, so that far points do not drown near ones (not in the paper).
    """
    points = depth[..., None] * ray[..., :3] + ray[..., 3:]
    error = (points - target).abs().sum(-1)
    if relative:
        error = error / target.norm(dim=-1).clamp(min=0.1)
    return masked_mean(error, valid)


def camera_loss(
    pose_encoding: Float[Tensor, "B N 9"],
    target: Float[Tensor, "B N 9"],
    *,
    fov_weight: float = 0.5,
    quaternion_weight: float = 1.0,
) -> Float[Tensor, " B"]:
    """l1 of centre, quaternion and field of view (section 3.2, L_C).

    A quaternion and its negative are one rotation: the nearer sign is taken. Fields of view are compared as
    logarithms. The weights within the term are not in the paper.
    """
    centre, quat_xyzw, fov = pose_encoding.split([3, 4, 2], -1)
    true_centre, true_quat, true_fov = target.split([3, 4, 2], -1)
    true_quat = torch.where((quat_xyzw * true_quat).sum(-1, keepdim=True) < 0, -true_quat, true_quat)
    error = (centre - true_centre).abs().sum(-1)
    error = error + quaternion_weight * (quat_xyzw - true_quat).abs().sum(-1)
    error = error + fov_weight * (fov.clamp(min=0.05).log() - true_fov.log()).abs().sum(-1)
    # The clamp would leave a dead output unit without a gradient.
    error = error + fov_weight * (0.05 - fov).clamp(min=0).sum(-1)
    return error.mean(1)


def ray_map(
    intrinsics: Float[Tensor, "B N 3 3"],
    world_from_camera: Float[Tensor, "B N 3 4"],
    image_hw: tuple[int, int],
    size: tuple[int, int],
) -> Float[Tensor, "B N h w 6"]:
    """True rays: direction R K^-1 p, not normalised, and origin t, so that a world point is origin + z direction.

    Args:
        intrinsics: in pixels of the image.
        world_from_camera: camera-to-world poses.
        image_hw: size of the image.
        size: of the ray map; its pixel centres are spread over the image.
    """
    h, w = size
    y = (torch.arange(h, device=intrinsics.device) + 0.5) * (image_hw[0] / h)
    x = (torch.arange(w, device=intrinsics.device) + 0.5) * (image_hw[1] / w)
    k = intrinsics[..., None, None]
    v = (y[:, None] - k[..., 1, 2, :, :]) / k[..., 1, 1, :, :]
    u = (x - k[..., 0, 2, :, :] - k[..., 0, 1, :, :] * v) / k[..., 0, 0, :, :]
    camera = torch.stack([u, v.expand_as(u), torch.ones_like(u)], -1)
    rotation, centre = world_from_camera[..., :3], world_from_camera[..., 3]
    direction = torch.einsum("bnij,bnhwj->bnhwi", rotation, camera)
    return torch.cat([direction, centre[:, :, None, None].expand_as(direction)], -1)


def at_ray_size(maps: Float[Tensor, "B N H W"], size: tuple[int, int]) -> Float[Tensor, "B N h w"]:
    """Maps at the size of the ray map, by the nearest pixel: an average across an edge would be a flying point."""
    return F.interpolate(maps, list(size), mode="nearest-exact")


def _in_space(depth: Tensor, space: DepthSpace) -> Tensor:
    return depth.clamp(min=_NEAR_ZERO).log() if space == "log" else depth
