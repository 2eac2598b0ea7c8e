"""Dense refinement: depth measured by comparing views, fused with the network's depth.

On known cameras, a wide band round the aligned depth is searched at a quarter of the working size, then narrow ones at
half of it and in full. On each level, what other views confirm is fused with what came from the level before, and at
first with the network's depth; so textured surfaces get measured depth, and the rest keeps the network's shape.

Letters: N views, h w pixels of depth maps, H W pixels of the images.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest, valid_pixels
from depth_anything_3.refine.fusion import fuse
from depth_anything_3.refine.measured_depth import Level, Sources, confirmed, make_level, measure, parallax
from depth_anything_3.refine.reprojection import check_cameras
from depth_anything_3.refine.source_views import choose_sources

Array = npt.NDArray[np.float64]

_LEVELS = (0.25, 0.5, 1.0)  # of the working size
_OLDER = 0.5  # what a confirmation is worth on the next finer level
_LEAST_PLANES = 9
_NARROW_PLANES, _NARROW_STEP_PX = 7, 0.85  # of the search on finer levels
_FUSED_PIXELS = 2**19  # of the views that are fused at one time: what stays in a processor's cache


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """How to measure depth.

    Attributes:
        working_size: longer side in pixels of the images when they are compared; smaller ones stay.
        sources: views that a view is compared with, at most.
        planes: hypotheses of the wide search, at most; steps get longer than a pixel where more would be needed.
    """

    working_size: int = 504
    sources: int = 3
    planes: int = 64

    def __post_init__(self) -> None:
        for name, least in (("working_size", 64), ("sources", 1), ("planes", _LEAST_PLANES)):
            if getattr(self, name) < least:
                raise InputError(name, str(getattr(self, name)), f"at least {least}")


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseDepth:
    """Result of :func:`refine_depth`.

    Attributes:
        depth: z-depth; what was not known or is masked is as it came.
        confidence: of the measurement: up to 1 where it was confirmed at the working size, up to 1/2 and 1/4 where only
            at half and a quarter of it, 0 where the network's shape stands.
        share: of each view's known pixels, how many have a confidence above 0.
        sources: per view, the views that it was compared with; none where none see enough of it from elsewhere.
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
    band: float | Float[np.ndarray, " n"] = 0.4,
    masks: Bool[np.ndarray, "n h w"] | None = None,
    options: DenseOptions | None = None,
    device: torch.device | str = "cpu",
) -> DenseDepth:
    """Measure depth by a plane sweep in a band round a given one, and fuse the two.

    The result has the size of ``depth``; resize it before for more detail. Memory: some ten maps of the working size
    per view, and five times as many as there are hypotheses for one view at a time.

    Args:
        images: RGB.
        intrinsics: in pixels of the images; the centre of the top-left pixel is (0.5, 0.5).
        extrinsics: world-to-camera, in the unit of the depth.
        depth: aligned z-depth of any size; a map covers its image entirely. What is not finite and positive is not
            known.
        band: half width of the first search in log depth (0.4: from 67 % to 149 % of the depth); one per view or for
            all. :attr:`~depth_anything_3.refine.depth_alignment.AlignedDepth.band` says what the alignment calls for.
        masks: where depth may be measured and changed: False for sky and what moves. None for everywhere.
        options: None for the defaults.
        device: where to compute.

    Raises:
        InputError: a shape, a camera or the band is wrong.
    """
    options = options or DenseOptions()
    poses, lenses = check_cameras(extrinsics, intrinsics, least=1)
    bands = _checked(images, poses, depth, masks, band)
    known = valid_pixels(depth, masks)
    log_depth = _filled(depth, known)

    def level(factor: float) -> Level:
        return make_level(images, lenses, poses, log_depth, known, factor * options.working_size, device)

    coarse = level(_LEVELS[0])
    sources = choose_sources(coarse.network.double().exp().cpu().numpy(), coarse.intrinsics, poses, options.sources)
    correction, confidence = torch.zeros_like(coarse.network), torch.zeros_like(coarse.network)
    steps = np.full(len(poses), np.inf)
    here = coarse
    for factor in _LEVELS if any(len(chosen) for chosen in sources) else ():
        here = coarse if factor == _LEVELS[0] else level(factor)
        steps, planes = _search(here, sources, bands, steps, options.planes)
        correction, confidence = _refined(here, sources, correction, confidence, steps, planes)
    own, sure, smooth = (_at_size(maps, depth.shape[1:]) for maps in (correction, confidence, here.network))
    sure = np.where(known, sure, 0.0)
    # Where depth was measured, the noise of single pixels goes; elsewhere everything of the network's shape stays.
    refined = np.exp(log_depth + own + sure * (smooth - log_depth))
    return DenseDepth(
        depth=np.where(known, refined, depth).astype(np.float32),
        confidence=sure.astype(np.float32),
        share=(sure > 0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1),
        sources=tuple(tuple(chosen.tolist()) for chosen in sources),
    )


def _checked(
    images: npt.NDArray[np.uint8],
    poses: Array,
    depth: npt.NDArray[np.floating],
    masks: npt.NDArray[np.bool_] | None,
    band: float | Array,
) -> Array:
    """The band of each view."""
    count = len(poses)
    if np.ndim(images) != 4 or images.shape[0] != count or images.shape[3] != 3 or images.dtype != np.uint8:
        got = f"shape {np.shape(images)}, dtype {images.dtype}"
        raise InputError("images", got, f"shape ({count}, H, W, 3), one per camera, dtype uint8")
    if np.ndim(depth) != 3 or len(depth) != count:
        raise InputError("depth", f"shape {np.shape(depth)}", f"shape ({count}, h, w), one map per image")
    if masks is not None and masks.shape != depth.shape:
        raise InputError("masks", f"shape {masks.shape}", f"the shape of the depth, {depth.shape}")
    bands = np.asarray(band, np.float64)
    if bands.shape not in ((), (count,)) or not ((bands > 0) & (bands <= 2)).all():
        raise InputError("band", str(band), f"one half width of log depth up to 2, or {count}")
    return np.broadcast_to(bands, (count,))


def _filled(depth: npt.NDArray[np.floating], known: npt.NDArray[np.bool_]) -> Array:
    """Log depth, the median of its view where it is not known."""
    logs = np.log(np.where(known, depth, 1.0).astype(np.float64))
    middles = [np.median(z[k]) if k.any() else 0.0 for z, k in zip(logs, known, strict=True)]
    return np.where(known, logs, np.array(middles)[:, None, None])


def _search(level: Level, sources: Sources, bands: Array, before: Array, most: int) -> tuple[Array, int]:
    """Steps of each view in log depth, and how many hypotheses: all of the band at first, then a few pixels."""
    moves = np.maximum(parallax(level, sources), 1e-9)
    if np.isfinite(before).all():
        return np.minimum(_NARROW_STEP_PX / moves, before), _NARROW_PLANES
    half = int(np.clip(np.ceil((bands * moves).max()), _LEAST_PLANES // 2, (most - 1) // 2))
    return bands / half, 2 * half + 1


def _refined(
    level: Level, sources: Sources, correction: Tensor, confidence: Tensor, steps: Array, planes: int
) -> tuple[Tensor, Tensor]:
    """Correction of the network's log depth, and confidence, on this level from those of the one before."""
    size = level.network.shape[1:]
    base = level.network + _resized(correction, size)
    measured, sure = measure(level, sources, base, steps, planes)
    sure = confirmed(level, sources, measured, sure)
    together = max(1, _FUSED_PIXELS // size.numel())
    parts = zip(*(maps.split(together) for maps in (base, measured, sure, level.pictures)), strict=True)
    fused = torch.cat([fuse(*part) for part in parts])
    return fused - level.network, torch.maximum(sure, _OLDER * _resized(confidence, size))


def _resized(maps: Float[Tensor, "N h w"], size: torch.Size) -> Float[Tensor, "N H W"]:
    return F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def _at_size(maps: Float[Tensor, "N H W"], size: tuple[int, int]) -> Float32[np.ndarray, "N h w"]:
    """Maps of the working size at that of the depth: between pixels where that is larger, else from the nearest."""
    arrays = maps.cpu().numpy()
    if arrays.shape[1] >= size[0]:
        return resized_nearest(arrays, *size)
    return np.stack([cv2.resize(array, size[::-1], interpolation=cv2.INTER_LINEAR) for array in arrays])
