"""Depth Anything 3: consistent depth, cameras, points and Gaussians from any number of images.

Names are imported when first used, so that ``import depth_anything_3`` loads neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "DepthAnything3",
    "Gaussians",
    "InferOptions",
    "NetOutput",
    "Prediction",
    "PreprocessOptions",
    "Progress",
    "ResizeRecord",
    "VideoOptions",
    "__version__",
]

_HOMES = {
    "DepthAnything3": "depth_anything_3.api",
    "Gaussians": "depth_anything_3.types.gaussians",
    "InferOptions": "depth_anything_3.types.options",
    "NetOutput": "depth_anything_3.types.output",
    "Prediction": "depth_anything_3.types.prediction",
    "PreprocessOptions": "depth_anything_3.types.options",
    "Progress": "depth_anything_3.types.progress",
    "ResizeRecord": "depth_anything_3.types.inputs",
    "VideoOptions": "depth_anything_3.types.options",
}

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.types.gaussians import Gaussians
    from depth_anything_3.types.inputs import ResizeRecord
    from depth_anything_3.types.options import InferOptions, PreprocessOptions, VideoOptions
    from depth_anything_3.types.output import NetOutput
    from depth_anything_3.types.prediction import Prediction
    from depth_anything_3.types.progress import Progress


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
