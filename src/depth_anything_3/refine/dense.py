"""Dense refinement: depth measured by comparing views, fused with the network's depth.

On known cameras, a band round the aligned depth is searched at half the working size, with semi-global matching; what
other views confirm is fused with the network's depth; round the result a narrow band is searched at the full working
size, and fused again. Textured surfaces get measured depth, the rest keeps the network's shape.

Letters: N views, D hypotheses, h w pixels of depth maps, H W pixels of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, project, unproject
from depth_anything_3.metrics.depth import resized_nearest, valid_pixels
from depth_anything_3.refine.fusion import FusionOptions, fuse
from depth_anything_3.refine.plane_sweep import agreement, pixel_rays
from depth_anything_3.refine.semi_global import smooth_costs
from depth_anything_3.refine.source_views import choose_sources

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """How to measure depth.

    Attributes:
        working_size: longest side in pixels of the pictures that are compared; smaller ones stay.
        sources: views that a view is compared with, at most.
        radius: of the windows, in pixels of the level.
        planes: hypotheses of the wide search, at most.
        fusion: how measurements and network are put together.
    """

    working_size: int = 504
    sources: int = 3
    radius: int = 3
    planes: int = 64
    levels: tuple[float, ...] = (0.25, 0.5, 1.0)
    unconfirmed: float = 0.2
    older: float = 0.5
    fine_planes: int = 9
    fine_step: float = 0.7
    small: float = 0.1
    large: float = 0.6
    least_score: float = 0.4
    full_score: float = 0.8
    tolerance_px: float = 1.0
    tolerance: float = 0.01
    fusion: FusionOptions = field(default_factory=FusionOptions)


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseDepth:
    """Result of :func:`refine_depth`.

    Attributes:
        depth: z-depth; pixels that were not known or masked are as they came.
        confidence: of the measurement, from 0 (none: the network's shape) to 1.
        share: of each view's known pixels, how many were measured (confidence above 0).
        sources: per view, the views that it was compared with.
    """

    depth: Float32[np.ndarray, "n h w"]
    confidence: Float32[np.ndarray, "n h w"]
    share: Float[np.ndarray, " n"]
    sources: tuple[tuple[int, ...], ...]


def refine_depth(
    images: UInt8[np.ndarray, "n H W 3"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    extrinsics: Float[np.ndarray, "n 3 4"],
    depth: Float[np.ndarray, "n h w"],
    *,
    band: float | Float[np.ndarray, " n"] = 0.25,
    masks: Bool[np.ndarray, "n h w"] | None = None,
    options: DenseOptions | None = None,
    device: torch.device | str = "cpu",
    debug=None,
) -> DenseDepth:
    options = options or DenseOptions()
    known = valid_pixels(depth, masks)
    bands = np.broadcast_to(np.asarray(band, np.float64), (len(depth),))
    log_depth = _filled(np.log(np.where(known, depth, 1.0)), known)
    surface = confidence = sources = None
    for k, factor in enumerate(options.levels):
        level = _level(images, intrinsics, log_depth, known, options.working_size, factor, device)
        if sources is None:
            sources = choose_sources(
                np.exp(level.network.cpu().numpy()).astype(np.float64), level.intrinsics, extrinsics, options.sources
            )
        cameras = _Cameras.of(level, extrinsics)
        parallax = np.stack([_parallax(level, cameras, i, s) for i, s in enumerate(sources)])
        if k == 0:
            base = surface = level.network
            count = int(np.clip(np.ceil(2 * (bands * parallax).max()) // 2 * 2 + 1, 9, options.planes))
            step = np.maximum(bands / (count // 2), 0.0)
        else:
            base = surface = level.network + _resized(correction, level.network.shape[1:])
            count, step = options.fine_planes, options.fine_step / np.maximum(parallax, 1e-6)
        measured, score = _measured(level, cameras, sources, surface, step, count, options)
        own = _confirmed(level, cameras, sources, measured, score, options)
        confidence = own if k == 0 else torch.maximum(own, options.older * _resized(confidence, own.shape[1:]))
        weight = own if factor == options.levels[-1] else torch.maximum(own, options.unconfirmed * score)
        surface = torch.cat(
            [
                fuse(base[i : i + 1], measured[i : i + 1], weight[i : i + 1], level.pictures[i : i + 1], options.fusion)
                for i in range(len(depth))
            ]
        )
        correction = surface - level.network
        if debug is not None:
            debug[k] = dict(measured=measured, conf=own, fused=surface, count=count, parallax=parallax)
    correction = _sampled(correction, depth.shape[1:])
    out_confidence = np.where(known, _sampled(confidence, depth.shape[1:]), 0.0)
    refined = np.where(known, depth * np.exp(correction), depth)
    return DenseDepth(
        depth=refined.astype(np.float32),
        confidence=out_confidence.astype(np.float32),
        share=np.array([(c[k] > 0).mean() if k.any() else 0.0 for c, k in zip(out_confidence, known, strict=True)]),
        sources=tuple(tuple(int(j) for j in s) for s in sources),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Level:
    pictures: Tensor
    network: Tensor
    known: Tensor
    intrinsics: Array


def _level(images, intrinsics, log_depth, known, longest, factor, device) -> _Level:
    height, width = images.shape[1:3]
    scale = factor * min(1.0, longest / max(height, width))
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    grey = np.stack(
        [cv2.resize(cv2.cvtColor(i, cv2.COLOR_RGB2GRAY), (w, h), interpolation=cv2.INTER_AREA) for i in images]
    )
    area = max(log_depth.shape[1:]) > max(h, w)
    network = np.stack(
        [cv2.resize(z, (w, h), interpolation=cv2.INTER_AREA if area else cv2.INTER_LINEAR) for z in log_depth]
    )
    return _Level(
        pictures=torch.tensor(grey / 255, dtype=torch.float32, device=device),
        network=torch.tensor(network, dtype=torch.float32, device=device),
        known=torch.tensor(resized_nearest(known, h, w), device=device),
        intrinsics=intrinsics * np.array([[w / width], [h / height], [1.0]]),
    )


def _filled(log_depth, known):
    return np.stack(
        [np.where(k, z, np.median(z[k]) if k.any() else 0.0) for z, k in zip(log_depth, known, strict=True)]
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cameras:
    """(N, N, 3, 4): from ``(depth * (x, y, 1), 1)`` of a pixel of view i to homogeneous pixels of view j."""

    projections: Tensor

    @classmethod
    def of(cls, level: _Level, extrinsics) -> _Cameras:
        poses = np.asarray(extrinsics, np.float64)
        inverse = np.linalg.inv(poses[:, :, :3])
        turn = poses[None, :, :, :3] @ inverse[:, None]
        shift = poses[None, :, :, 3:] - turn @ poses[:, None, :, 3:]
        lens = np.asarray(level.intrinsics, np.float64)
        p = np.concatenate([lens[None] @ turn @ np.linalg.inv(lens)[:, None], lens[None] @ shift], -1)
        return cls(projections=torch.tensor(p, dtype=torch.float32, device=level.pictures.device))


def _parallax(level, cameras, view, sources, quantile=0.8) -> float:
    """Pixels that a point moves in a source when its log depth changes by one."""
    if not len(sources):
        return 0.0
    z = level.network[view][::4, ::4].exp()
    rays = pixel_rays(*level.network.shape[1:], z.device)[:, ::4, ::4]
    moved = torch.stack([_moves(cameras.projections[view, int(j)], rays, z)[0] for j in sources])
    return float(moved.amax(0).flatten().quantile(quantile))


def _moves(projection, rays, depth):
    """Parallax in pixels per unit of log depth; pixel (2, ...), depth in the other view."""
    far = torch.tensordot(projection[:, :3], rays, 1)
    here = far * depth + projection[:, 3, None, None]
    z = here[2].clamp(min=1e-6)
    xy = here[:2] / z
    # d/dlog(depth) of (far depth + t) / ...
    change = (far[:2] * depth - xy * far[2] * depth) / z
    return (change[0] ** 2 + change[1] ** 2).sqrt(), xy, here[2]


def _measured(level, cameras, sources, surface, step, count, options):
    offsets = torch.arange(count, device=surface.device) - count // 2
    steps = torch.tensor(step, dtype=torch.float32, device=surface.device)
    measured, confidence = surface.clone(), torch.zeros_like(surface)
    scores = torch.zeros((1, count, *surface.shape[1:]), device=surface.device)
    for i, chosen in enumerate(sources):
        if not len(chosen):
            continue
        scores[0] = agreement(
            level.pictures[i],
            surface[i].exp(),
            (offsets * steps[i]).exp(),
            level.pictures[chosen],
            cameras.projections[i, chosen],
            radius=options.radius,
        )
        edge = torch.zeros_like(surface[i])
        p = level.pictures[i]
        edge[:, 1:] = p.diff(dim=1).abs()
        edge[1:] = torch.maximum(edge[1:], p.diff(dim=0).abs())
        large = options.large / (1 + edge / 0.05)
        cost = smooth_costs(1 - scores, large.clamp(min=1.5 * options.small)[None], small=options.small)
        place, score = _peak(cost[0], scores[0])
        measured[i] += (place - count // 2) * steps[i]
        confidence[i] = ((score - options.least_score) / (options.full_score - options.least_score)).clamp(0, 1)
        # best at the end of the band is no minimum
        confidence[i] *= (place > 0.5) & (place < count - 1.5)
    confidence *= level.known
    return measured, confidence


def _peak(cost: Float[Tensor, "D H W"], scores: Float[Tensor, "D H W"]):
    """Lowest cost between planes, by a parabola through three; and the score there."""
    best = cost.argmin(0)[None]
    middle = best.clamp(1, len(cost) - 2)
    a, b, c = (cost.gather(0, middle + k)[0] for k in (-1, 0, 1))
    bow = a - 2 * b + c
    shift = torch.where(bow > 1e-6, (a - c) / (2 * bow.clamp(min=1e-6)), 0.0).clamp(-0.5, 0.5)
    inner = best == middle
    return torch.where(inner[0], middle[0] + shift, best[0].float()), scores.gather(0, best)[0]


def _confirmed(level, cameras, sources, measured, confidence, options):
    """Confidence where at least one source view measured the same point."""
    rays = pixel_rays(*measured.shape[1:], measured.device)
    height, width = measured.shape[1:]
    result = torch.zeros_like(confidence)
    for i, chosen in enumerate(sources):
        support = torch.zeros_like(confidence[i])
        for j in chosen:
            moved, xy, z = _moves(cameras.projections[i, int(j)], rays, measured[i].exp())
            x, y = (xy[0].floor().long(), xy[1].floor().long())
            inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
            there, sure = measured[j][y, x], confidence[j][y, x]
            off = (there - z.clamp(min=1e-6).log()).abs()
            limit = options.tolerance + options.tolerance_px / moved.clamp(min=1e-6)
            agrees = inside & (sure > 0) & (off < limit)
            support = torch.maximum(support, agrees * sure)
        result[i] = confidence[i] * support.sqrt()
    return result


def _resized(maps: Tensor, size) -> Tensor:
    return F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]


def _sampled(maps: Tensor, size) -> npt.NDArray[np.float32]:
    if tuple(maps.shape[1:]) == tuple(size):
        return maps.cpu().numpy()
    return resized_nearest(maps.cpu().numpy(), *size)
