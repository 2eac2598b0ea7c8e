"""How well other views agree with a view at depths round a given one (a plane sweep along a surface).

The surface is what is known so far; the hypotheses are that surface times factors, so that a window lies on it at its
slant instead of facing the camera. Compared is the contrast of pictures: their grey values less the mean round each
pixel, over the deviation there. Agreement is the mean over windows of the product of two contrasts: a normalised
cross-correlation that takes means and deviations from each picture by itself, so that a hypothesis needs one sum over
windows instead of three. It is blind to brightness and contrast, and near 0 where there is no texture.

Letters: N pictures, S source views, D hypotheses, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

NEAREST = 1e-6
"""Depth in a source over depth in the view, below which a point counts as behind the source: it is far outside."""

_FLAT = (2 / 255) ** 2  # variance of grey values below which a window holds little but noise
_FAINT = 0.05  # mean square of contrast below which it is not made larger
_CHUNK = 100_000  # pixels times hypotheses at one time

_Map = TypeVar("_Map")


def contrast(pictures: Float[Tensor, "N H W"], radius: int) -> Float[Tensor, "N H W"]:
    """What :func:`agreement` compares: zero in the mean, its square one in the mean, less where there is no texture.

    Args:
        pictures: grey values from 0 to 1.
        radius: of the windows that means and deviations are taken from, in pixels.
    """
    mean, variance = _moments(pictures, radius)
    flat = (pictures - mean) * (variance + _FLAT).rsqrt()
    return flat * (_means(flat * flat, radius) + _FAINT).rsqrt()


def texture(pictures: Float[Tensor, "N H W"], radius: int) -> Float[Tensor, "N H W"]:
    """From 0 to 1: the part of the variance in the window round each pixel that noise does not explain."""
    variance = _moments(pictures, radius)[1]
    return variance / (variance + _FLAT)


def agreement(
    view: Float[Tensor, "H W"],
    surface: Float[Tensor, "H W"],
    factors: Float[Tensor, " D"],
    sources: Float[Tensor, "S H W"],
    projections: Float[Tensor, "S 3 4"],
    *,
    radius: int,
) -> Float[Tensor, "D H W"]:
    """Agreement of a view with its sources, the mean of the better half of them: occluders differ by source.

    Args:
        view: its :func:`contrast`.
        surface: z-depth, positive everywhere.
        factors: what to multiply the surface by.
        sources: contrast of the other views.
        projections: of each source, from ``(depth * (x, y, 1), 1)`` of a pixel of the view to homogeneous pixels.
        radius: of the windows, in pixels.

    Returns:
        about -1 to 1; what falls outside of a source, or behind it, counts as 0.
    """
    own = _with_border(view[None], radius)
    warps = [_Warp(source, projection) for source, projection in zip(sources, projections, strict=True)]
    nearness = 1 / surface
    scores = surface.new_empty((len(factors), *surface.shape))
    per_chunk = max(1, _CHUNK // view.numel())
    for first in range(0, len(factors), per_chunk):
        chosen = slice(first, first + per_chunk)
        hypotheses = nearness / factors[chosen, None, None]
        products = [_window_sums(_with_border(warp.seen(hypotheses), radius).mul_(own), radius) for warp in warps]
        scores[chosen] = better_half(products, torch.maximum, torch.minimum)
    return scores.div_((2 * radius + 1) ** 2)


def better_half(values: Sequence[_Map], larger: Callable[..., _Map], smaller: Callable[..., _Map]) -> _Map:
    """Mean over the larger half (rounded up) of a short list, by exchanging neighbours until it is in order.

    Args:
        values: of tensors or arrays.
        larger, smaller: of two of them.
    """
    ordered = list(values)
    half = (len(ordered) + 1) // 2
    for place in range(half):
        for i in range(len(ordered) - 1, place, -1):
            a, b = ordered[i - 1], ordered[i]
            ordered[i - 1], ordered[i] = larger(a, b), smaller(a, b)
    return sum(ordered[1:half], ordered[0]) / half  # type: ignore[call-overload]


def pixel_rays(height: int, width: int, device: torch.device) -> Float[Tensor, "3 H W"]:
    """(x, y, 1) of every pixel centre, the top-left one at (0.5, 0.5)."""
    x, y = torch.arange(width, device=device) + 0.5, torch.arange(height, device=device) + 0.5
    columns, rows = x.expand(height, width), y[:, None].expand(height, width)
    return torch.stack([columns, rows, torch.ones_like(columns)])


def along_rays(
    projection: Float[Tensor, "3 4"], size: torch.Size, places: Sequence[Sequence[float]]
) -> tuple[Float[Tensor, "3 H W"], list[float]]:
    """Where the points of a view lie in a source of the same size: homogeneous places far plus nearness times shift.

    Args:
        projection: as of :func:`agreement`.
        size: rows and columns.
        places: 3 x 3, from homogeneous pixels to how places are counted.
    """
    height, width = size
    projection = projection.new_tensor(places) @ projection
    far = torch.tensordot(projection[:, :3], pixel_rays(height, width, projection.device), 1)
    return far, projection[:, 3].tolist()


class _Warp:
    """A source view, to be looked up where the hypotheses of another view lie in it."""

    def __init__(self, source: Float[Tensor, "H W"], projection: Float[Tensor, "3 4"]) -> None:
        self.source = source
        height, width = source.shape
        # grid_sample counts from -1 to 1 between the borders of the picture.
        to_grid = [[2 / width, 0.0, -1.0], [0.0, 2 / height, -1.0], [0.0, 0.0, 1.0]]
        self.far, self.shift = along_rays(projection, source.shape, to_grid)

    def seen(self, nearness: Float[Tensor, "D H W"]) -> Float[Tensor, "D H W"]:
        """The source where points of that nearness, one over the depth, lie in it; 0 outside."""
        x, y, z = (torch.add(far, nearness, alpha=shift) for far, shift in zip(self.far, self.shift, strict=True))
        inverse = z.clamp_(min=NEAREST).reciprocal_()
        places = torch.stack([x.mul_(inverse), y.mul_(inverse)])
        return F.grid_sample(
            self.source.expand(len(nearness), 1, *self.source.shape),
            places.permute(1, 2, 3, 0),
            padding_mode="zeros",
            align_corners=False,
        )[:, 0]


def _moments(pictures: Float[Tensor, "N H W"], radius: int) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N H W"]]:
    """Mean and variance of the window round each pixel."""
    centred = pictures - 0.5  # about the middle grey squares lose less
    mean = _means(centred, radius)
    variance = _means(centred**2, radius) - mean**2
    return mean + 0.5, variance.clamp(min=0)


def _means(values: Float[Tensor, "N H W"], radius: int) -> Float[Tensor, "N H W"]:
    return _window_sums(_with_border(values, radius), radius) / (2 * radius + 1) ** 2


def _with_border(values: Float[Tensor, "D H W"], radius: int) -> Float[Tensor, "D h w"]:
    """Beyond the border its pixels are repeated."""
    return F.pad(values[:, None], (radius,) * 4, mode="replicate")[:, 0]


def _window_sums(bordered: Float[Tensor, "D h w"], radius: int) -> Float[Tensor, "D H W"]:
    """Sums over windows of 2 radius + 1."""
    return _run_sums(_run_sums(bordered, 2 * radius + 1, 1), 2 * radius + 1, 2)


def _run_sums(values: Tensor, length: int, axis: int) -> Tensor:
    """Sums of runs along an axis, put together from runs of 1, 2, 4, ...: fewer additions than one by one."""
    count = values.shape[axis] - length + 1
    run, parts, start = values, [], 0
    for bit in range(length.bit_length()):
        size = 1 << bit
        if bit:
            rest = run.shape[axis] - size // 2
            run = run.narrow(axis, 0, rest) + run.narrow(axis, size // 2, rest)
        if length & size:
            parts.append(run.narrow(axis, start, count))
            start += size
    return sum(parts[1:], parts[0])
