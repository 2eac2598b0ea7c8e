"""Depth of a video that does not flicker: one scale for all of it, and a filter that goes with the motion.

1. The network sees windows of frames together. Neighbouring windows share frames: the median ratio there gives the
   next window its scale, and the shared frames are cross-faded.
2. What is left of changes of scale from one frame to the next, measured along the optical flow, is taken out where it
   is fast; slow changes are the camera's own way.
3. Each frame is drawn to the one before it along the flow, where colours and depth say that it is the same surface.

Nothing needs cameras, so that it works with every model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Float, UInt8

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.flicker import along
from depth_anything_3.stream.windows import plan_windows
from depth_anything_3.types.prediction import Prediction

if TYPE_CHECKING:
    from depth_anything_3.api import DepthAnything3
    from depth_anything_3.io.images import ImageSource
    from depth_anything_3.types.options import IntrinsicsOrigin
    from depth_anything_3.types.progress import ProgressCallback

Array = npt.NDArray[np.float64]
Maps = npt.NDArray[np.float32]

_COLOUR = 12.0  # grey levels by which the same surface may differ from frame to frame
_DEPTH = 0.15  # of log depth: two surfaces differ by more
_SLOW = 4.0  # frames: standard deviation of what counts as slow


@dataclass(frozen=True, kw_only=True)
class VideoDepthOptions:
    """How the frames of a video become one clip.

    Attributes:
        window: frames that the network sees together.
        overlap: of neighbouring windows.
        smoothing: weight of the frame before where it shows the same surface, from 0 (off) to below 1.
        steady_scale: take fast changes of scale out.
    """

    window: int = 16
    overlap: int = 4
    smoothing: float = 0.6
    steady_scale: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.window:
            raise InputError("overlap", str(self.overlap), f"at least 1 and below the window, {self.window}")
        if not 0 <= self.smoothing < 1:
            raise InputError("smoothing", str(self.smoothing), "a number from 0 to below 1")


def video_depth(
    model: DepthAnything3,
    frames: Sequence[ImageSource],
    *,
    intrinsics: Float[np.ndarray, "t 3 3"] | None = None,
    intrinsics_origin: IntrinsicsOrigin = "given",
    options: VideoDepthOptions | None = None,
    process_res: int | None = None,
    progress: ProgressCallback | None = None,
) -> Prediction:
    """Depth of the frames of one video, in their order. It holds no cameras: those of different windows do not fit.

    Args:
        model: any.
        frames: of one size.
        intrinsics: in pixels of the frames, for metric models; None where not known.
        options: None for the defaults.
        intrinsics_origin, process_res, progress: as in :meth:`~depth_anything_3.api.DepthAnything3.inference`, window
            by window.

    Raises:
        InputError: no frame, or another number of intrinsics.
    """
    if intrinsics is not None and len(intrinsics) != len(frames):
        raise InputError("intrinsics", f"{len(intrinsics)} for {len(frames)} frames", "one matrix for each frame")

    def predict(chosen: Sequence[int]) -> Prediction:
        return model.inference(
            [frames[i] for i in chosen],
            intrinsics=None if intrinsics is None else intrinsics[list(chosen)],
            intrinsics_origin=intrinsics_origin,
            process_res=process_res,
            progress=progress,
        )

    return steady_depth(predict, len(frames), options)


def steady_depth(
    predict: Callable[[Sequence[int]], Prediction], frames: int, options: VideoDepthOptions | None = None
) -> Prediction:
    """As :func:`video_depth`, of anything that predicts depth and processed images for frames by their indices.

    Raises:
        InputError: no frame, or predictions without pictures.
    """
    options = options or VideoDepthOptions()
    clip = _joined(predict, frames, options)
    if clip.processed_images is None:
        raise InputError("predict", "predictions without processed images", "those of an inference")
    valid = np.isfinite(clip.depth) & (clip.depth > 0)
    logs = np.where(valid, np.log(np.where(valid, clip.depth, 1.0)), np.nan).astype(np.float64)
    if frames > 1:
        flow = backward_flow(clip.processed_images)
        trust = np.stack(
            [
                _same_colour(clip.processed_images[t], clip.processed_images[t - 1], flow[t - 1])
                for t in range(1, frames)
            ]
        )
        if options.steady_scale:
            logs += _steadying(logs, flow, trust)[:, None, None]
        if options.smoothing:
            logs = _filtered(logs, flow, trust, options.smoothing)
    depth = np.where(valid, np.exp(logs), clip.depth).astype(np.float32)
    return replace(clip, depth=depth)


def backward_flow(frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, "s h w 2"]:
    """For each frame but the first, where its pixels were in the frame before (dense inverse search, Kroeger 2016)."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)) for frame in frames]
    found = [
        np.asarray(search.calc(now, before, np.zeros((*now.shape, 2), np.float32))) for before, now in pairwise(grey)
    ]
    return np.stack(found).astype(np.float32)


# --- windows -----------------------------------------------------------------------------------------------------


def _joined(predict: Callable[[Sequence[int]], Prediction], frames: int, options: VideoDepthOptions) -> Prediction:
    """All frames in the scale of the first window."""
    clip: Prediction | None = None
    for window in plan_windows(frames, size=options.window, overlap=options.overlap):
        found = replace(
            predict(window.frames), extrinsics=None, intrinsics=None, gaussians=None, aux={}, alignment=None,
            scale_factor=None, ray_residual_deg=None, rig=None, observations=None,
        )  # fmt: skip
        clip = found if clip is None else _appended(clip, found, len(clip.depth) - window.start)
    assert clip is not None
    return clip


def _appended(clip: Prediction, window: Prediction, shared: int) -> Prediction:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(clip.depth[-shared:]) - np.log(window.depth[:shared])
        known = np.isfinite(ratio)
        scale = np.exp(np.median(ratio[known])) if known.any() else 1.0
        later = ((np.arange(shared) + 1) / (shared + 1))[:, None, None]
        scaled = window.depth * np.float32(scale)
        faded = np.exp((1 - later) * np.log(clip.depth[-shared:]) + later * np.log(scaled[:shared]))
    faded = np.where(known, faded, clip.depth[-shared:]).astype(np.float32)
    fields = ("conf", "sky", "sky_prob", "valid", "processed_images")
    longer = {name: _longer(getattr(clip, name), getattr(window, name), shared) for name in fields}
    return replace(
        clip,
        depth=np.concatenate([clip.depth[:-shared], faded, scaled[shared:]]),
        names=clip.names + window.names[shared:],
        records=clip.records + window.records[shared:],
        timestamps=clip.timestamps + window.timestamps[shared:],
        **longer,  # type: ignore[arg-type]
    )


def _longer(old: np.ndarray | None, new: np.ndarray | None, shared: int) -> np.ndarray | None:
    return None if old is None or new is None else np.concatenate([old, new[shared:]])


# --- along the flow ----------------------------------------------------------------------------------------------


def _same_colour(now: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8], flow: Maps) -> Array:
    """Weights from 0 to 1: whether what the flow points to looks the same."""
    moved = np.stack([along(before[..., c].astype(np.float64), flow) for c in range(3)], -1)
    off = np.square(moved - now).mean(-1) / _COLOUR**2
    return np.nan_to_num(np.exp(-off / 2), nan=0.0)


def _steadying(logs: Array, flow: Maps, trust: Array) -> Array:
    """By frame, what to add to log depth so that its scale changes slowly."""
    steps = np.zeros(len(logs))
    for t in range(1, len(logs)):
        change = logs[t] - along(logs[t - 1], flow[t - 1])
        used = np.isfinite(change) & (trust[t - 1] > 0.5)
        steps[t] = np.median(change[used]) if used.any() else 0.0
    path = np.cumsum(steps)
    reach = min(len(path) - 1, int(3 * _SLOW))
    # Mirrored at its ends through the end point, so that a steady path stays as it is.
    padded = np.concatenate([2 * path[0] - path[reach:0:-1], path, 2 * path[-1] - path[-2 : -reach - 2 : -1]])
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SLOW) ** 2)
    slow: Array = np.convolve(padded, kernel / kernel.sum(), "valid")
    return slow - path


def _filtered(logs: Array, flow: Maps, trust: Array, smoothing: float) -> Array:
    result = logs.copy()
    for t in range(1, len(logs)):
        before = along(result[t - 1], flow[t - 1])
        # The whole picture may come nearer: only what differs from that is noise.
        change = logs[t] - before
        usable = np.isfinite(change)
        common = np.median(change[usable & (trust[t - 1] > 0.5)]) if (usable & (trust[t - 1] > 0.5)).any() else 0.0
        off = np.where(usable, change - common, 0.0)
        weight = np.where(usable, smoothing * trust[t - 1] * np.exp(-0.5 * (off / _DEPTH) ** 2), 0.0)
        result[t] = logs[t] - weight * off
    return result
