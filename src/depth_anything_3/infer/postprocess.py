"""From network outputs to a prediction in the caller's frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_anything_3.geometry.gaussians import follow_views
from depth_anything_3.infer.cameras import align_to_given, warn_if_inverted, warn_of_poor_scale
from depth_anything_3.model.readout import CANONICAL_FOCAL
from depth_anything_3.types.alignment import Alignment
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import InferOptions, MetricFocal
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
    its depth.
    """
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
        extrinsics=placed.extrinsics,
        intrinsics=_optional(output.intrinsics) if intrinsics is None else intrinsics.astype(np.float32),
        processed_images=inputs.processed_images,
        gaussians=_following(output, placed, inputs),
        aux={name: _array(feature) for name, feature in output.aux.items()},
        scale_factor=placed.scale_factor,
        names=inputs.names,
        timestamps=inputs.timestamps,
        records=inputs.records,
        model_name=model_name,
    )


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
    from_given, report = align_to_given(given, predicted)
    known = np.isfinite(given).all(axis=(1, 2), keepdims=True)
    if not options.align_to_input_ext_scale:
        moved = np.where(known, from_given.on_extrinsics(given), predicted)
        return replace(plain, extrinsics=moved.astype(np.float32), alignment=report)
    warn_of_poor_scale(report, given)
    factor = plain.scale_factor
    return _Placed(
        depth=(plain.depth / from_given.scale).astype(np.float32),
        extrinsics=np.where(known, given[:, :3], from_given.inverse.on_extrinsics(predicted)).astype(np.float32),
        is_metric=False,  # the unit is now the caller's, whatever it is
        scale_factor=None if factor is None else factor / from_given.scale,
        alignment=report,
        stretch=1 / from_given.scale,
    )


def _metric(
    placed: _Placed, inputs: ModelInputs, options: InferOptions, model_name: str
) -> tuple[npt.NDArray[np.float32], bool, MetricFocal | None]:
    """Metres from a network that predicts depth for a focal length of 300 pixels, and whose focal length made them."""
    given = inputs.intrinsics is not None and options.metric_focal == "given"
    if model_name not in CANONICAL_PRESETS:
        made = placed.is_metric and placed.scale_factor is not None
        return placed.depth, placed.is_metric, ("given" if given else "predicted") if made else None
    if inputs.intrinsics is None or not given:
        return placed.depth, placed.is_metric, None
    focal = inputs.intrinsics[:, [0, 1], [0, 1]].mean(1)
    metres = placed.depth * (focal / CANONICAL_FOCAL)[:, None, None]
    return metres.astype(np.float32), True, "given"


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
