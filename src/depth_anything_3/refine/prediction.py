"""A prediction before and after refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.gaussians import follow_views
from depth_anything_3.refine.matchers import NetworkPatches, PatchSource
from depth_anything_3.refine.reconstruct import Prior
from depth_anything_3.refine.scene import refine_scene
from depth_anything_3.types.inputs import ResizeRecord
from depth_anything_3.types.observations import Observations
from depth_anything_3.types.options import CAMERA_SIGMA, PATCH_SIZE, IntrinsicsOrigin, RefineMode
from depth_anything_3.types.prediction import Prediction, usable_pixels
from depth_anything_3.types.refinement import Refinement

_STATED_SIGMA = 0.05  # of the logarithm of focal lengths that are rounded to millimetres or degrees

Maps = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """N views at one size, and how their pixels come from the caller's.

    Attributes:
        pixels: RGB.
        records: one per view.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    records: tuple[ResizeRecord, ...]


def refine_prediction(
    prediction: Prediction,
    pictures: Pictures,
    *,
    mode: RefineMode,
    grid: Pictures | None = None,
    camera_sigma: tuple[float, float] = CAMERA_SIGMA,
    cameras_given: bool = False,
    lenses_from: IntrinsicsOrigin | None = None,
    matcher: str = "sift",
    patches: PatchSource | None = None,
    device: torch.device | str = "cpu",
) -> Prediction:
    """The prediction with refined cameras and depth, in the same world frame and unit; Gaussians follow their pixels.

    Confidence is the network's, and where other views confirm a measured depth it grows by up to the largest value that
    the network gave.

    Args:
        prediction: with cameras and records.
        pictures: the same views, large enough to find keypoints in.
        mode: ``poses`` or ``full``.
        grid: the same views at the size that maps shall have; None keeps the prediction's.
        camera_sigma: how far off its cameras are, see :data:`~depth_anything_3.types.options.CAMERA_SIGMA`.
        cameras_given: the cameras are known and stay.
        lenses_from: where the intrinsics of the prediction come from if they were given, and not the network's own:
            those of a calibration stay as they are, those of EXIF tags or of a field of view move a little.
        matcher: see :func:`~depth_anything_3.refine.scene.refine_scene`.
        patches: runs the network for its best patches, on views of the prediction's size; None where it cannot.
        device: where depth is measured.

    Raises:
        InputError: the prediction has no cameras or no records, or Gaussians that ``grid`` would part from their
            pixels.
    """
    if prediction.extrinsics is None or prediction.intrinsics is None or not prediction.records:
        raise InputError("prediction", "no cameras, or no resize records", "a prediction of a model with cameras")
    if prediction.gaussians is not None and grid is not None:
        raise InputError("grid", "other pixels", "None: Gaussians belong to the pixels that they were predicted for")
    if len(prediction.depth) == 1:
        return replace(prediction, refinement=_of_one_view(mode))
    moved = prediction if grid is None else on_grid(prediction, grid)
    assert moved.extrinsics is not None and moved.intrinsics is not None
    to_pictures = _changes(moved.records, pictures.records)
    prior = Prior(
        extrinsics=moved.extrinsics.astype(np.float64),
        intrinsics=_lenses(moved, pictures.records, given=cameras_given or lenses_from is not None),
        depth=moved.depth.astype(np.float64),
        rotation_sigma=camera_sigma[0],
        focal_sigma=camera_sigma[1] if lenses_from is None else 0.0 if lenses_from == "given" else _STATED_SIGMA,
        share_focal=_one_lens(pictures.records),
    )
    found = refine_scene(
        pictures.pixels,
        prior,
        mode=mode,
        cameras_given=cameras_given,
        masks=usable_pixels(moved),
        matcher=matcher,
        patches=None if patches is None else _network_patches(prediction, pictures, patches),
        device=device,
    )
    refined = replace(
        moved,
        depth=found.depth,
        extrinsics=found.extrinsics.astype(np.float32),
        intrinsics=(np.linalg.inv(to_pictures) @ found.intrinsics).astype(np.float32),
        conf=_raised(moved.conf, found.confidence),
        refinement=found.report,
        observations=_in_source(found.observations, pictures.records),
    )
    return with_gaussians_of(moved, refined)


def _network_patches(prediction: Prediction, pictures: Pictures, best: PatchSource) -> NetworkPatches:
    height, width = prediction.depth.shape[1:]
    return NetworkPatches(
        best=best,
        grid=(height // PATCH_SIZE, width // PATCH_SIZE),
        pictures=_changes(prediction.records, pictures.records),
    )


def with_gaussians_of(before: Prediction, after: Prediction) -> Prediction:
    """``after`` with the Gaussians of ``before``, moved with their views and stretched with the depth of their pixels.

    Args:
        before: with cameras; without Gaussians nothing is done.
        after: the same views and pixels. Where either depth is not known, the distance stays.

    Raises:
        InputError: the Gaussians are not one per pixel.
    """
    gaussians = before.gaussians
    if gaussians is None:
        return after
    if gaussians.means.shape[1] != before.depth.size:
        got = f"{gaussians.means.shape[1]} for {before.depth.size} pixels"
        raise InputError("prediction.gaussians", got, "one Gaussian per pixel, as they were predicted")
    known = (before.depth > 0) & (after.depth > 0) & np.isfinite(before.depth) & np.isfinite(after.depth)
    ratio = np.divide(after.depth, before.depth, out=np.ones_like(before.depth), where=known)
    moved = follow_views(gaussians, _cameras(before), _cameras(after), torch.from_numpy(ratio))
    return replace(after, gaussians=moved)


def _in_source(seen: Observations, records: Sequence[ResizeRecord]) -> Observations:
    """Observations in pixels of the caller's pictures."""
    back = np.stack([record.source_from_processed for record in records])[seen.view]
    xy = np.einsum("oij,oj->oi", back[:, :2, :2], seen.xy) + back[:, :2, 2]
    return replace(seen, xy=xy)


def _cameras(prediction: Prediction) -> tuple[torch.Tensor, torch.Tensor]:
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    return torch.tensor(prediction.extrinsics), torch.tensor(prediction.intrinsics)


def _lenses(prediction: Prediction, records: Sequence[ResizeRecord], *, given: bool) -> Float[np.ndarray, "n 3 3"]:
    """Camera matrices in pixels of the records; a network's with pixels that are square in the caller's picture."""
    assert prediction.intrinsics is not None
    back = np.stack([record.source_from_processed for record in prediction.records])
    source = back @ prediction.intrinsics.astype(np.float64)
    if not given:
        source[:, [0, 1], [0, 1]] = np.sqrt(source[:, 0, 0] * source[:, 1, 1])[:, None]
    return np.stack([record.processed_from_source for record in records]) @ source


def _of_one_view(mode: RefineMode) -> Refinement:
    return Refinement(
        mode=mode, pose_source=("network",), observations=(0,), reprojection_px=(None,), focal_factor=1.0,
        depth_source=("network",), depth_error=(None,), measured=(0.0,), scale_source="network",
    )  # fmt: skip


def _one_lens(records: Sequence[ResizeRecord]) -> bool:
    """Pictures of one shape are taken for those of one camera; turned upright, its lens looks the same."""
    return len({tuple(sorted(record.source_hw)) for record in records}) == 1


def _raised(conf: Maps | None, confidence: Maps | None) -> Maps | None:
    if confidence is None:
        return conf
    return 1 + confidence if conf is None else conf + confidence * conf.max()


def _changes(old: Sequence[ResizeRecord], new: Sequence[ResizeRecord]) -> Float[np.ndarray, "n 3 3"]:
    """From pixels of the old records to pixels of the new ones."""
    return np.stack([n.processed_from_source @ o.source_from_processed for o, n in zip(old, new, strict=True)])


def on_grid(prediction: Prediction, grid: Pictures) -> Prediction:
    """The prediction with its maps resampled to other pixels of the same pictures; beyond their border they go on.

    Args:
        prediction: with records.
        grid: the same views at the wanted size.
    """
    back = _changes(grid.records, prediction.records)
    size = grid.pixels.shape[1:3]

    def sampled(maps: Maps, how: int) -> Maps:
        return np.stack([_sampled(m, change, size, how) for m, change in zip(maps, back, strict=True)])

    known = np.isfinite(prediction.depth) & (prediction.depth > 0)
    log_depth = np.log(np.where(known, prediction.depth, 1.0)).astype(np.float32)
    smooth, hard = cv2.INTER_LINEAR, cv2.INTER_NEAREST
    lenses = None if prediction.intrinsics is None else np.linalg.inv(back) @ prediction.intrinsics
    return replace(
        prediction,
        depth=np.where(
            sampled(known.astype(np.float32), smooth) == 1,
            np.exp(sampled(log_depth, smooth)),
            sampled(prediction.depth, hard),
        ),
        conf=None if prediction.conf is None else sampled(prediction.conf, smooth),
        sky=None if prediction.sky is None else sampled(prediction.sky.astype(np.float32), smooth) >= 0.5,
        sky_prob=None if prediction.sky_prob is None else sampled(prediction.sky_prob, smooth),
        valid=None if prediction.valid is None else sampled(prediction.valid.astype(np.float32), smooth) >= 0.5,
        intrinsics=None if lenses is None else lenses.astype(np.float32),
        processed_images=grid.pixels,
        records=grid.records,
    )


def _sampled(values: Maps, change: Float[np.ndarray, "3 3"], size: tuple[int, int], how: int) -> Maps:
    """One map looked up where ``change`` takes the pixel centres of a picture of ``size`` rows and columns."""
    x = (np.arange(size[1]) + 0.5) * change[0, 0] + change[0, 2] - 0.5
    y = (np.arange(size[0]) + 0.5) * change[1, 1] + change[1, 2] - 0.5
    columns, rows = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return np.asarray(cv2.remap(values, columns, rows, how, borderMode=cv2.BORDER_REPLICATE))
