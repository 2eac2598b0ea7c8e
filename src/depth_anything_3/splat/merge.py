"""Fewer Gaussians: those of one place become one that has their moments.

Places are cubes of a grid that is as fine as the Gaussians in it: the side is a factor times the size of a Gaussian,
rounded to a power of two. What a near view saw in detail therefore keeps its detail, and only Gaussians of similar
size are merged. The factor is the smallest that meets the budget.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotations import matrix_from_quat_xyzw, quat_xyzw_from_matrix
from depth_anything_3.splat.base import MAX_ALPHA, check_gaussians
from depth_anything_3.types.gaussians import Gaussians

_STEPS = 24
_CLOSE_ENOUGH = 0.98  # of the budget
_FINEST, _COARSEST = 2.0**-4, 2.0**24  # of the factor
_MOST_SPREAD = 4.0  # factor on the variance between the parts, where opacity cannot hold what they cover
_THINNEST = 1e-6  # smallest axis by largest


def merge_gaussians(gaussians: Gaussians, max_gaussians: int) -> Gaussians:
    """At most ``max_gaussians`` Gaussians that look like the ones given, in no particular order.

    The merged Gaussian has the mean and the covariance of its parts, and the mean of their harmonics, each part
    weighted by opacity times area. It also has their sum of opacity times area, as long as that makes it no more
    opaque than all of them behind each other. Where it would, the distances between the parts count for more in the
    covariance, up to twice, so that closed surfaces stay closed. Gaussians that are alone in their place are kept as
    they are.

    Args:
        gaussians: one scene; finite, with positive scales.
        max_gaussians: the budget.

    Raises:
        InputError: there is not exactly one scene, or the budget is below 1.
    """
    check_gaussians(gaussians)
    if len(gaussians.means) != 1:
        raise InputError("gaussians", f"{len(gaussians.means)} scenes", "one scene")
    if max_gaussians < 1:
        raise InputError("max_gaussians", str(max_gaussians), "at least 1")
    if gaussians.means.shape[1] <= max_gaussians:
        return gaussians
    return _merged(gaussians, _places_within(gaussians, max_gaussians))


def _places_within(gaussians: Gaussians, budget: int) -> Int[Tensor, " G"]:
    """The finest places, counted from 0, of which there are no more than the budget."""
    means, area = gaussians.means[0], _area(gaussians.scales[0])
    level = (area.log2() / 2).round()
    low, high, best = _FINEST, _COARSEST, torch.zeros(len(means), dtype=torch.long, device=means.device)
    for _ in range(_STEPS):
        factor = (low * high) ** 0.5
        place = _places(means, level, factor)
        count = int(place.max()) + 1
        if count > budget:
            low = factor
            continue
        high, best = factor, place
        if count >= _CLOSE_ENOUGH * budget:
            break
    return best


def _places(means: Float[Tensor, "G 3"], level: Float[Tensor, " G"], factor: float) -> Int[Tensor, " G"]:
    """Number of the cube of each Gaussian, counted from 0 without gaps."""
    side = factor * torch.exp2(level)
    cells = torch.cat((level[:, None], (means / side[:, None]).floor()), -1).double()
    place = torch.zeros(len(means), dtype=torch.long, device=means.device)
    for column in cells.unbind(-1):
        # One coordinate at a time, renumbered in between: no product of extents can overflow.
        rank = torch.unique(column, return_inverse=True)[1]
        place = torch.unique(place * (int(rank.max()) + 1) + rank, return_inverse=True)[1]
    return place


def _area(scales: Float[Tensor, "G 3"]) -> Float[Tensor, " G"]:
    """Product of the two largest deviations: what a Gaussian shows of itself from its broad side."""
    return scales.prod(-1) / scales.amin(-1)


def _merged(gaussians: Gaussians, place: Int[Tensor, " G"]) -> Gaussians:
    count = int(place.max()) + 1
    means, scales, opacity = gaussians.means[0], gaussians.scales[0], gaussians.opacities[0]
    mass = opacity * _area(scales)

    def total(values: Tensor) -> Tensor:
        return values.new_zeros((count, *values.shape[1:])).index_add_(0, place, values)

    whole = total(mass)
    share = mass / whole[place]

    def mean(values: Tensor) -> Tensor:
        return total(values * share.view(-1, *[1] * (values.ndim - 1)))

    centre = mean(means)
    away = means - centre[place]
    axes = matrix_from_quat_xyzw(gaussians.rotations[0].roll(-1, -1)) * scales[:, None]
    within, between = mean(axes @ axes.transpose(-1, -2)), mean(away[:, :, None] * away[:, None])
    stacked = 1 - torch.exp(total(torch.log1p(-opacity.clamp_max(MAX_ALPHA))))
    inner, outer = (_area(_decomposed(part)[0]) for part in (within, within + between))
    # The area that holds what the parts cover; areas grow about linearly with the weight of the distances.
    weight = ((whole / stacked - inner) / (outer - inner).clamp_min(_THINNEST * inner)).clamp(1, _MOST_SPREAD)
    new_scales, quat_wxyz = _decomposed(within + weight[:, None, None] * between)
    merged = Gaussians(
        means=centre[None],
        scales=new_scales[None],
        rotations=quat_wxyz[None],
        harmonics=mean(gaussians.harmonics[0])[None],
        opacities=torch.minimum(whole / _area(new_scales), stacked)[None],
    )
    return _with_singles(merged, gaussians, place)


def _decomposed(covariance: Float[Tensor, "g 3 3"]) -> tuple[Float[Tensor, "g 3"], Float[Tensor, "g 4"]]:
    """Deviations and unit quaternions (wxyz) of the axes of covariances."""
    variance, axes = torch.linalg.eigh(covariance)
    variance = torch.maximum(variance, variance[:, 2:] * _THINNEST**2)
    axes = torch.cat((axes[:, :, :2], axes[:, :, 2:] * torch.linalg.det(axes).sign()[:, None, None]), -1)
    return variance.sqrt(), quat_xyzw_from_matrix(axes).roll(1, -1)


def _with_singles(merged: Gaussians, gaussians: Gaussians, place: Int[Tensor, " G"]) -> Gaussians:
    """The original instead of the merged Gaussian where that is made of one."""
    alone = (place.bincount() == 1)[place].nonzero()[:, 0]
    fields = [field.name for field in dataclasses.fields(Gaussians)]
    values = {
        name: getattr(merged, name)[0].index_copy(0, place[alone], getattr(gaussians, name)[0][alone])
        for name in fields
    }
    return Gaussians(**{name: value[None] for name, value in values.items()})
