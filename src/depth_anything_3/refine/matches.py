"""Matches between views from the network's own cross-view attention.

A network that was trained with :mod:`depth_anything_3.train.correspondence` looks, in some heads of some blocks, from a
patch to the same place in the other views. The best patch of another view, with the attention around it, says where
that is to a fraction of a patch.

Letters: N views, P patches per view, gh gw patch grid, T = 1 + P tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import CapabilityError
from depth_anything_3.model.attention_tap import AttentionTap, tapped
from depth_anything_3.model.da3 import DepthAnything3Net, NestedDepthAnything3Net
from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
from depth_anything_3.refine.cameras import Matches
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import PATCH_SIZE

Network = DepthAnything3Net | NestedDepthAnything3Net

MATCHING_BLOCKS = (5, 7)
MATCHING_HEADS = 2
"""What the bundled network was trained with."""


def read_matches(
    taps: Sequence[AttentionTap],
    views: int,
    grid: tuple[int, int],
    *,
    heads: int = MATCHING_HEADS,
    min_weight: float = 0.02,
) -> Matches:
    """Matches from what some blocks attended to while a network ran on one scene.

    Args:
        taps: on blocks across views, from :func:`~depth_anything_3.model.attention_tap.tapped`; their attention is
            averaged. The network must have kept the order of the views (``ref_view_strategy="first"``).
        views: how many.
        grid: rows and columns of patches.
        heads: that many of each block, from the first.
        min_weight: matches below it are left out.
    """
    return attention_matches(_attention(taps, views, grid, heads), grid, min_weight=min_weight)


def best_patches(
    taps: Sequence[AttentionTap], views: int, grid: tuple[int, int], *, heads: int = MATCHING_HEADS
) -> Int[Tensor, "N N P"]:
    """Per view, other view and patch, the patch there that gets the most attention; see :func:`read_matches`."""
    found = [_attention(taps, views, grid, heads, of=view)[0].argmax(-1).T for view in range(views)]
    return torch.stack(found)


def matching_backbone(net: Network) -> DinoVisionTransformer:
    """The part of a network whose attention is read; of a nested one that for any number of views.

    Raises:
        CapabilityError: some of :data:`MATCHING_BLOCKS` do not look across views.
    """
    backbone = (net.da3 if isinstance(net, NestedDepthAnything3Net) else net).backbone.pretrained
    if not all(i < backbone.depth and backbone.is_global(i) for i in MATCHING_BLOCKS):
        what = f"a network whose blocks {' and '.join(map(str, MATCHING_BLOCKS))} look across views, or 'sift'"
        raise CapabilityError("matcher", "'attention'", what)
    return backbone


def best_patches_of(
    net: Network, inputs: ModelInputs, *, device: torch.device, dtype: torch.dtype
) -> Int[np.ndarray, "N N P"]:
    """:func:`best_patches` of one scene, by a pass of the backbone of its own.

    It keeps the order of the views, and is not conditioned on cameras.

    Args:
        net: see :func:`matching_backbone`.
        inputs: the views.
        device, dtype: as the network runs.
    """
    backbone = matching_backbone(net)
    images = torch.from_numpy(inputs.images)[None].to(device)
    grid = (images.shape[-2] // PATCH_SIZE, images.shape[-1] // PATCH_SIZE)
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        tapped(backbone, MATCHING_BLOCKS) as taps,
    ):
        backbone(images, ref_view_strategy="first")
        best: npt.NDArray[np.int64] = best_patches(taps, images.shape[1], grid).cpu().numpy()
    return best


def _attention(
    taps: Sequence[AttentionTap], views: int, grid: tuple[int, int], heads: int, of: int | None = None
) -> Float[Tensor, "I P N P"]:
    """Shares of the patches of all views, or of one."""
    tokens = 1 + grid[0] * grid[1]
    shares = [tap.logits(views, slice(0, heads), of=of).softmax(-1).mean(1)[0] for tap in taps]
    attention = torch.stack(shares).mean(0).unflatten(0, (-1, tokens)).unflatten(2, (views, tokens))
    return attention[:, 1:, :, 1:]


def attention_matches(
    attention: Float[Tensor, "N P N P"], grid: tuple[int, int], *, min_weight: float = 0.02, most: int = 64
) -> Matches:
    """One match per patch and other view: the most attended patch, moved by the attention around it.

    Its weight is the attention that the patch and its neighbours get, as a share of the most that they could get from
    one of N views, times the same in the opposite direction: a match that is not mutual counts little.

    Args:
        attention: share of the patch (view, patch) that goes to another (view, patch).
        grid: rows and columns of patches.
        min_weight: matches below it are left out.
        most: matches of one view with another, those of the largest weight.
    """
    views = attention.shape[0]
    others = [(i, j) for i in range(views) for j in range(views) if i != j]
    ends, first, second, weights = [], [], [], []
    centres = _centres(grid, attention.device)
    for i, j in others:
        there, back = attention[i, :, j], attention[j, :, i]
        best = there.argmax(-1)
        place, mass = _around(there, best, grid)
        returned = _returned(back, best, grid)
        weight = (views - 1) * mass.clamp(max=1 / (views - 1)) * returned
        chosen = weight.argsort(descending=True, stable=True)[:most].sort().values
        ends.append(torch.tensor([[i, j]]).expand(len(chosen), 2))
        first.append(centres[chosen])
        second.append(place[chosen])
        weights.append(weight[chosen])
    weight = torch.cat(weights).cpu()
    keep = weight >= min_weight
    return Matches(
        views=torch.cat(ends)[keep],
        first=torch.cat(first).cpu()[keep],
        second=torch.cat(second).cpu()[keep],
        weight=weight[keep].clamp(max=1.0),
    )


def _centres(grid: tuple[int, int], device: torch.device) -> Float[Tensor, "P 2"]:
    rows, columns = (torch.arange(n, device=device, dtype=torch.float32) + 0.5 for n in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1) * PATCH_SIZE


def _around(attention: Tensor, best: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean position and sum of the attention in the 3 x 3 patches around the best one: (P, 2) and (P,)."""
    centres = _centres(grid, attention.device)
    near = (centres[best][:, None] - centres[None]).abs().amax(-1) < 1.5 * PATCH_SIZE
    local = torch.where(near, attention, 0.0)
    mass = local.sum(-1)
    return local @ centres / mass[:, None].clamp(min=1e-9), mass


def _returned(back: Tensor, best: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much of what the matched patch sends back to this view comes to where it started: (P,)."""
    centres = _centres(grid, back.device)
    sent = back[best]
    near = (centres[:, None] - centres[None]).abs().amax(-1) < 1.5 * PATCH_SIZE
    return torch.where(near, sent, 0.0).sum(-1) / sent.sum(-1).clamp(min=1e-9)
