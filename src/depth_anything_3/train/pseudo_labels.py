"""Labels for real data: the teacher's depth, aligned to whatever sparse or noisy depth was measured.

Section 3.3 of the paper: a robust affine fit, min over s > 0 and b of |s d' + b - d|, by RANSAC least squares; the
inlier threshold is the mean absolute deviation of the residuals from their median. The number of trials and the size
of a sample are not stated; here 64 samples of two points, and a refit to the inliers.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

TRIALS = 64
_MIN_POINTS = 10


def align_to_measured(
    teacher: Float[Tensor, "V H W"],
    measured: Float[Tensor, "V H W"],
    *,
    generator: torch.Generator,
    trials: int = TRIALS,
) -> tuple[Float[Tensor, "V H W"], Bool[Tensor, " V"]]:
    """The teacher's depth in the unit of the measured depth.

    Args:
        teacher: depth up to scale and shift.
        measured: z-depth, 0 where nothing was measured; may hold noise and outliers.
        generator: chooses the samples; on the CPU.
        trials: number of samples.

    Returns:
        aligned depth, 0 where it would not be positive, and which views could be aligned: the others had too few
        points, or none agreed, and their labels are 0.
    """
    labels, good = torch.zeros_like(teacher), torch.zeros(len(teacher), dtype=torch.bool, device=teacher.device)
    for i, (x, y) in enumerate(zip(teacher, measured, strict=True)):
        fit = ransac_affine(x[y > 0], y[y > 0], generator=generator, trials=trials)
        if fit is not None:
            aligned = fit[0] * x + fit[1]
            labels[i], good[i] = torch.where(aligned > 0, aligned, 0.0), True
    return labels, good


def ransac_affine(
    source: Float[Tensor, " n"],
    target: Float[Tensor, " n"],
    *,
    generator: torch.Generator,
    trials: int = TRIALS,
    threshold: float | None = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]] | None:
    """Scale s > 0 and shift b with most inliers of |s x + b - y|, refitted to these by least squares.

    Args:
        source, target: x and y.
        generator: chooses the samples; on the CPU.
        trials: number of two-point samples.
        threshold: largest residual of an inlier; None takes the paper's: the mean absolute deviation of the residuals
            of a least-squares fit to all points from their median.

    Returns:
        s and b, or None where there are fewer than ten points or no sample has a positive scale.
    """
    if len(source) < _MIN_POINTS:
        return None
    x, y = source.double(), target.double()
    pairs = torch.randint(len(x), (trials, 2), generator=generator).to(x.device)
    (x0, x1), (y0, y1) = x[pairs].unbind(1), y[pairs].unbind(1)
    apart = (x1 - x0).abs() > 1e-9
    slope = torch.where(apart, (y1 - y0) / torch.where(apart, x1 - x0, 1.0), -1.0)
    shift = y0 - slope * x0
    possible = slope > 0
    if not bool(possible.any()):
        return None
    if threshold is None:
        s, b = _least_squares(x, y)
        threshold = float(mean_absolute_deviation(s * x + b - y))
    inside = (slope[:, None] * x + shift[:, None] - y).abs() <= max(threshold, 1e-9)
    best = int(torch.where(possible, inside.sum(1), -1).argmax())
    chosen = inside[best]
    s, b = _least_squares(x[chosen], y[chosen]) if int(chosen.sum()) >= _MIN_POINTS else (slope[best], shift[best])
    if float(s) <= 0:
        s, b = slope[best], shift[best]
    return s.to(source.dtype), b.to(source.dtype)


def mean_absolute_deviation(residuals: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """Mean distance of residuals from their median."""
    return (residuals - residuals.median()).abs().mean()


def _least_squares(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    mean_x, mean_y = x.mean(), y.mean()
    slope = ((x - mean_x) * (y - mean_y)).sum() / (x - mean_x).square().sum().clamp(min=1e-12)
    return slope, mean_y - slope * mean_x


def simulate_sensor(
    depth: Float[Tensor, "V H W"],
    rng: np.random.Generator,
    *,
    density: float = 0.2,
    noise: float = 0.05,
    outliers: float = 0.05,
) -> Float[Tensor, "V H W"]:
    """Exact depth made as sparse and noisy as a measured one: for training and tests on the procedural world.

    Args:
        depth: z-depth, 0 where there is none.
        rng: source of randomness.
        density: share of the pixels that keep a value.
        noise: standard deviation of the relative error.
        outliers: share of the kept values that are off by a random factor from 1/2 to 2.
    """
    shape = tuple(depth.shape)
    kept = torch.from_numpy(rng.random(shape) < density).to(depth.device)
    factor = np.exp(rng.normal(0, noise, shape))
    wild = rng.random(shape) < outliers
    factor = np.where(wild, 2.0 ** rng.uniform(-1, 1, shape), factor)
    return torch.where(kept, depth * torch.from_numpy(factor).to(depth), 0.0)
