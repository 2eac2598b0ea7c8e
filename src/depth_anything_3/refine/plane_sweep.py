"""How well other views agree with a view at depths round a given one (a plane sweep along a surface).

The surface is what is known so far; the hypotheses are that surface times factors, so that a window lies on it at its
slant instead of facing the camera. Agreement is normalised cross-correlation over square windows: blind to brightness
and contrast, and near 0 where there is no texture.

Letters: S source views, D hypotheses, H W pixels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_FLAT = (2 / 255) ** 2  # variance of grey values below which a window holds nothing but noise
_CHUNK = 120_000  # pixels times hypotheses at one time


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
    reference = _Windows(picture, radius)
    per_chunk = max(1, _CHUNK // picture.numel())
    parts = []
    for chosen in factors.split(per_chunk):
        inverse = 1 / (surface * chosen[:, None, None])
        alike = [
            reference.correlation(_warped(source, projection, inverse))
            for source, projection in zip(sources, projections, strict=True)
        ]
        parts.append(_better_half(alike))
    return torch.cat(parts)


def pixel_rays(height: int, width: int, device: torch.device) -> Float[Tensor, "3 H W"]:
    """(x, y, 1) of every pixel centre, the top-left one at (0.5, 0.5)."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    return torch.stack([x, y, torch.ones_like(x)])


def _warped(
    source: Float[Tensor, "H W"], projection: Float[Tensor, "3 4"], inverse: Float[Tensor, "D H W"]
) -> Float[Tensor, "D H W"]:
    """The source at the pixels where the hypotheses lie; NaN outside and behind."""
    height, width = source.shape
    # grid_sample counts from -1 to 1 between the borders of the picture.
    to_grid = projection.new_tensor([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
    x, y, z = (to_grid @ projection).unbind()
    rays = pixel_rays(*inverse.shape[1:], inverse.device)
    depth = torch.tensordot(z[:3], rays, 1) + z[3] * inverse
    scale = 1 / depth
    grid = torch.stack([(torch.tensordot(row[:3], rays, 1) + row[3] * inverse) * scale for row in (x, y)], -1)
    stack = source.expand(len(inverse), 1, height, width)
    seen = torch.nn.functional.grid_sample(stack, grid, padding_mode="border", align_corners=False)[:, 0]
    outside = (grid.abs().amax(-1) > 1) | (depth <= 0)
    return seen.masked_fill(outside, torch.nan)


class _Windows:
    """Windows of a picture, with what every correlation needs of them."""

    def __init__(self, picture: Float[Tensor, "H W"], radius: int) -> None:
        self.radius = radius
        self.picture = picture - picture.mean()
        self.mean = _window_mean(self.picture[None], radius)
        variance = _window_mean(self.picture[None] ** 2, radius) - self.mean**2
        self.deviation = (variance.clamp(min=0) + _FLAT).sqrt()

    def correlation(self, other: Float[Tensor, "D H W"]) -> Float[Tensor, "D H W"]:
        """Normalised cross-correlation; 0 where the middle of the window of the other is NaN."""
        outside = other.isnan()
        values = torch.where(outside, 0.0, other - 0.5)
        mean = _window_mean(values, self.radius)
        variance = _window_mean(values * values, self.radius) - mean * mean
        product = _window_mean(values * self.picture, self.radius) - mean * self.mean
        score = product / ((variance.clamp(min=0) + _FLAT).sqrt() * self.deviation)
        return score.masked_fill(outside, 0.0)


def _window_mean(values: Float[Tensor, "D H W"], radius: int) -> Float[Tensor, "D H W"]:
    """Mean over windows of 2 radius + 1; at the border that of the nearest whole window."""
    size = 2 * radius + 1
    padded = torch.nn.functional.pad(values[:, None], (radius,) * 4, mode="replicate")[:, 0]
    height, width = values.shape[1:]
    rows = sum((padded[:, i : i + height] for i in range(1, size)), padded[:, :height])
    return sum((rows[..., i : i + width] for i in range(1, size)), rows[..., :width]) / size**2


def _better_half(values: list[Float[Tensor, "D H W"]]) -> Float[Tensor, "D H W"]:
    """Mean over the larger half (rounded up) of a short list, by exchanging neighbours until it is in order."""
    ordered = list(values)
    half = (len(ordered) + 1) // 2
    for place in range(half):
        for i in range(len(ordered) - 1, place, -1):
            a, b = ordered[i - 1], ordered[i]
            ordered[i - 1], ordered[i] = torch.maximum(a, b), torch.minimum(a, b)
    return sum(ordered[1:half], ordered[0]) / half
