"""Network inputs at another size: for what a network says of the same pictures seen larger or smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from depth_anything_3.types.inputs import ModelInputs, ResizeRecord
from depth_anything_3.types.options import PATCH_SIZE

Size = tuple[int, int]


def size_times(inputs: ModelInputs, factor: float) -> Size:
    """Height and width of the pictures times a factor, as the nearest multiples of 14."""
    height, width = (max(PATCH_SIZE, round(side * factor / PATCH_SIZE) * PATCH_SIZE) for side in _size(inputs))
    return height, width


def resized_inputs(inputs: ModelInputs, size: Size) -> ModelInputs:
    """The same scene with pictures of ``size`` (height, width); intrinsics, masks and records follow."""
    scale = np.diag([size[1] / _size(inputs)[1], size[0] / _size(inputs)[0], 1.0])
    masks, told = inputs.masks, inputs.anchors
    if masks is not None:
        masks = np.stack([_picture(mask.astype(np.float32), size) >= 0.5 for mask in masks])
    return replace(
        inputs,
        images=np.stack([np.stack([_picture(channel, size) for channel in image]) for image in inputs.images]),
        processed_images=np.stack([_picture(picture, size) for picture in inputs.processed_images]),
        intrinsics=None if inputs.intrinsics is None else scale @ inputs.intrinsics,
        masks=masks,
        anchors=None if told is None else replace(told, intrinsics=scale @ told.intrinsics),
        records=tuple(_record(record, size, (float(scale[0, 0]), float(scale[1, 1]))) for record in inputs.records),
    )


def _size(inputs: ModelInputs) -> Size:
    return inputs.images.shape[2], inputs.images.shape[3]


def _picture(picture: npt.NDArray[Any], size: Size) -> npt.NDArray[Any]:
    grows = size[0] > picture.shape[0] or size[1] > picture.shape[1]
    how = cv2.INTER_CUBIC if grows else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=how))


def _record(record: ResizeRecord, size: Size, factor: tuple[float, float]) -> ResizeRecord:
    (sx, sy), (ox, oy), (x, y) = record.scale_xy, record.offset_xy, factor
    return replace(record, processed_hw=size, scale_xy=(sx * x, sy * y), offset_xy=(ox * x, oy * y))
