"""The losses of the teacher and of the mono and metric students.

The teacher predicts depth up to scale and shift, so its depth is aligned to the truth before it is compared: over the
whole view, and over neighbourhoods in space (the global and local terms of MoGe, which the paper takes; how they
apply to depth alone is not stated there; here a neighbourhood is a ball in space, and its fit has a scale and a shift
along z). Equations are those of the paper's section 3.3 and appendix.

Letters: V views, H W pixels, n sampled points.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from depth_anything_3.train.losses import masked_mean

_MIN_POINTS = 32  # a fit to fewer is not believed
_WINDOW = 13  # pixels along each side of the window around an anchor, at most
_MAX_SCALE_RATIO = 10.0  # nor one whose scale is this far from the global one
_FLAT = 0.01  # spread of depth relative to its mean, below which there is none
_SMALLEST = 1e-30  # exponentials underflow, and a logarithm of 0 would end the training


def fit_affine(
    source: Float[Tensor, "*batch n"],
    target: Float[Tensor, "*batch n"],
    weight: Float[Tensor, "*batch n"],
    *,
    rounds: int = 6,
    truncation: float = 1.0,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Scale and shift that minimise the truncated l1 distance, sum w min(truncation, |s x + b - y|), roughly.

    Iteratively reweighted least squares from two beginnings; the weight already holds 1/z. The scale is positive.

    Args:
        source, target, weight: points that do not count have weight 0.
        rounds: of reweighting.
        truncation: distance, in units where the weight is 1/z: relative to depth, from which on a point is an outlier.
    """
    # Nothing holds the unit of the source: far from 1 its squares would leave the range of single precision.
    unit = torch.where(weight > 0, source.abs(), torch.nan).nanmedian(-1, keepdim=True).values
    unit = torch.where(unit > 0, unit, 1.0)
    source = source / unit
    ratio = torch.where(weight > 0, target / source, torch.nan).nanmedian(-1, keepdim=True).values
    begin = _robust_weight(weight * (ratio * source - target).abs(), truncation)
    # Least squares follow outliers, and the median ratio may leave out what only a shift explains: the better wins.
    scale, shift, cost = _reweighted(source, target, weight, torch.ones_like(weight), rounds, truncation)
    scale_, shift_, cost_ = _reweighted(source, target, weight, begin, rounds, truncation)
    better = cost_ < cost
    return torch.where(better, scale_, scale) / unit[..., 0], torch.where(better, shift_, shift)


def _reweighted(
    source: Tensor, target: Tensor, weight: Tensor, robust: Tensor, rounds: int, truncation: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, shift and truncated l1 distance after some rounds that begin with the given robust weights."""
    for _ in range(rounds):
        w = weight * weight * robust
        total = w.sum(-1).clamp(min=1e-12)
        mean_x, mean_y = (w * source).sum(-1) / total, (w * target).sum(-1) / total
        x, y = source - mean_x[..., None], target - mean_y[..., None]
        slope = (w * x * y).sum(-1) / (w * x * x).sum(-1).clamp(min=1e-12)
        ratio = mean_y / torch.where(mean_x.abs() < 1e-6, 1e-6, mean_x)
        # A negative scale turns the world inside out: then only the ratio is fitted.
        scale = torch.where(slope > 1e-3 * ratio.abs(), slope, ratio.abs().clamp(min=1e-6))
        shift = mean_y - scale * mean_x
        residual = weight * (scale[..., None] * source + shift[..., None] - target).abs()
        robust = _robust_weight(residual, truncation)
    return scale, shift, residual.clamp(max=truncation).sum(-1)


def _robust_weight(residual: Tensor, truncation: float) -> Tensor:
    return torch.where(residual < truncation, 1 / residual.clamp(min=1e-3), 0.0)


def detach_affine(depth: Float[Tensor, "V H W"], weight: Float[Tensor, "V H W"]) -> Float[Tensor, "V H W"]:
    """The same depth, whose mean and spread have no gradient.

    A fit without a gradient makes a loss blind to scale and shift, but not the gradient of the loss: a term that wants
    more contrast makes depth larger, the next fit undoes that, and so on for ever.

    Args:
        depth: of each view.
        weight: of its pixels; only those with a weight belong to the mean and the spread.
    """
    mean, spread = _mean_and_spread(depth, weight)
    return (depth - mean) * (spread.detach() / spread) + mean.detach()


def affine_distance(
    depth: Float[Tensor, "V H W"], target: Float[Tensor, "V H W"], weight: Float[Tensor, "V H W"]
) -> Float[Tensor, " V"]:
    """Squared logarithms of how much larger mean and spread of depth are than those of the truth; ours.

    What nothing holds drifts, and labels whose shift has brought what is near to 0 make relative errors meaningless.

    Args:
        depth, target: predicted and true depth; of a view where nothing is known, the distance is 0.
        weight: of the pixels.
    """
    (mean, spread), (true_mean, true_spread) = (_mean_and_spread(d, weight) for d in (depth, target))
    # A wall seen straight on has no spread: its logarithm would be far from that of any prediction.
    spread, true_spread = torch.maximum(spread, _FLAT * mean), torch.maximum(true_spread, _FLAT * true_mean)
    distance = (mean / true_mean).log().square() + (spread / true_spread).log().square()
    return torch.where(weight.flatten(1).any(1), distance[:, 0, 0], 0.0)


def _mean_and_spread(depth: Tensor, weight: Tensor) -> tuple[Float[Tensor, "V 1 1"], Float[Tensor, "V 1 1"]]:
    """Weighted mean, and weighted mean distance from it; positive."""
    share = weight / weight.sum((-2, -1), keepdim=True).clamp(min=_SMALLEST)
    mean = (share * depth).sum((-2, -1), keepdim=True)
    spread = (share * (depth - mean).abs()).sum((-2, -1), keepdim=True)
    return mean.clamp(min=_SMALLEST), spread.clamp(min=_SMALLEST)


def global_local_loss(
    depth: Float[Tensor, "V H W"],
    target: Float[Tensor, "V H W"],
    valid: Bool[Tensor, "V H W"],
    points: Float[Tensor, "V H W 3"],
    *,
    levels: tuple[int, ...] = (4, 16, 64),
    anchors: tuple[int, ...] = (16, 256, 4096),
    samples: int = 1024,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " V"]:
    """l1 of depth over z after the best scale and shift, over the view and over balls in space (L_gl).

    Args:
        depth, target: predicted and true z-depth.
        valid: where the truth is known.
        points: true points in the frame of the camera; they say which pixels are neighbours.
        levels: a ball of level l has the radius (image diagonal at the anchor's depth) / (2 l).
        anchors: number of balls at each level.
        samples: points that take part in the fit to the whole view, on a regular grid.
        generator: chooses the anchors.
    """
    weight = torch.where(valid, 1 / target.clamp(min=1e-3), 0.0)
    grid = _grid(depth.shape[-2:], samples, depth.device)
    with torch.no_grad():
        scale, shift = fit_affine(*(_take(v, grid) for v in (depth, target, weight)))
    error = ((scale[:, None, None] * depth + shift[:, None, None] - target) / target.clamp(min=1e-3)).abs()
    total = masked_mean(error.clamp(max=4.0), valid)
    diagonal = _diagonal(points.flatten(1, 2), target.flatten(1), valid.flatten(1))
    for level, count in zip(levels, anchors, strict=True):
        anchor = torch.randint(depth[0].numel(), (len(depth), count), generator=generator).to(depth.device)
        total = total + _local_term(depth, target, valid, points, scale, diagonal, level, anchor)
    return total


def _local_term(
    depth: Tensor,
    target: Tensor,
    valid: Tensor,
    points: Tensor,
    global_scale: Tensor,
    diagonal: Tensor,
    level: int,
    anchor: Int[Tensor, "V anchors"],
) -> Float[Tensor, " V"]:
    around, inside = _windows(anchor, depth.shape[-2], depth.shape[-1], level)  # (V, anchors, n)
    x, y, mask = (_take_around(v, around) for v in (depth, target, valid))
    p = torch.stack([_take_around(v, around) for v in points.unbind(-1)], -1)
    middle = around.shape[-1] // 2
    radius = diagonal[:, None] / (2 * level) * y[..., middle]
    near = (p - p[..., middle : middle + 1, :]).norm(dim=-1) < radius[..., None]
    near = near & mask & inside & mask[..., middle : middle + 1]
    with torch.no_grad():
        scale, shift = fit_affine(x, y, torch.where(near, 1 / y.clamp(min=1e-3), 0.0), rounds=4)
        ratio = scale / global_scale[:, None]
        good = (near.sum(-1) >= _MIN_POINTS) & (ratio < _MAX_SCALE_RATIO) & (ratio > 1 / _MAX_SCALE_RATIO)
        # In units of the ball, so that small balls do not count less.
        unit = radius.clamp(min=1e-6)
    error = (scale[..., None] * x + shift[..., None] - y).abs() / unit[..., None]
    return masked_mean(error.clamp(max=2.0), near & good[..., None])


def _windows(
    anchor: Int[Tensor, "V anchors"], height: int, width: int, level: int
) -> tuple[Int[Tensor, "V anchors n"], Bool[Tensor, "V anchors n"]]:
    """Flat indices of pixels around anchors, as far as a ball of the level reaches, and which lie in the image."""
    half = math.ceil((height**2 + width**2) ** 0.5 / (2 * level))
    side = torch.linspace(-half, half, min(2 * half + 1, _WINDOW), device=anchor.device).round().long()
    row = (anchor // width)[..., None] + side.repeat_interleave(len(side))
    column = (anchor % width)[..., None] + side.repeat(len(side))
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return torch.where(inside, row * width + column, 0), inside


def normal_loss(
    points: Float[Tensor, "V H W 3"], target: Float[Tensor, "V H W 3"], valid: Bool[Tensor, "V H W"]
) -> Float[Tensor, " V"]:
    """Angles between predicted and true normals (appendix, L_N), in radians.

    Four un-normalised normals n_i from the differences to the four neighbours; their weighted mean n_m has the
    weights w_i = sum_j |n_j| - |n_i|; the loss is the angle of n_m and of each n_i.
    """
    predicted, truth = _corner_normals(points), _corner_normals(target)
    m = valid
    inner = m[:, 1:-1, 1:-1] & m[:, :-2, 1:-1] & m[:, 2:, 1:-1] & m[:, 1:-1, :-2] & m[:, 1:-1, 2:]
    total = _angle(_mean_normal(predicted), _mean_normal(truth))
    total = total + _angle(predicted, truth).sum(-1)
    return masked_mean(total, inner)


def _corner_normals(p: Float[Tensor, "V H W 3"]) -> Float[Tensor, "V h w 4 3"]:
    centre = p[:, 1:-1, 1:-1]
    around = [p[:, :-2, 1:-1], p[:, 1:-1, 2:], p[:, 2:, 1:-1], p[:, 1:-1, :-2]]  # up, right, down, left
    sides = [side - centre for side in around]
    return torch.stack([torch.linalg.cross(sides[i], sides[(i + 1) % 4]) for i in range(4)], -2)


def _mean_normal(normals: Float[Tensor, "V h w 4 3"]) -> Float[Tensor, "V h w 3"]:
    length = normals.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return ((length.sum(-2, keepdim=True) - length) * normals / length).sum(-2)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    # Of unit vectors: normals of a fine grid are so short that their products vanish beside any constant.
    a, b = F.normalize(a, dim=-1), F.normalize(b, dim=-1)
    cosine = (a * b).sum(-1)
    # atan2 of sine and cosine: its gradient does not explode where the angle is 0, as that of acos does.
    sine = (torch.linalg.cross(a, b).square().sum(-1) + 1e-24).sqrt()
    return torch.atan2(sine.clamp(min=1e-4), cosine)


def mask_loss(logit: Float[Tensor, "V H W"], target: Bool[Tensor, "V H W"]) -> Float[Tensor, " V"]:
    """Mean squared error of a score, relu(logit), against a mask: L_sky and L_obj.

    Where the mask holds the logit itself is compared: a score that the ReLU cut off would have no gradient, and a
    branch that once went silent would stay silent.
    """
    error = torch.where(target, logit - 1, logit.relu())
    return error.square().flatten(1).mean(1)


def _grid(size: tuple[int, int] | torch.Size, samples: int, device: torch.device) -> Tensor:
    """Flat indices of about ``samples`` pixels on a regular grid."""
    height, width = size
    step = max((height * width / samples) ** 0.5, 1.0)
    rows = torch.arange(step / 2, height, step, device=device).long()
    columns = torch.arange(step / 2, width, step, device=device).long()
    return (rows[:, None] * width + columns).flatten()


def _take(maps: Tensor, index: Tensor) -> Tensor:
    return maps.flatten(1, 2)[:, index]


def _take_around(maps: Float[Tensor, "V H W"] | Bool[Tensor, "V H W"], index: Int[Tensor, "V anchors n"]) -> Tensor:
    return maps.flatten(1).gather(1, index.flatten(1)).view_as(index)


def _diagonal(points: Tensor, depth: Tensor, mask: Tensor) -> Float[Tensor, " V"]:
    """Diagonal of the image at depth 1."""
    plane = torch.where(mask[..., None], points[..., :2] / depth.clamp(min=1e-3)[..., None], 0.0)
    return (plane.amax(1) - plane.amin(1)).norm(dim=-1).clamp(min=1e-3)
