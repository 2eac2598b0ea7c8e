"""Teaching cross-view attention to look at the same surface.

From scratch, the blocks that attend across views find no correspondence by themselves in any budget we can afford. An
auxiliary loss on their own queries and keys does it at once and adds no parameter: the attention of some heads, from
a patch of one view, should go to the patches of the other views that show the same surface. The softmax runs over all
keys, those of the own view included, or the attention that the network really computes would never leave its view.
Not in the paper.

Letters: B scenes, N views, P patches per view, T = 1 + P tokens, A heads, C channels of a head, gh gw patch grid.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.types.options import PATCH_SIZE

DEPTH_TOLERANCE = 0.1
"""Relative difference of depth up to which a reprojected point counts as the surface that is seen there."""


def patch_matches(
    depth: Float[Tensor, "B N H W"], intrinsics: Float[Tensor, "B N 3 3"], extrinsics: Float[Tensor, "B N 3 4"]
) -> Int[Tensor, "B N N P"]:
    """Which patch of view j shows the surface at the centre of a patch of view i; -1 where none does.

    Args:
        depth: z-depth, 0 where there is none.
        intrinsics: in pixels of the depth.
        extrinsics: world-to-camera.

    Returns:
        ``matches[b, i, j, p]``: patch index in view j, -1 for j = i.
    """
    height, width = depth.shape[-2:]
    grid_h, grid_w = height // PATCH_SIZE, width // PATCH_SIZE
    half = PATCH_SIZE // 2
    xy, z = _reprojected_centres(depth, intrinsics, extrinsics, half)
    column, row = (xy / PATCH_SIZE).floor().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < grid_w) & (row >= 0) & (row < grid_h)
    x, y = xy.floor().long().unbind(-1)
    flat = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(3)
    views = depth.shape[1]
    there = depth.flatten(2)[:, None].expand(-1, views, -1, -1).gather(3, flat).view_as(z)
    seen = inside & (there > 0) & ((there - z).abs() < DEPTH_TOLERANCE * z)
    seen &= ~torch.eye(views, dtype=torch.bool, device=depth.device)[None, :, :, None]
    return torch.where(seen, row * grid_w + column, -1)


def _reprojected_centres(
    depth: Tensor, intrinsics: Tensor, extrinsics: Tensor, half: int
) -> tuple[Float[Tensor, "B N N P 2"], Float[Tensor, "B N N P"]]:
    """Pixels in every view j, and depth there, of the surface at the patch centres of every view i."""
    height, width = depth.shape[-2:]
    rows = torch.arange(half, height, PATCH_SIZE, device=depth.device)
    columns = torch.arange(half, width, PATCH_SIZE, device=depth.device)
    z = depth[:, :, half::PATCH_SIZE, half::PATCH_SIZE].flatten(2)
    y, x = (v.flatten().to(depth.dtype) + 0.5 for v in torch.meshgrid(rows, columns, indexing="ij"))
    pixels = torch.stack([x, y, torch.ones_like(x)])
    camera = torch.linalg.inv(intrinsics.double()).to(depth.dtype) @ pixels * z[:, :, None]
    rotation, translation = extrinsics[..., :3], extrinsics[..., 3:]
    world = rotation.transpose(-1, -2) @ (camera - translation)  # (B, N, 3, P)
    local = rotation[:, None] @ world[:, :, None] + translation[:, None]
    image = intrinsics[:, None] @ local
    depth_there = torch.where(z[:, :, None] > 0, local[..., 2, :], -1.0)
    xy = image[..., :2, :] / image[..., 2:, :].clamp(min=1e-6)
    return xy.transpose(-1, -2).clamp(-1e6, 1e6), depth_there


def correspondence_loss(
    logits: Float[Tensor, "B A n n"], matches: Int[Tensor, "B N N P"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Cross-entropy of attention against the matches, and the share of queries whose best patch is right.

    Args:
        logits: over all tokens, from :meth:`~depth_anything_3.model.attention_tap.AttentionTap.logits`.
        matches: from :func:`patch_matches`. A patch seen in several views should share its attention between them.

    Returns:
        the loss, and the top-1 rate over pairs of views (the best patch of the other view), averaged over heads.
    """
    views, patches = matches.shape[1], matches.shape[3]
    tokens = 1 + patches
    per_query = logits.unflatten(-2, (views, tokens))[..., 1:, :]  # (B, A, N, P, n)
    log_share = per_query.log_softmax(-1).unflatten(-1, (views, tokens))[..., 1:]  # (B, A, i, P, j, Q)
    target = matches.permute(0, 1, 3, 2)[:, None, ..., None].expand(-1, logits.shape[1], -1, -1, -1, 1)
    known = target[..., 0] >= 0
    chosen = log_share.gather(-1, target.clamp(min=0))[..., 0]
    weight = known.to(chosen.dtype) / known.sum(-1, keepdim=True).clamp(min=1)
    count = known.any(-1).flatten(1).sum(1).clamp(min=1)
    loss = -(weight * chosen).flatten(1).sum(1) / count
    with torch.no_grad():
        right = (log_share.argmax(-1) == target[..., 0]) & known
        top1 = right.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)
    return loss, top1
