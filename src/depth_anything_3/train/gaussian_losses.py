"""Losses of rendered pictures, each with one value per sample.

The Gaussian head is trained on pictures of views that the network has not seen: MSE, a perceptual term, and depth up
to scale and shift. The published perceptual term is LPIPS, a trained network. Here it is :func:`structure_loss`, which
needs no weights and no download: it compares edges and local contrast at several scales. What LPIPS adds, that textures
may differ as long as they look alike, it does not have.

Letters: B samples, N views, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from depth_anything_3.train.losses import masked_mean
from depth_anything_3.train.teacher_losses import fit_affine

_C1, _C2 = 0.01**2, 0.03**2  # Wang et al. 2004, for values from 0 to 1
_WINDOW = 7
_NEAR_ZERO = 1e-6


def picture_loss(picture: Float[Tensor, "B N 3 H W"], target: Float[Tensor, "B N 3 H W"]) -> Float[Tensor, " B"]:
    """Mean squared error."""
    return (picture - target).square().flatten(1).mean(1)


def structure_loss(
    picture: Float[Tensor, "B N 3 H W"], target: Float[Tensor, "B N 3 H W"], *, scales: int = 3
) -> Float[Tensor, " B"]:
    """What is left to do for edges and contrast: (1 - SSIM) / 2 and the l1 distance of differences of neighbours.

    SSIM (Wang et al., 2004) has windows of 7 x 7 pixels, all alike. Every further scale has half the size.

    Args:
        picture, target: values from 0 to 1.
        scales: how many, as far as a window fits.
    """
    a, b = picture.flatten(0, 1), target.flatten(0, 1)
    terms = []
    for _ in range(scales):
        if min(a.shape[-2:]) < _WINDOW:
            break
        terms.append((1 - _ssim(a, b)) / 2 + _edges(a - b))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return torch.stack(terms).mean(0).unflatten(0, picture.shape[:2]).mean(1)


def _ssim(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    def mean(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, _WINDOW, 1)

    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    ssim = (2 * ma * mb + _C1) * (2 * vab + _C2) / ((ma * ma + mb * mb + _C1) * (va + vb + _C2))
    return ssim.flatten(1).mean(1)


def _edges(difference: Tensor) -> Float[Tensor, " n"]:
    across = (difference[..., 1:] - difference[..., :-1]).abs().flatten(1).mean(1)
    return across + (difference[..., 1:, :] - difference[..., :-1, :]).abs().flatten(1).mean(1)


def free_depth_loss(
    depth: Float[Tensor, "B N H W"], target: Float[Tensor, "B N H W"], valid: Bool[Tensor, "B N H W"]
) -> Float[Tensor, " B"]:
    """l1 of depth after one scale and one shift per view, relative to the mean depth of the view.

    Args:
        depth, target: positive where valid.
        valid: where both are known; a view without any counts nothing.
    """
    flat, truth, known = (values.flatten(2) for values in (depth, target, valid))
    with torch.no_grad():
        weight = torch.where(known, 1 / truth.clamp(min=_NEAR_ZERO), 0.0)
        scale, shift = fit_affine(flat, truth, weight)
        scale, shift = torch.nan_to_num(scale, nan=1.0), torch.nan_to_num(shift)
        unit = (truth * known).sum(-1) / known.sum(-1).clamp(min=1)
    error = (scale[..., None] * flat + shift[..., None] - truth).abs() / unit.clamp(min=_NEAR_ZERO)[..., None]
    return masked_mean(error, known)


def median_ratio(
    target: Float[Tensor, "B N H W"], depth: Float[Tensor, "B N H W"], valid: Bool[Tensor, "B N H W"]
) -> Float[Tensor, " B"]:
    """Median of target by depth over the valid pixels of each sample; 1 where there are none."""
    ratio = torch.where(valid, target / depth.clamp(min=_NEAR_ZERO), torch.nan)
    return torch.nan_to_num(ratio.flatten(1).nanmedian(1).values, nan=1.0)
