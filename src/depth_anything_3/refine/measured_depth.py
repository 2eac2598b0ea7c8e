"""Depth of each view from the other views alone, at one size of the pictures, and how far to trust it.

A plane sweep along a surface scores the hypotheses, semi-global matching chooses among them, a parabola through the
costs of three finds the depth between them. A measurement counts where the pictures are alike, and where at least one
of the other views measured the same point.

Letters: N views, D hypotheses, H W pixels of the level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.refine.plane_sweep import agreement, contrast, pixel_rays, texture
from depth_anything_3.refine.plane_sweep_cpu import agreement_on_cpu
from depth_anything_3.refine.semi_global import smooth_costs
from depth_anything_3.refine.threads import in_threads

Array = npt.NDArray[np.float64]
Sources = Sequence[Int[np.ndarray, " s"]]
"""Per view, the views that it is compared with."""

_RADIUS = 2  # of the windows, in pixels
_STEP_PENALTY, _JUMP_PENALTY = 0.1, 0.6  # of semi-global matching, on a cost of minus agreement
_EDGE = 0.05  # difference of grey values that halves the penalty of a jump
_LEAST_SCORE, _FULL_SCORE = 0.2, 0.8  # agreement without confidence, and with all of it
_TOLERANCE, _TOLERANCE_PX = 0.01, 1.0  # of two views' depths of one point: in log depth, and pixels of parallax
_MEDIANS = 2  # of 5 x 5 pixels, one after the other
_NEAREST_Z = 1e-6
_TOGETHER = 2**24  # pixels times hypotheses of the views whose costs are made smooth at one time: 64 MiB each way


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """All views at one size.

    Attributes:
        pictures: grey values from 0 to 1.
        network: log depth to start from, without the noise of single pixels; anything finite where it is not known.
        known: where it is, and may be changed.
        intrinsics: in pixels of this size.
        projections: for views i and j, from ``(depth * (x, y, 1), 1)`` of a pixel of i to homogeneous pixels of j.
    """

    pictures: Float[Tensor, "N H W"]
    network: Float[Tensor, "N H W"]
    known: Bool[Tensor, "N H W"]
    intrinsics: Float[np.ndarray, "N 3 3"]
    projections: Float[Tensor, "N N 3 4"]


def make_level(
    images: UInt8[np.ndarray, "N y x 3"],
    intrinsics: Float[np.ndarray, "N 3 3"],
    extrinsics: Float[np.ndarray, "N 3 4"],
    log_depth: Float[np.ndarray, "N h w"],
    known: Bool[np.ndarray, "N h w"],
    longest_side: float,
    device: torch.device | str,
) -> Level:
    """Everything at the size that brings the longer side of the pictures to ``longest_side``; small pictures stay.

    Args:
        images: RGB.
        intrinsics: in pixels of the images.
        extrinsics: world-to-camera.
        log_depth: of any size, finite everywhere.
        known: where it means something.
        longest_side: in pixels.
        device: of the tensors.
    """
    height, width = images.shape[1:3]
    scale = min(1.0, longest_side / max(height, width))
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    lens = intrinsics * np.array([[w / width], [h / height], [1.0]])
    grey = [cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), (w, h), interpolation=cv2.INTER_AREA) for i in images]
    way = cv2.INTER_AREA if log_depth.shape[1] > h else cv2.INTER_LINEAR
    network = [_without_noise(cv2.resize(z.astype(np.float32), (w, h), interpolation=way)) for z in log_depth]
    return Level(
        pictures=torch.tensor(np.stack(grey) / 255, dtype=torch.float32, device=device),
        network=torch.tensor(np.stack(network), device=device),
        known=torch.tensor(resized_nearest(known, h, w), device=device),
        intrinsics=lens,
        projections=torch.tensor(_projections(lens, extrinsics), dtype=torch.float32, device=device),
    )


def _without_noise(log_depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Medians keep edges. A window lies on the surface, whose noise would pass unchanged into what is measured."""
    for _ in range(_MEDIANS):
        log_depth = np.asarray(cv2.medianBlur(log_depth, 5), np.float32)
    return log_depth


def _projections(intrinsics: Array, extrinsics: Array) -> Array:
    inverse = np.linalg.inv(extrinsics[:, :, :3])
    turn = extrinsics[None, :, :, :3] @ inverse[:, None]
    shift = extrinsics[None, :, :, 3:] - turn @ extrinsics[:, None, :, 3:]
    return np.concatenate([intrinsics[None] @ turn @ np.linalg.inv(intrinsics)[:, None], intrinsics[None] @ shift], -1)


def parallax(level: Level, sources: Sources) -> Float[np.ndarray, " N"]:
    """Pixels that a near point of each view moves in its best source when its log depth changes by one.

    Near is the 80th percentile of parallax over a view; 0 where there is no source.
    """
    found = np.zeros(len(sources))
    height, width = level.network.shape[1:]
    rays = pixel_rays(height, width, level.network.device)[:, ::4, ::4]
    for i, chosen in enumerate(sources):
        depth = level.network[i, ::4, ::4].exp()
        moved = [_seen_from(level.projections[i, int(j)], rays, depth)[2] for j in chosen]
        if moved:
            found[i] = float(torch.stack(moved).amax(0).flatten().quantile(0.8))
    return found


def measure(
    level: Level, sources: Sources, surface: Float[Tensor, "N H W"], steps: Float[np.ndarray, " N"], planes: int
) -> tuple[Float[Tensor, "N H W"], Float[Tensor, "N H W"]]:
    """Search round a surface.

    Args:
        level: the views.
        sources: of each view.
        surface: log depth in the middle of the search.
        steps: between the hypotheses of a view, in log depth.
        planes: how many hypotheses, odd.

    Returns:
        log depth, and a confidence from 0 to 1: 0 where the pictures differ or are plain, where the best hypothesis is
        the first or the last, and where depth is not known.
    """
    measured, confidence = surface.clone(), torch.zeros_like(surface)
    matched = [i for i, chosen in enumerate(sources) if len(chosen)]
    compared, rough = contrast(level.pictures, _RADIUS), texture(level.pictures, 1)
    together = max(1, _TOGETHER // (planes * surface[0].numel()))
    on_cpu = surface.device.type == "cpu"

    def sweep(view: int, costs: Float[Tensor, "D H W"]) -> None:
        others, away = sources[view].tolist(), torch.arange(planes, device=surface.device) - planes // 2
        scores = (agreement_on_cpu if on_cpu else agreement)(
            compared[view],
            surface[view].exp(),
            (away * float(steps[view])).exp(),
            compared[others],
            level.projections[view, others],
            radius=_RADIUS,
        )
        torch.neg(scores, out=costs)

    for first in range(0, len(matched), together):
        views = matched[first : first + together]
        costs = surface.new_empty((len(views), planes, *surface.shape[1:]))
        pairs = list(zip(views, costs, strict=True))
        if on_cpu:
            in_threads(lambda pair: sweep(*pair), pairs)
        else:
            for pair in pairs:
                sweep(*pair)
        penalties = torch.stack([_jump_penalty(level.pictures[i]) for i in views])
        smooth = smooth_costs(costs, penalties, small=_STEP_PENALTY)
        for i, own_smooth, own_costs in zip(views, smooth, costs, strict=True):
            place, cost = _lowest(own_smooth, own_costs)
            score = -cost
            measured[i] += (place - planes // 2) * float(steps[i])
            confidence[i] = ((score - _LEAST_SCORE) / (_FULL_SCORE - _LEAST_SCORE)).clamp(0, 1)
            # Beside an edge, a pixel without texture of its own would be given the depth of what is across the edge.
            confidence[i] *= rough[i]
            confidence[i] *= (place > 0.5) & (place < planes - 1.5)
    return measured, confidence * level.known


def _jump_penalty(picture: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Smaller where the picture has an edge."""
    edge = torch.zeros_like(picture)
    edge[:, 1:] = picture.diff(dim=1).abs()
    edge[1:] = torch.maximum(edge[1:], picture.diff(dim=0).abs())
    return (_JUMP_PENALTY / (1 + edge / _EDGE)).clamp(min=1.5 * _STEP_PENALTY)


def _lowest(
    smooth: Float[Tensor, "D H W"], costs: Float[Tensor, "D H W"]
) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Place of the lowest smooth cost, between hypotheses by a parabola through three, and the cost of the nearest."""
    best = smooth.min(0, keepdim=True).indices  # argmin, which gives the same, takes ten times as long
    middle = best.clamp(1, len(smooth) - 2)
    a, b, c = (smooth.gather(0, middle + k)[0] for k in (-1, 0, 1))
    bow = a - 2 * b + c
    shift = ((a - c) / (2 * bow.clamp(min=1e-6))).clamp(-0.5, 0.5)
    return best[0] + torch.where(best == middle, shift, 0.0)[0], costs.gather(0, best)[0]


def confirmed(
    level: Level, sources: Sources, measured: Float[Tensor, "N H W"], confidence: Float[Tensor, "N H W"]
) -> Float[Tensor, "N H W"]:
    """Confidence that stays once views are compared: the geometric mean of a pixel's own and that of the best source
    that measured the same depth for the same point; 0 without one.

    Args:
        level: the views.
        sources: of each view.
        measured: log depth.
        confidence: of the measurements, before.
    """
    height, width = measured.shape[1:]
    rays = pixel_rays(height, width, measured.device)
    result = torch.zeros_like(confidence)
    for i, chosen in enumerate(sources):
        for j in chosen.tolist():
            xy, z, moves = _seen_from(level.projections[i, j], rays, measured[i].exp())
            x, y = (xy[0].floor().long(), xy[1].floor().long())
            inside = (z > _NEAREST_Z) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            place = (y.clamp(0, height - 1), x.clamp(0, width - 1))
            off = (measured[j][place] - z.clamp(min=_NEAREST_Z).log()).abs()
            agrees = inside & (off < _TOLERANCE + _TOLERANCE_PX / moves.clamp(min=1e-6))
            result[i] = torch.maximum(result[i], agrees * confidence[j][place])
    return (result * confidence).sqrt()


def _seen_from(
    projection: Float[Tensor, "3 4"], rays: Float[Tensor, "3 H W"], depth: Float[Tensor, "H W"]
) -> tuple[Float[Tensor, "2 H W"], Float[Tensor, "H W"], Float[Tensor, "H W"]]:
    """Where points of a view lie in another one: pixel, z-depth, and how far they move there per unit of log depth."""
    far = torch.tensordot(projection[:, :3], rays, 1) * depth
    here = far + projection[:, 3, None, None]
    z = here[2].clamp(min=_NEAREST_Z)
    xy = here[:2] / z
    move = (far[:2] - xy * far[2]) / z
    return xy, here[2], (move[0] ** 2 + move[1] ** 2).sqrt()
