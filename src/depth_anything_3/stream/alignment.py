"""How one window of frames lies in another, from the frames that both have seen.

The same pixel of the same frame looks along the same ray, whatever either window thinks the focal length is. So a
shared frame says two things, and neither needs points in space: the ratio of the two depths of each pixel is the ratio
of the scales, and the two cameras are one camera. Estimating these apart keeps errors of depth out of the rotation,
and focal lengths that disagree out of everything.

* Scale: the median of ``log(depth / depth)``, then Tukey's biweight about it, over pixels that agree with each other
  (moving things agree too: both windows saw the frame at one moment); per frame, then over frames.
* Rotation: robust chordal mean of ``R_target R_source^T`` over the shared cameras.
* Translation: robust mean of ``c_target - s R c_source``.

How much the shared frames disagree about the answer is its covariance. Pixels are a fixed grid: V shared frames, S of
them per frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.alignment import align_trajectories
from depth_anything_3.geometry.rotation_vectors import nearest_rotation, vector_from_rotation
from depth_anything_3.geometry.sim3 import Sim3, sim3_log
from depth_anything_3.types.prediction import Prediction, usable_pixels

Array = npt.NDArray[np.float64]

SAMPLES_PER_FRAME = 1024
"""About how many pixels of each frame are compared: 12 shared frames are 12 000 pairs."""

_BORDER = 0.03  # of the picture on each side is left out
_EDGE = 0.3  # log-depth to a neighbour: beyond it the pixel is at an edge, where depth is a mixture
_FAR_SHARE = 0.95  # depths beyond this quantile of a frame are left out
_AGREE = 0.15  # log-ratio to the median: beyond it the two depths of a pixel are not of one surface
_LEAST_PIXELS = 20  # that agree, for a frame to say something about the scale
_ROUNDS = 10  # of reweighting
_FLOOR = np.array([2e-3] * 3 + [5e-4] * 3 + [1e-3])  # least deviations: of depth, in radians, of the log scale


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledViews:
    """What is kept of frames to align others to them: a few kilobytes each.

    Attributes:
        cameras: world-from-camera poses in the window's own world; scale 1. (V,)
        depth: z-depth at the grid; NaN where it is not to be trusted.
    """

    cameras: Sim3
    depth: Float[np.ndarray, "v s"]

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, index: slice | npt.NDArray[np.integer]) -> SampledViews:
        return SampledViews(cameras=self.cameras[index], depth=self.depth[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """Result of :func:`align_views`.

    Attributes:
        similarity: target from source; no batch axis.
        covariance: (7, 7) of the error in the tangent at the source's cameras: where a shared camera is put.
        agreeing: part of the compared pixels whose depths agree after scaling; 0 where none could be compared.
        frames: shared frames that spoke about the scale.
    """

    similarity: Sim3
    covariance: Float[np.ndarray, "7 7"]
    agreeing: float
    frames: int


def sample_views(prediction: Prediction) -> SampledViews:
    """The cameras and the depth at a grid of pixels, the same for every prediction of that size.

    Left out are sky, borders, depth edges, and the farthest part of each frame.

    Raises:
        InputError: the prediction has no cameras.
    """
    if prediction.extrinsics is None:
        raise InputError("prediction", "one without cameras", "extrinsics of all frames")
    count, height, width = prediction.depth.shape
    step = max(1, round((height * width / SAMPLES_PER_FRAME) ** 0.5))
    log_depth = _trusted_log_depth(prediction)
    inset_y, inset_x = int(_BORDER * height), int(_BORDER * width)
    grid = log_depth[:, inset_y : height - inset_y : step, inset_x : width - inset_x : step].reshape(count, -1)
    with np.errstate(over="ignore"):
        return SampledViews(cameras=Sim3.from_extrinsics(prediction.extrinsics), depth=np.exp(grid))


def _trusted_log_depth(prediction: Prediction) -> npt.NDArray[np.float32]:
    depth = prediction.depth
    with np.errstate(invalid="ignore", divide="ignore"):
        log_depth = np.where(usable_pixels(prediction), np.log(depth), np.nan)
    jump = np.zeros_like(log_depth)
    for axis in (1, 2):
        with np.errstate(invalid="ignore"):
            step = np.fmax(np.abs(np.diff(log_depth, axis=axis)), 0)  # 0 beside what is unknown
        before, after = [(0, 0)] * 3, [(0, 0)] * 3
        before[axis], after[axis] = (1, 0), (0, 1)
        jump = np.maximum(jump, np.maximum(np.pad(step, before), np.pad(step, after)))
    far = np.array([np.quantile(v[v == v], _FAR_SHARE) if (v == v).any() else np.inf for v in log_depth])
    with np.errstate(invalid="ignore"):
        keep = (jump < _EDGE) & (log_depth <= far[:, None, None])
    return np.where(keep, log_depth, np.nan)


def align_views(target: SampledViews, source: SampledViews, *, fixed_scale: bool = False) -> Alignment:
    """The similarity that takes the world of ``source`` to that of ``target``, from the same frames seen in both.

    Args:
        target, source: the same V frames, V at least 1, sampled from predictions of one size.
        fixed_scale: the scales are known to be the same (both metric), so that only a rigid motion is sought.

    Raises:
        InputError: no frame, or other numbers of frames or samples.
    """
    if not len(target) or target.depth.shape != source.depth.shape:
        raise InputError("source", f"shape {source.depth.shape}", f"at least one frame, and {target.depth.shape}")
    per_frame, agreeing = _log_ratios(*(np.asarray(views.depth, np.float64) for views in (target, source)))
    spoken = np.isfinite(per_frame)
    log_scale = 0.0 if fixed_scale else _log_scale(per_frame, target.cameras, source.cameras)
    similarity = _pose_mean(target.cameras, source.cameras, float(np.exp(log_scale)))
    votes = _votes(similarity, target.cameras, source.cameras, np.where(spoken, per_frame, log_scale))
    return Alignment(
        similarity=similarity,
        covariance=_covariance(votes, _typical_depth(source), scale_known=bool(spoken.any()) or fixed_scale),
        agreeing=agreeing,
        frames=int(spoken.sum()),
    )


def _log_ratios(target: Array, source: Array) -> tuple[Array, float]:
    """Robust log(target / source) per frame, NaN where too few pixels agree, and the part of pixels that do."""
    with np.errstate(invalid="ignore"):
        ratio = np.log(target) - np.log(source)
    known = np.isfinite(ratio)
    if not known.any():
        return np.full(len(ratio), np.nan), 0.0
    middle = np.array([np.median(r[k]) if k.any() else np.nan for r, k in zip(ratio, known, strict=True)])
    coarse = np.nanmedian(middle)
    # A frame may be off by the drift inside its window, but not by much; what is has followed something that is wrong.
    middle = np.where(np.abs(middle - coarse) < 2 * _AGREE, middle, coarse)
    near = known & (np.abs(np.where(known, ratio, 0) - middle[:, None]) < _AGREE)
    for _ in range(_ROUNDS):
        off = np.where(near, (ratio - middle[:, None]) / _AGREE, 1.0)
        weight = np.where(near, np.clip(1 - off**2, 0, None) ** 2, 0.0)
        total = weight.sum(1)
        middle = np.where(total > 0, (weight * np.where(near, ratio, 0)).sum(1) / np.where(total > 0, total, 1), middle)
        near = known & (np.abs(np.where(known, ratio, 0) - middle[:, None]) < _AGREE)
    least = min(_LEAST_PIXELS, ratio.shape[1] // 4)
    return np.where(near.sum(1) >= max(least, 1), middle, np.nan), float(near.sum() / known.sum())


def _log_scale(per_frame: Array, target: Sim3, source: Sim3) -> float:
    """From depth; from the camera centres where no depth can be compared."""
    spoken = per_frame[np.isfinite(per_frame)]
    if len(spoken):
        return float(_robust_mean(spoken[:, None])[0])
    return float(np.log(align_trajectories(target.extrinsics(), source.extrinsics()).scale))


def _pose_mean(target: Sim3, source: Sim3, scale: float) -> Sim3:
    turns = target.rotation @ source.rotation.swapaxes(-1, -2)
    weight = np.ones(len(turns))
    for _ in range(_ROUNDS):
        rotation = nearest_rotation((weight[:, None, None] * turns).sum(0))
        weight = _cauchy(np.linalg.norm(vector_from_rotation(turns @ rotation.T), axis=-1))
    shift = target.translation - scale * source.translation @ rotation.T
    return Sim3(rotation, _robust_mean(shift), np.asarray(scale))


def _votes(similarity: Sim3, target: Sim3, source: Sim3, log_ratio: Array) -> Array:
    """(V, 7) what each shared frame would change, in the tangent at its camera."""
    seen = Sim3(target.rotation, target.translation, np.exp(log_ratio))
    return sim3_log((similarity @ source).inverse() @ seen)


def _covariance(votes: Array, depth: float, *, scale_known: bool) -> Array:
    """Scatter of the votes, not divided by their number: errors of neighbouring frames are much alike."""
    floor = _FLOOR * np.array([depth] * 3 + [1.0] * 4)
    weight = _cauchy(np.linalg.norm(votes / floor, axis=1))
    covariance = np.diag(floor**2) + (weight[:, None] * votes).T @ votes / weight.sum()
    if not scale_known:
        covariance[6, 6] += 1.0
    return np.asarray(covariance)


def _robust_mean(values: Array) -> Array:
    """Mean of rows with Cauchy weights by their distance from it; starts at the median."""
    mean: Array = np.median(values, axis=0)
    for _ in range(_ROUNDS):
        weight = _cauchy(np.linalg.norm(values - mean, axis=1))
        mean = (weight[:, None] * values).sum(0) / weight.sum()
    return mean


def _cauchy(distance: Array) -> Array:
    """Weights 1 / (1 + (d / width)^2); the width is that which the median distance speaks for."""
    width = 2.5 * float(np.median(distance))
    weight: Array = 1 / (1 + (distance / max(width, 1e-12)) ** 2)
    return weight


def _typical_depth(views: SampledViews) -> float:
    known = views.depth[np.isfinite(views.depth)]
    return float(np.median(known)) if len(known) else 1.0
