"""Predictions as arrays in a compressed ``.npz`` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from depth_anything_3._files import atomic_path
from depth_anything_3.types.prediction import Prediction

_CONF_DECIMALS = 2


def write_archive(prediction: Prediction, path: Path, *, depth_decimals: int, with_images: bool) -> Path:
    """Write the published arrays, and what a reader needs to interpret them; absent fields are left out.

    Published keys: ``depth`` (N, H, W) float32, rounded; ``conf`` (N, H, W) float32, rounded to two decimals;
    ``extrinsics`` (N, 3, 4) float32 world-to-camera; ``intrinsics`` (N, 3, 3) float32; ``image`` (N, H, W, 3) uint8.
    Added: ``sky`` and ``valid`` (N, H, W) bool, ``is_metric`` bool, ``scale_factor`` float64, ``names`` (N,) strings,
    ``timestamps`` (N,) seconds, and ``observations.*``, where the views see the points that refinement matched
    (:class:`~depth_anything_3.types.observations.Observations`).
    Nothing in the file needs unpickling, and equal predictions give equal bytes.
    """
    arrays: dict[str, Any] = {
        "depth": np.round(prediction.depth, depth_decimals),
        "conf": None if prediction.conf is None else np.round(prediction.conf, _CONF_DECIMALS),
        "extrinsics": prediction.extrinsics,
        "intrinsics": prediction.intrinsics,
        "image": prediction.processed_images if with_images else None,
        "sky": prediction.sky,
        "valid": prediction.valid,
        "is_metric": prediction.is_metric,
        "scale_factor": prediction.scale_factor,
        "names": prediction.names or None,
        "timestamps": prediction.timestamps or None,
    }
    present: dict[str, Any] = {k: np.asarray(v) for k, v in arrays.items() if v is not None}
    if prediction.observations is not None:
        present |= prediction.observations.as_arrays()
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **present)
    return path
