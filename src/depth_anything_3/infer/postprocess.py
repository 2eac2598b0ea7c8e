"""From network outputs to a prediction in the caller's frame."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from depth_anything_3.geometry.alignment import Similarity
from depth_anything_3.geometry.gaussians import transform_gaussians
from depth_anything_3.infer.cameras import align_to_given
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.inputs import ModelInputs
from depth_anything_3.types.options import InferOptions
from depth_anything_3.types.output import NetOutput
from depth_anything_3.types.prediction import Prediction

SKY_SCORE = 0.5
"""Scores from here on count as sky in a prediction (the published value; filling uses a lower one)."""


def to_prediction(output: NetOutput, inputs: ModelInputs, options: InferOptions, model_name: str) -> Prediction:
    """The prediction for the one scene in ``output``, aligned to the cameras that came with ``inputs``.

    With given poses, intrinsics are the given ones, and pose and depth are brought together by a similarity: in the
    given frame and scale (``align_to_input_ext_scale``), or in the predicted one. Given intrinsics alone replace the
    predicted ones.
    """
    depth = _array(output.depth)
    extrinsics, gaussians = _optional(output.extrinsics), output.gaussians
    is_metric, scale_factor = output.is_metric, _scale_factor(output)
    if inputs.extrinsics is not None and extrinsics is not None:
        from_given = align_to_given(inputs.extrinsics, extrinsics)
        if options.align_to_input_ext_scale:
            _warn_of_unknown_scale(from_given)
            extrinsics = inputs.extrinsics[:, :3].astype(np.float32)
            depth = (depth / from_given.scale).astype(np.float32)
            gaussians = None if gaussians is None else _moved_back(gaussians, from_given)
            # The unit is now the caller's, whatever it is.
            is_metric = False
            scale_factor = None if scale_factor is None else scale_factor / from_given.scale
        else:
            extrinsics = from_given.on_extrinsics(inputs.extrinsics).astype(np.float32)
    intrinsics = inputs.intrinsics
    return Prediction(
        depth=depth,
        is_metric=is_metric,
        sky=None if output.sky is None else _array(output.sky) >= SKY_SCORE,
        conf=_optional(output.depth_conf),
        extrinsics=extrinsics,
        intrinsics=_optional(output.intrinsics) if intrinsics is None else intrinsics.astype(np.float32),
        processed_images=inputs.processed_images,
        gaussians=gaussians,
        aux={name: _array(feature) for name, feature in output.aux.items()},
        scale_factor=scale_factor,
        names=inputs.names,
        records=inputs.records,
        model_name=model_name,
    )


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


def _warn_of_unknown_scale(from_given: Similarity) -> None:
    if from_given.rule == "orientations, scale unknown":
        warnings.warn(
            "extrinsics: one view, or views that share one place, cannot tell the scale of the given poses; "
            "the depth keeps its own scale",
            stacklevel=4,
        )


def _moved_back(gaussians: Gaussians, from_given: Similarity) -> Gaussians:
    """Gaussians from the predicted world into the given one."""
    rotation = from_given.rotation.T
    translation = -rotation @ from_given.translation / from_given.scale
    return transform_gaussians(
        gaussians, torch.from_numpy(rotation.copy()), torch.from_numpy(translation), 1 / from_given.scale
    )
