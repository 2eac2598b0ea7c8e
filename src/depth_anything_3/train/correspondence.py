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

DEPTH_TOLERANCE = 0.1
"""Relative difference of depth up to which a patch counts as the surface that is seen there; more than where matches
are scored, since depth within a patch varies."""


def correspondence_loss(
    logits: Float[Tensor, "B A n n"], matches: Int[Tensor, "B N N P"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Cross-entropy of attention against the matches, and the share of queries whose best patch is right.

    Args:
        logits: over all tokens, from :meth:`~depth_anything_3.model.attention_tap.AttentionTap.logits`.
        matches: from :func:`~depth_anything_3.metrics.matching.true_patch_matches`, within :data:`DEPTH_TOLERANCE`. A
            patch seen in several views should share its attention between them.

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
