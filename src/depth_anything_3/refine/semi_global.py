"""Semi-global matching: costs of hypotheses, made smooth along the rows and columns of a picture.

Along a path ``L(p, d) = C(p, d) + min(L(q, d), L(q, d +- 1) + small, min L(q) + large) - min L(q)`` with q the pixel
before p (Hirschmueller, PAMI 2008, equation 13); what is minimised in the end is the sum over four paths.

Letters: V views, D hypotheses, H W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def smooth_costs(
    costs: Float[Tensor, "V D H W"], large: Float[Tensor, "V H W"], *, small: float
) -> Float[Tensor, "V D H W"]:
    """Sum over four paths: from the top, bottom, left and right.

    Args:
        costs: of each hypothesis at each pixel, lower is better.
        large: penalty for a jump of more than one hypothesis between this pixel and the one before.
        small: penalty for a step by one.
    """
    total = _down_and_up(costs, large, small)
    turned = _down_and_up(costs.transpose(2, 3).contiguous(), large.transpose(1, 2).contiguous(), small)
    return total.add_(turned.transpose(2, 3))


def _down_and_up(costs: Tensor, large: Tensor, small: float) -> Tensor:
    """Sum of the paths along the third axis and back."""
    total = torch.zeros_like(costs)
    for order in (range(costs.shape[2]), range(costs.shape[2] - 1, -1, -1)):
        before: Tensor | None = None
        for i in order:
            here = costs[:, :, i] if before is None else costs[:, :, i] + _arrived(before, large[:, i], small)
            total[:, :, i] += here
            before = here
    return total


def _arrived(before: Float[Tensor, "V D W"], large: Float[Tensor, "V W"], small: float) -> Tensor:
    """What the best way from the pixel before adds."""
    lowest = before.amin(1, keepdim=True)
    best = torch.minimum(before, lowest + large[:, None])
    stepped = before + small
    torch.minimum(best[:, 1:], stepped[:, :-1], out=best[:, 1:])
    torch.minimum(best[:, :-1], stepped[:, 1:], out=best[:, :-1])
    return best.sub_(lowest)
