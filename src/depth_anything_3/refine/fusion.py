"""Measured depth where there is some, the network's shape everywhere else, without seams.

In log depth, with u the result, m what was measured with confidence c, n the network's:

    sum c (u - m)^2 + smoothness * sum over neighbours e (difference of u - difference of n)^2 + pull * sum (u - n)^2

So ``u - n`` is smooth where nothing was measured, and goes back to zero far from all measurements; it may jump where
the picture or what was measured has an edge (small e). Solved by conjugate gradients, from small sizes up.

Letters: V views, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_SMOOTHNESS = 2.0  # of the correction between two neighbours, against a measurement of full confidence
_PULL = 1e-2  # of the network's own depth at a pixel
_GREY_EDGE = 0.05  # difference of grey values that halves the smoothness
_DEPTH_EDGE = 0.03  # difference of measured log depth, less the network's, that does
_ROUNDS = 20  # of conjugate gradients at each size
_SMALLEST = 16  # pixels along a side from which a start is looked for at half the size


def fuse(
    network: Float[Tensor, "V H W"],
    measured: Float[Tensor, "V H W"],
    confidence: Float[Tensor, "V H W"],
    pictures: Float[Tensor, "V H W"],
) -> Float[Tensor, "V H W"]:
    """The fused log depth.

    Args:
        network: log depth.
        measured: log depth; anything where the confidence is 0.
        confidence: of the measurements, from 0 to 1.
        pictures: grey values from 0 to 1.
    """
    residual = torch.where(confidence > 0, measured - network, 0.0)
    own = confidence + _PULL
    return network + _solved(confidence * residual / own, own, _edges(residual, confidence, pictures))


Edges = tuple[Tensor, Tensor]
"""Smoothness between neighbours in a column (V, H - 1, W) and in a row (V, H, W - 1)."""


def _edges(residual: Tensor, confidence: Tensor, pictures: Tensor) -> Edges:
    def along(axis: int) -> Tensor:
        grey = pictures.diff(dim=axis) / _GREY_EDGE
        size = residual.shape[axis]
        both = torch.minimum(confidence.narrow(axis, 1, size - 1), confidence.narrow(axis, 0, size - 1))
        jump = both * residual.diff(dim=axis) / _DEPTH_EDGE
        return _SMOOTHNESS / ((1 + grey**2) * (1 + jump**2))

    return along(1), along(2)


def _solved(target: Tensor, own: Tensor, edges: Edges) -> Tensor:
    """The correction that keeps to the target by ``own``; a start comes from the same problem at half the size."""
    start = torch.zeros_like(target)
    if min(target.shape[1:]) >= _SMALLEST:
        smaller = _solved(*_halved(target, own, edges))[:, None]
        start = F.interpolate(smaller, size=target.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return _conjugate_gradients(target, own, edges, start)


def _halved(target: Tensor, own: Tensor, edges: Edges) -> tuple[Tensor, Tensor, Edges]:
    """The problem on blocks of 2 x 2 pixels; an edge between blocks is as strong as the weakest on its way."""
    total = _pooled(own)
    height, width = total.shape[1:]
    down, right = _weakest(edges[0])[:, : height - 1], _weakest(edges[1])[:, :, : width - 1]
    return _pooled(target * own) / total, total, (down, right)


def _weakest(edges: Tensor) -> Tensor:
    """The smallest of each block of 2 x 2; torch's pooling works on one view with one thread."""
    height, width = edges.shape[1:]
    even = F.pad(edges, (0, width % 2, 0, height % 2), value=float("inf"))
    rows = torch.minimum(even[:, ::2], even[:, 1::2])
    return torch.minimum(rows[:, :, ::2], rows[:, :, 1::2])


def _pooled(values: Tensor) -> Tensor:
    """Sums over blocks; those at the border count as whole ones."""
    return 4 * F.avg_pool2d(values, 2, 2, ceil_mode=True)


def _conjugate_gradients(target: Tensor, own: Tensor, edges: Edges, start: Tensor) -> Tensor:
    """With the diagonal as preconditioner; every view is a problem of its own."""
    diagonal = _diagonal(own, edges)
    solution = start.clone()
    left = own * target - _times(solution, diagonal, edges)
    direction = left / diagonal
    size = _dot(left, direction)
    for _ in range(_ROUNDS):
        image = _times(direction, diagonal, edges)
        step = size / _dot(direction, image).clamp(min=1e-30)
        solution.addcmul_(direction, step)
        left.addcmul_(image, step, value=-1)
        scaled = left / diagonal
        before, size = size, _dot(left, scaled)
        direction = direction.mul_(size / before.clamp(min=1e-30)).add_(scaled)
    return solution


def _times(values: Tensor, diagonal: Tensor, edges: Edges) -> Tensor:
    """The matrix of the normal equations times values."""
    down, right = edges
    result = diagonal * values
    result[:, 1:].addcmul_(down, values[:, :-1], value=-1)
    result[:, :-1].addcmul_(down, values[:, 1:], value=-1)
    result[:, :, 1:].addcmul_(right, values[:, :, :-1], value=-1)
    result[:, :, :-1].addcmul_(right, values[:, :, 1:], value=-1)
    return result


def _diagonal(own: Tensor, edges: Edges) -> Tensor:
    down, right = edges
    result = own.clone()
    result[:, 1:] += down
    result[:, :-1] += down
    result[:, :, 1:] += right
    result[:, :, :-1] += right
    return result


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)
