"""Choice of the reference view, whose camera becomes the origin of the predicted world.

All rules are tensor operations on the class tokens: no value reaches Python, so the choice can be traced.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.types.options import REFERENCE_VIEW_STRATEGIES, check_choice

MIN_VIEWS = 3
"""With fewer views there is nothing to choose: the first one is the reference."""


def select_reference(
    class_tokens: Float[Tensor, "batch views C"], strategy: str = "saddle_balanced"
) -> Int[Tensor, " batch"]:
    """Index of the reference view of each scene.

    Strategies:
        ``first``, ``middle``: by position.
        ``saddle_balanced``: the view whose mean similarity to the others, token norm and feature variance, each scaled
            to [0, 1] over the scene, lie closest to one half.
        ``saddle_sim_range``: the view with the largest gap between its highest and lowest similarity. As published,
            the zero similarity of a view with itself takes part, so that the two most alike views tie; the lower
            index wins.
        ``saddle_sim_range_others``: the same without that zero, as the published description means it; other choices,
            so it is not the default of anything.
    """
    check_choice("ref_view_strategy", strategy, REFERENCE_VIEW_STRATEGIES)
    batch, views, _ = class_tokens.shape
    if views < MIN_VIEWS or strategy == "first":
        return torch.zeros(batch, dtype=torch.int64, device=class_tokens.device)
    if strategy == "middle":
        return torch.full((batch,), views // 2, dtype=torch.int64, device=class_tokens.device)
    tokens = class_tokens.float()
    if strategy == "saddle_balanced":
        return _saddle_balanced(tokens).argmin(-1)
    similarity = _similarity(tokens)
    if strategy == "saddle_sim_range_others":
        diagonal = torch.eye(views, dtype=torch.bool, device=tokens.device)
        low = similarity.masked_fill(diagonal, torch.inf).amin(-1)
        return _first_of_best(similarity.masked_fill(diagonal, -torch.inf).amax(-1) - low)
    return _first_of_best(similarity.amax(-1) - similarity.amin(-1))


def _similarity(tokens: Float[Tensor, "batch views C"]) -> Float[Tensor, "batch views views"]:
    """Cosine similarities with a zero diagonal."""
    features = F.normalize(tokens, dim=-1, eps=0.0)
    return features @ features.transpose(-1, -2) - torch.eye(tokens.shape[1], device=tokens.device)


def _saddle_balanced(tokens: Float[Tensor, "batch views C"]) -> Float[Tensor, "batch views"]:
    norms = tokens.norm(dim=-1)
    similarity = _similarity(tokens).sum(-1) / (tokens.shape[1] - 1)
    variance = F.normalize(tokens, dim=-1, eps=0.0).var(-1)
    metrics = torch.stack([similarity, norms, variance], -1)
    low, high = metrics.amin(1, keepdim=True), metrics.amax(1, keepdim=True)
    return ((metrics - low) / (high - low + 1e-8) - 0.5).abs().sum(-1)


def _first_of_best(scores: Float[Tensor, "batch views"]) -> Int[Tensor, " batch"]:
    """Lowest index among the scores that differ from the best by no more than rounding."""
    best = scores.amax(-1, keepdim=True)
    return (scores >= best - 1e-6 * best.abs()).int().argmax(-1)


def reference_first(reference: Int[Tensor, " batch"], views: int) -> Int[Tensor, "batch views"]:
    """Permutation that moves the reference to the front and keeps the order of the others: [r, 0, ..., views-1]."""
    index = torch.arange(views, device=reference.device)
    shifted = index - (index <= reference[:, None]).long()  # 0..r become -1..r-1, the rest stay
    return torch.where(index == 0, reference[:, None], shifted)


def reorder(x: Tensor, order: Int[Tensor, "batch views"]) -> Tensor:
    """``x[b, order[b, i]]`` for tensors (batch, views, ...)."""
    index = order.reshape(*order.shape, *[1] * (x.ndim - 2)).expand_as(x)
    return x.gather(1, index)
