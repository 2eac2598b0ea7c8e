"""From network outputs to a prediction in the caller's frame."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_anything_3.geometry.alignment import Similarity
from depth_anything_3.geometry.gaussians import follow_views
from depth_anything_3.geometry.rays import ray_residuals_deg
from depth_anything_3.infer.cameras import align_to_given, poor_scale, warn_if_inverted, with_scale
from depth_anything_3.infer.depth_ratios import scale_from_depth_ratios
from depth_anything_3.infer.intrinsics import constrain_intrinsics
from depth_anything_3.model.readout import CANONICAL_FOCAL
from depth_anything_3.types.alignment import Alignment
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import FocalOrigin, InferOptions
from depth_anything_3.types.output import NetOutput
from depth_anything_3.types.prediction import Prediction

CANONICAL_PRESETS = ("da3metric-large", "da3metric-tiny")
"""Metric networks without cameras: their depth is for a focal length of 300 pixels."""

SKY_SCORE = 0.5
"""Scores from here on count as sky in a prediction (the published value; filling uses a lower one)."""


def to_prediction(output: NetOutput, inputs: ModelInputs, options: InferOptions, model_name: str) -> Prediction:
    """The prediction for the one scene in ``output``, aligned to the cameras that came with ``inputs``.

    With given poses, intrinsics are the given ones, and pose and depth are brought together by a similarity: in the
    given frame and scale (``align_to_input_ext_scale``), or in the predicted one. Given intrinsics alone replace the
    predicted ones. Gaussians stay with the pixels of their view: they move with its camera, and their distances with
    its depth. Where a network has no cameras, a single view whose intrinsics are given is the world.
    """
    output = _constrained(output, inputs, options)
    placed = _placed(output, inputs, options)
    depth, is_metric, metric_focal = _metric(placed, inputs, options, model_name)
    intrinsics = inputs.intrinsics
    score = _optional(output.sky)
    valid = np.isfinite(depth) & (depth > 0)
    return Prediction(
        depth=depth,
        is_metric=is_metric,
        alignment=placed.alignment,
        metric_focal=metric_focal,
        sky=None if score is None else score >= SKY_SCORE,
        sky_prob=None if score is None else np.clip(score, 0, 1),
        valid=valid if inputs.masks is None else valid & inputs.masks,
        conf=_optional(output.depth_conf),
        extrinsics=np.eye(3, 4, dtype=np.float32)[None] if _is_the_world(placed, inputs) else placed.extrinsics,
        intrinsics=_optional(output.intrinsics) if intrinsics is None else intrinsics.astype(np.float32),
        processed_images=inputs.processed_images,
        gaussians=_following(output, placed, inputs),
        aux={name: _array(feature) for name, feature in output.aux.items()},
        scale_factor=placed.scale_factor,
        names=inputs.names,
        timestamps=inputs.timestamps,
        records=inputs.records,
        model_name=model_name,
        memory_plan=output.memory_plan or "",
        ray_residual_deg=_ray_residuals(output, inputs),
    )


def _is_the_world(placed: _Placed, inputs: ModelInputs) -> bool:
    """Whether the only view has a lens and no pose, so that its depth makes points in its own frame."""
    return placed.extrinsics is None and inputs.intrinsics is not None and len(inputs.intrinsics) == 1


def _constrained(output: NetOutput, inputs: ModelInputs, options: InferOptions) -> NetOutput:
    """The output with the camera matrices that the options allow; given ones are left for later."""
    wanted = options.shared_intrinsics or options.square_pixels
    if not wanted or output.intrinsics is None or output.extrinsics is None or inputs.intrinsics is not None:
        return output
    depth, extrinsics, intrinsics = constrain_intrinsics(
        _array(output.depth),
        _array(output.extrinsics),
        _array(output.intrinsics),
        inputs.records,
        shared=options.shared_intrinsics,
        square=options.square_pixels,
    )
    maps, poses, lenses = (torch.from_numpy(value)[None] for value in (depth, extrinsics, intrinsics))
    return replace(output, depth=maps, extrinsics=poses, intrinsics=lenses)


def _ray_residuals(output: NetOutput, inputs: ModelInputs) -> tuple[float, ...] | None:
    """Of the network's own cameras, in its own world."""
    if output.ray is None or output.ray_conf is None or output.extrinsics is None or output.intrinsics is None:
        return None
    maps = output.ray[0].float().cpu(), output.ray_conf[0].float().cpu()
    cameras = torch.from_numpy(_array(output.extrinsics)), torch.from_numpy(_array(output.intrinsics))
    height, width = inputs.images.shape[2:]
    return tuple(ray_residuals_deg(*maps, *cameras, (height, width)).tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Placed:
    """Fields of a prediction that depend on given poses. The depth was multiplied by ``stretch``."""

    depth: npt.NDArray[np.float32]
    extrinsics: npt.NDArray[np.float32] | None
    is_metric: bool
    scale_factor: float | None
    alignment: Alignment | None = None
    stretch: float = 1.0


def _placed(output: NetOutput, inputs: ModelInputs, options: InferOptions) -> _Placed:
    """Depth and poses in the given frame, or the given poses in the predicted one."""
    plain = _Placed(
        depth=_array(output.depth),
        extrinsics=_optional(output.extrinsics),
        is_metric=output.is_metric,
        scale_factor=_scale_factor(output),
    )
    given, predicted = inputs.extrinsics, plain.extrinsics
    if given is None or predicted is None:
        return plain
    warn_if_inverted(given, predicted)
    from_given, report = _aligned(output, inputs, given, predicted)
    known = np.isfinite(given).all(axis=(1, 2), keepdims=True)
    if not options.align_to_input_ext_scale:
        moved = np.where(known, from_given.on_extrinsics(given), predicted)
        return replace(plain, extrinsics=moved.astype(np.float32), alignment=report)
    factor = plain.scale_factor
    return _Placed(
        depth=(plain.depth / from_given.scale).astype(np.float32),
        extrinsics=np.where(known, given[:, :3], from_given.inverse.on_extrinsics(predicted)).astype(np.float32),
        # Where given poses set no scale the depth keeps its unit; otherwise it is the caller's, whatever that is.
        is_metric=plain.is_metric and report.rule == "unknown",
        scale_factor=None if factor is None else factor / from_given.scale,
        alignment=report,
        stretch=1 / from_given.scale,
    )


def _aligned(
    output: NetOutput, inputs: ModelInputs, given: npt.NDArray[np.float64], predicted: npt.NDArray[np.float32]
) -> tuple[Similarity, Alignment]:
    """From the given world to the predicted one: by places, or by depth ratios where places do not tell the scale."""
    found, report = align_to_given(given, predicted)
    problem = poor_scale(report, given)
    if problem is None:
        return found, report
    known = np.isfinite(given).all(axis=(1, 2))
    lenses = inputs.intrinsics if inputs.intrinsics is not None else _optional(output.intrinsics)
    ratios = None
    if lenses is not None and known.sum() > 1:
        sky = None if output.sky is None else (_array(output.sky) >= SKY_SCORE)[known]
        poses = given[known, :3].astype(np.float64)
        ratios = scale_from_depth_ratios(_array(output.depth)[known], lenses[known], poses, sky)
    if ratios is None:
        warnings.warn(problem, stacklevel=6)
        return found, report
    return with_scale(found, ratios.scale, ratios.error, given, predicted)


def _metric(
    placed: _Placed, inputs: ModelInputs, options: InferOptions, model_name: str
) -> tuple[npt.NDArray[np.float32], bool, FocalOrigin | None]:
    """Metres from a network that predicts depth for a focal length of 300 pixels, and whose focal length made them."""
    given = inputs.intrinsics is not None and options.metric_focal == "given"
    if model_name not in CANONICAL_PRESETS:
        made = placed.is_metric and placed.scale_factor is not None
        return placed.depth, placed.is_metric, (inputs.intrinsics_origin if given else "predicted") if made else None
    if inputs.intrinsics is None or not given:
        return placed.depth, placed.is_metric, None
    focal = inputs.intrinsics[:, [0, 1], [0, 1]].mean(1)
    metres = placed.depth * (focal / CANONICAL_FOCAL)[:, None, None]
    return metres.astype(np.float32), True, inputs.intrinsics_origin


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    """The only scene of a batch, as numpy."""
    array: npt.NDArray[np.float32] = tensor[0].float().cpu().numpy()
    return array


def _optional(tensor: Tensor | None) -> npt.NDArray[np.float32] | None:
    return None if tensor is None else _array(tensor)


def _scale_factor(output: NetOutput) -> float | None:
    if output.scale_factor is None or bool(output.scale_factor[0].isnan()):
        return None
    return float(output.scale_factor[0])


def _following(output: NetOutput, placed: _Placed, inputs: ModelInputs) -> Gaussians | None:
    """Gaussians moved from the predicted cameras to those of the prediction."""
    unmoved = inputs.extrinsics is None and inputs.intrinsics is None
    if output.gaussians is None or unmoved or placed.extrinsics is None:
        return output.gaussians
    assert output.extrinsics is not None and output.intrinsics is not None
    lenses = output.intrinsics[0] if inputs.intrinsics is None else torch.from_numpy(inputs.intrinsics)
    return follow_views(
        output.gaussians,
        (output.extrinsics[0], output.intrinsics[0]),
        (torch.from_numpy(placed.extrinsics), lenses),
        torch.full_like(output.depth[0], placed.stretch),
    )
