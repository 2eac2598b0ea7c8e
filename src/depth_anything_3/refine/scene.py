"""The whole of refinement for the views of one scene: keypoints, cameras, aligned depth, measured depth.

    keypoints        refine.matchers, refine.features
        |  matches of every two views, the focal length they agree on      refine.view_graph
        |  cameras, one view after the other, and points                   refine.reconstruct
        |  each view's depth laid onto its points                          refine.depth_alignment
        v  depth measured by comparing views                               refine.dense

A view that nothing connects keeps the network's answer and is listed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.refine.dense import refine_depth
from depth_anything_3.refine.depth_alignment import AlignedDepth, align_depth
from depth_anything_3.refine.matchers import MATCHERS, NetworkPatches, ViewsToMatch, joined, matcher_names, of_views
from depth_anything_3.refine.reconstruct import WELL_SEEN, Prior, Reconstruction, reconstruct, triangulate_matches
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.options import RefineMode
from depth_anything_3.types.refinement import DepthSource, Refinement

FEATURE_SIZE = 1024
"""Longest side in pixels of the pictures that keypoints are found in."""

_KEYPOINTS, _KEYPOINTS_OF_MANY, _MANY = 4096, 2048, 8  # per view; from how many views on it is less


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedScene:
    """Result of :func:`refine_scene`, in the frame and unit of the prior.

    Attributes:
        extrinsics: world-to-camera.
        intrinsics: in pixels of the pictures.
        depth: z-depth, of the size that came.
        confidence: of the measured depth, 0 to 1; None where none was measured.
        observations: of the points that were triangulated, in pixels of the pictures.
        report: what was done.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    depth: Float32[np.ndarray, "n h w"]
    confidence: Float32[np.ndarray, "n h w"] | None
    observations: Observations
    report: Refinement


def refine_scene(
    images: UInt8[np.ndarray, "n H W 3"],
    prior: Prior,
    *,
    mode: RefineMode = "full",
    cameras_given: bool = False,
    masks: Bool[np.ndarray, "n h w"] | None = None,
    matcher: str = "sift",
    patches: NetworkPatches | None = None,
    device: torch.device | str = "cpu",
) -> RefinedScene:
    """Refine what a network says about N views.

    Args:
        images: RGB; keypoints are found at this size.
        prior: cameras in pixels of the images, and depth maps that cover them entirely.
        mode: ``poses`` or ``full``.
        cameras_given: the cameras are known and stay.
        masks: in pixels of the depth, where it may be used: False for sky and for what moves. None for everywhere.
        matcher: names in :data:`~depth_anything_3.refine.matchers.MATCHERS`, joined by ``+``: each but the first is
            asked where those before it leave a view with few observations, and kept where that gives more.
        patches: what the network's attention says, for the matcher that reads it.
        device: where depth is measured.

    Raises:
        UnknownNameError: there is no such matcher.
        CapabilityError: the matcher needs patches of a network.
        InputError: ``mode`` is "off", or sizes do not fit.
    """
    if mode == "off":
        raise InputError("mode", repr(mode), "a refinement", ("poses", "full"))
    count, size = len(images), (images.shape[1], images.shape[2])
    allowed = None if masks is None else resized_nearest(masks, *size)
    most = _KEYPOINTS if count <= _MANY else _KEYPOINTS_OF_MANY
    views = ViewsToMatch(images=images, masks=allowed, most=most, patches=patches)
    found, used = _reconstructed(views, prior, matcher_names(matcher), given=cameras_given)
    aligned = align_depth(prior.depth, found.seen_points, size, masks=masks)
    depth, confidence = aligned.depth.astype(np.float32), None
    measured = np.zeros(count)
    if mode == "full":
        depth, confidence, measured = _measured(images, found, aligned, masks, device)
    return RefinedScene(
        extrinsics=found.extrinsics,
        intrinsics=found.intrinsics,
        depth=depth,
        confidence=confidence,
        observations=found.observations,
        report=replace(_report(mode, found, aligned, measured, prior, cameras_given), matcher=used),
    )


def _reconstructed(views: ViewsToMatch, prior: Prior, names: list[str], *, given: bool) -> tuple[Reconstruction, str]:
    """Cameras and points, and the matchers that they come from."""
    build = triangulate_matches if given else reconstruct
    sizes = [(views.images.shape[1], views.images.shape[2])] * len(views.images)
    matched, used = MATCHERS[names[0]](views), names[0]
    found = build(matched.features, sizes, prior, also=matched.pairs)
    for name in names[1:]:
        weak = np.flatnonzero(found.seen < WELL_SEEN).tolist()
        if not weak:
            break
        more = MATCHERS[name](views)
        both = joined(matched, replace(more, pairs=of_views(more.pairs, weak)))
        again = build(both.features, sizes, prior, also=both.pairs)
        if again.says_more_than(found):
            found, matched, used = again, both, f"{used}+{name}"
    return found, used


def _measured(
    images: UInt8[np.ndarray, "n H W 3"],
    found: Reconstruction,
    aligned: AlignedDepth,
    masks: npt.NDArray[np.bool_] | None,
    device: torch.device | str,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Depth, confidence and share of the views whose places are known; the others as they are."""
    depth = aligned.depth.astype(np.float32)
    confidence, share = np.zeros_like(depth), np.zeros(len(depth))
    placed = [i for i, source in enumerate(found.source) if source in ("matches", "given")]
    if len(placed) < 2:
        return depth, confidence, share
    result = refine_depth(
        images[placed],
        found.intrinsics[placed],
        found.extrinsics[placed],
        aligned.depth[placed],
        band=aligned.band[placed],
        masks=None if masks is None else masks[placed],
        device=device,
    )
    depth[placed], confidence[placed], share[placed] = result.depth, result.confidence, result.share
    return depth, confidence, share


def _report(
    mode: RefineMode, found: Reconstruction, aligned: AlignedDepth, measured: npt.NDArray[np.float64], prior: Prior,
    cameras_given: bool,
) -> Refinement:  # fmt: skip
    count = len(found.source)
    focal = np.log(found.intrinsics[:, 0, 0] / prior.intrinsics[:, 0, 0]).mean()
    method: dict[str, DepthSource] = {"field": "field", "scale": "scale", "none": "network"}
    return Refinement(
        mode=mode,
        pose_source=found.source,
        observations=tuple(np.bincount(found.observations.view, minlength=count).tolist()),
        reprojection_px=_known(found.rms_px),
        focal_factor=float(np.exp(focal)),
        depth_source=tuple(method[m] for m in aligned.method),
        depth_error=_known(aligned.residual_before),
        measured=tuple(measured.tolist()),
        scale_source="given" if cameras_given else "network",
    )


def _known(values: npt.NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
