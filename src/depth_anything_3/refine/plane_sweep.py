"""How well other views agree with a view at depths round a given one (a plane sweep along a surface).

The surface is what is known so far; the hypotheses are that surface times factors, so that a window lies on it at its
slant instead of facing the camera. Agreement is normalised cross-correlation over square windows: blind to brightness
and contrast, and near 0 where there is no texture.

Letters: S source views, D hypotheses, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_FLAT = (2 / 255) ** 2  # variance of grey values below which a window holds little but noise
_CHUNK = 100_000  # pixels times hypotheses at one time: what stays in a processor's cache


def agreement(
    picture: Float[Tensor, "H W"],
    surface: Float[Tensor, "H W"],
    factors: Float[Tensor, " D"],
    sources: Float[Tensor, "S H W"],
    projections: Float[Tensor, "S 3 4"],
    *,
    radius: int,
) -> Float[Tensor, "D H W"]:
    """Cross-correlation of a view with its sources, the mean of the better half of them: occluders differ by source.

    Args:
        picture: grey values from 0 to 1.
        surface: z-depth, positive everywhere.
        factors: what to multiply the surface by.
        sources: grey values of the other views.
        projections: of each source, from ``(depth * (x, y, 1), 1)`` of a pixel of the view to homogeneous pixels.
        radius: of the windows, in pixels.

    Returns:
        from -1 to 1; 0 where a pixel falls outside of a source.
    """
    windows = Windows(picture - 0.5, radius)
    warps = [_Warp(source - 0.5, projection) for source, projection in zip(sources, projections, strict=True)]
    nearness = 1 / surface
    scores = surface.new_empty((len(factors), *surface.shape))
    per_chunk = max(1, _CHUNK // picture.numel())
    for first in range(0, len(factors), per_chunk):
        chosen = slice(first, first + per_chunk)
        hypotheses = nearness / factors[chosen, None, None]
        scores[chosen] = _better_half([_score(windows, warp, hypotheses) for warp in warps])
    return scores


def pixel_rays(height: int, width: int, device: torch.device) -> Float[Tensor, "3 H W"]:
    """(x, y, 1) of every pixel centre, the top-left one at (0.5, 0.5)."""
    x, y = torch.arange(width, device=device) + 0.5, torch.arange(height, device=device) + 0.5
    columns, rows = x.expand(height, width), y[:, None].expand(height, width)
    return torch.stack([columns, rows, torch.ones_like(columns)])


class Windows:
    """Square windows of a picture, with what every correlation needs of them."""

    def __init__(self, picture: Float[Tensor, "H W"], radius: int) -> None:
        self.radius = radius
        self.pixels = (2 * radius + 1) ** 2
        self.flat = self.pixels * _FLAT
        self.picture = _with_border(picture[None], radius)
        self.sum = _window_sums(self.picture, radius)
        self.inverse_deviation = self._inverse_deviation(self.picture, self.sum)

    @property
    def texture(self) -> Float[Tensor, "H W"]:
        """From 0 to 1: the part of the variance in a window that noise does not explain."""
        return (1 - self.flat * self.inverse_deviation**2)[0].clamp(min=0)

    def correlation(self, other: Float[Tensor, "D H W"]) -> Float[Tensor, "D H W"]:
        """Normalised cross-correlation with other pictures, pixel by pixel."""
        other = _with_border(other, self.radius)
        total = _window_sums(other, self.radius)
        product = _window_sums(other * self.picture, self.radius).addcmul_(total, self.sum, value=-1 / self.pixels)
        return product.mul_(self._inverse_deviation(other, total)).mul_(self.inverse_deviation)

    def _inverse_deviation(self, bordered: Float[Tensor, "D h w"], total: Float[Tensor, "D H W"]) -> Tensor:
        """One over the root of the sum of squares about the mean of each window, noise added."""
        square = _window_sums(bordered * bordered, self.radius).addcmul_(total, total, value=-1 / self.pixels)
        return square.clamp_(min=0).add_(self.flat).rsqrt_()


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


class _Warp:
    """A source view, to be looked up where the hypotheses of another view lie in it."""

    def __init__(self, source: Float[Tensor, "H W"], projection: Float[Tensor, "3 4"]) -> None:
        self.source = source
        height, width = source.shape
        # grid_sample counts from -1 to 1 between the borders of the picture.
        to_grid = projection.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
        projection = to_grid @ projection
        self.far = torch.tensordot(projection[:, :3], pixel_rays(height, width, source.device), 1)
        self.shift = projection[:, 3].tolist()

    def grid(self, nearness: Float[Tensor, "D H W"]) -> tuple[Float[Tensor, "2 D H W"], Float[Tensor, "D H W"]]:
        """Places for grid_sample, and whether they are inside: 1, fading to 0 over the last pixel, and 0 behind."""
        height, width = self.source.shape
        x, y, z = (torch.add(far, nearness, alpha=shift) for far, shift in zip(self.far, self.shift, strict=True))
        # What is behind the source falls far outside.
        inverse = z.clamp_(min=1e-9).reciprocal_()
        places = torch.stack([x.mul_(inverse), y.mul_(inverse)])
        across = torch.rsub(x.abs_(), width / 2, alpha=width / 2)  # pixels to the border: width / 2 * (1 - |x|)
        along = torch.rsub(y.abs_(), height / 2, alpha=height / 2)
        return places, torch.minimum(across, along, out=across).clamp_(0, 1)


def _score(windows: Windows, warp: _Warp, nearness: Float[Tensor, "D H W"]) -> Float[Tensor, "D H W"]:
    places, inside = warp.grid(nearness)
    seen = F.grid_sample(
        warp.source.expand(len(nearness), 1, *warp.source.shape),
        places.permute(1, 2, 3, 0),
        padding_mode="border",
        align_corners=False,
    )[:, 0]
    return windows.correlation(seen).mul_(inside)


def _better_half(values: list[Float[Tensor, "D H W"]]) -> Float[Tensor, "D H W"]:
    """Mean over the larger half (rounded up) of a short list, by exchanging neighbours until it is in order."""
    ordered = list(values)
    half = (len(ordered) + 1) // 2
    for place in range(half):
        for i in range(len(ordered) - 1, place, -1):
            a, b = ordered[i - 1], ordered[i]
            ordered[i - 1], ordered[i] = torch.maximum(a, b), torch.minimum(a, b)
    return sum(ordered[1:half], ordered[0]) / half
