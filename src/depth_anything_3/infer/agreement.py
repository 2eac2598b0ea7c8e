"""A confidence for networks without one: whether they say the same of the picture mirrored, and of a smaller one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.infer.resized import resized_inputs, size_times
from depth_anything_3.types.inputs import Anchors, ModelInputs

Maps = npt.NDArray[np.float32]

_SMALLER = (0.75, 0.5)
_SPREAD = 0.05  # of log depth, at which the confidence is 2
_FLOOR = 0.002
_SMOOTH = 1.0  # pixels: neighbours share what makes them uncertain

_MIRROR = np.diag([-1.0, 1.0, 1.0])


def derived_confidence(
    depth: Float[np.ndarray, "n h w"], inputs: ModelInputs, predict: Callable[[ModelInputs], Maps]
) -> Float[np.ndarray, "n h w"]:
    """Confidence, at least 1: one plus 0.05 over the mean difference of log depth to that of changed pictures.

    The changed pictures are mirrored ones, and ones of three quarters and half the size. Each changed map is brought to
    the scale of the other by the median ratio of its view, so that only shapes are compared.

    Args:
        depth: what the network says of ``inputs``.
        inputs: of one scene.
        predict: the network: (N, H', W') depth of inputs of any size.
    """
    height, width = depth.shape[1:]
    spread = np.zeros(depth.shape)
    changed = [_mirrored(inputs), *(resized_inputs(inputs, size_times(inputs, factor)) for factor in _SMALLER)]
    for index, variant in enumerate(changed):
        found = predict(variant)
        found = found[:, :, ::-1] if index == 0 else _enlarged(found, (height, width))
        spread += _difference(depth, found) / len(changed)
    smooth = np.stack([cv2.GaussianBlur(s, (0, 0), _SMOOTH) for s in spread])
    return (1 + _SPREAD / (smooth + _FLOOR)).astype(np.float32)


def _difference(depth: Maps, other: Maps) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.log(other.astype(np.float64) / depth)
    known = np.isfinite(log_ratio)
    for view, where in zip(log_ratio, known, strict=True):
        if where.any():
            view -= np.median(view[where])
    return np.where(known, np.abs(log_ratio), 1.0)


def _mirrored(inputs: ModelInputs) -> ModelInputs:
    width, told = inputs.images.shape[3], inputs.anchors
    if told is not None:
        told = Anchors(extrinsics=_mirrored_poses(told.extrinsics), intrinsics=_mirrored_lenses(told.intrinsics, width))
    return replace(
        inputs,
        images=np.ascontiguousarray(inputs.images[..., ::-1]),
        extrinsics=None if inputs.extrinsics is None else _mirrored_poses(inputs.extrinsics),
        intrinsics=None if inputs.intrinsics is None else _mirrored_lenses(inputs.intrinsics, width),
        anchors=told,
    )


def _mirrored_poses(poses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mirrored world, seen by mirrored cameras."""
    poses = poses.copy()
    poses[:, :3, :3] = _MIRROR @ poses[:, :3, :3] @ _MIRROR
    poses[:, :3, 3] = poses[:, :3, 3] @ _MIRROR
    return poses


def _mirrored_lenses(lenses: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    lenses = lenses.copy()
    lenses[:, 0, 1], lenses[:, 0, 2] = -lenses[:, 0, 1], width - lenses[:, 0, 2]
    return lenses


def _enlarged(depth: Maps, hw: tuple[int, int]) -> Maps:
    return np.stack([np.asarray(cv2.resize(z, hw[::-1], interpolation=cv2.INTER_LINEAR)) for z in depth])
