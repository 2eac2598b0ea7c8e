"""From the frames of a video, one at a time, to depth that does not flicker."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from depth_anything_3.view.frames import DepthFrame

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.io.video import VideoFrame

Estimator = Callable[["VideoFrame"], DepthFrame]
"""A frame in, the same frame with depth out, at the size the network works in."""

_ASSUMED_FOV = math.radians(60)
_KEEP = 0.9


class Steady:
    """Estimates depth frame by frame and keeps its scale and the lens steady.

    Each frame is seen alone, so that a network of relative depth gives each a scale of its own. The median depth of
    relative frames is held to its running mean, and so is the focal length: what the eye would see as flicker goes,
    a slow change of either stays. Metres are never touched. Networks without cameras get a horizontal field of view
    of 60 degrees.

    Args:
        model: the network with everything around it.
        process_res: length of the longest side, in pixels.
    """

    def __init__(self, model: DepthAnything3, process_res: int) -> None:
        self._model, self._process_res = model, process_res
        self.reset()

    @property
    def name(self) -> str:
        """Name of the network's preset."""
        return self._model.model_name

    def reset(self) -> None:
        """Forget the frames so far, after a jump."""
        self._log_depth: float | None = None
        self._log_focal: npt.NDArray[np.float64] | None = None

    def __call__(self, frame: VideoFrame) -> DepthFrame:
        prediction = self._model.inference([frame.image], process_res=self._process_res)
        assert prediction.processed_images is not None
        depth, image = prediction.depth[0], prediction.processed_images[0]
        if not prediction.is_metric:
            depth = self._held(depth)
        lens = _assumed(*depth.shape) if prediction.intrinsics is None else self._smooth(prediction.intrinsics[0])
        return DepthFrame(
            image=image, depth=depth, intrinsics=lens, timestamp=frame.timestamp, metric=prediction.is_metric
        )

    def _held(self, depth: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        valid = depth[np.isfinite(depth) & (depth > 0)]
        if not valid.size:
            return depth
        now = math.log(float(np.median(valid)))
        self._log_depth = now if self._log_depth is None else _KEEP * self._log_depth + (1 - _KEEP) * now
        return depth * np.float32(math.exp(self._log_depth - now))

    def _smooth(self, intrinsics: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        now = np.log(np.diag(intrinsics)[:2].astype(np.float64))
        self._log_focal = now if self._log_focal is None else _KEEP * self._log_focal + (1 - _KEEP) * now
        steady = intrinsics.copy()
        steady[0, 0], steady[1, 1] = np.exp(self._log_focal)
        return steady


def _assumed(height: int, width: int) -> npt.NDArray[np.float32]:
    focal = width / 2 / math.tan(_ASSUMED_FOV / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], np.float32)
