"""Places seen again: candidates by descriptor, and the geometric check that each must pass.

A candidate is a pair of frames that look alike. The network then sees the frames around both together, in a *loop
window*, and must put them into one world in which the depth of one side agrees with what the other side sees. Only
then does the pair become a relation of the pose graph, where it is still doubted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import project, unproject
from depth_anything_3.stream.windows import Window
from depth_anything_3.types.prediction import Prediction, usable_pixels

_BLOCK = 1024  # rows of the similarity matrix at one time


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Which pairs become candidates, and what a candidate must show.

    Attributes:
        neighbours: candidates of one frame.
        least_gap: frames between the two ends.
        least_similarity: cosine below which nothing is a candidate.
        spread: how many robust standard deviations (1.48 times the median deviation) a similarity must lie above the
            median of all pairs.
        apart: of several candidates whose ends are both within this many frames, only the best is kept.
        share: frames of all loop windows, as a part of the frames of the sequence; it bounds how many candidates are
            kept (of a short sequence, four).
        side: frames of each end in the loop window.
        stride: frames from one to the next in it, so that they span a baseline.
        depth_error: relative difference of depth at which two sides agree about a point.
        least_agreeing: part of the points seen from both sides that must agree.
        least_shared: part of the points of one side that must be inside the other side's pictures.
    """

    neighbours: int = 5
    least_gap: int = 100
    least_similarity: float = 0.5
    spread: float = 4.0
    apart: int = 25
    share: float = 0.05
    side: int = 8
    stride: int = 2
    depth_error: float = 0.05
    least_agreeing: float = 0.3
    least_shared: float = 0.2

    def __post_init__(self) -> None:
        counts = (self.neighbours, self.least_gap, self.apart, self.side, self.stride)
        if min(counts) < 1 or not (0 < self.depth_error < 1 and self.share >= 0):
            raise InputError(
                "options", repr(self), "counts of at least 1, a depth error below 1, a share of at least 0"
            )

    def most(self, frames: int) -> int:
        """Candidates in all for a sequence of that many frames."""
        return max(4, int(self.share * frames / (2 * self.side)))


@dataclass(frozen=True, kw_only=True)
class LoopCandidate:
    """Two frames that may show one place.

    Attributes:
        first, second: frames, ``first < second``.
        similarity: of their descriptors; only for ranking.
    """

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, kw_only=True)
class LoopCheck:
    """What the loop window showed.

    Attributes:
        accepted: whether both parts are large enough.
        agreeing: part of the points seen from both sides whose depths agree.
        shared: part of the points of one side inside the other side's pictures.
    """

    accepted: bool
    agreeing: float
    shared: float


def propose_loops(descriptors: Float[np.ndarray, "n d"], options: LoopOptions | None = None) -> list[LoopCandidate]:
    """Pairs of frames whose descriptors stand out, best first.

    The threshold adapts to the sequence: in a long corridor everything looks alike, and only what looks more alike
    than that is a candidate.

    Args:
        descriptors: one per frame, of any length but zero.
        options: None for the defaults.

    Raises:
        InputError: the shape is wrong, or a descriptor is zero or not finite.
    """
    options = options or LoopOptions()
    unit = _unit_rows(descriptors)
    rows, columns, values = [], [], []
    levels = []
    for begin in range(0, len(unit), _BLOCK):
        block = unit[begin : begin + _BLOCK] @ unit.T
        row = np.arange(begin, begin + len(block))
        block[row[:, None] - np.arange(len(unit)) < options.least_gap] = -np.inf
        levels.append(block[:: max(1, len(unit) // _BLOCK)][:, ::7].ravel())
        best = _largest(block, options.neighbours)
        rows.append(np.repeat(row, best.shape[1]))
        columns.append(best.ravel())
        values.append(np.take_along_axis(block, best, axis=1).ravel())
    first, second, similarity = np.concatenate(columns), np.concatenate(rows), np.concatenate(values)
    keep = similarity >= max(options.least_similarity, _level(np.concatenate(levels), options.spread))
    found = [
        LoopCandidate(first=int(a), second=int(b), similarity=float(s))
        for a, b, s in zip(first[keep], second[keep], similarity[keep], strict=True)
    ]
    return spread_out(found, len(unit), options)


def _largest(rows: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.int64]:
    """(N, count) columns of the largest values of each row, largest first, the first of equal ones first."""
    count = min(count, rows.shape[1])
    some = np.sort(np.argpartition(rows, -count, axis=1)[:, -count:], axis=1)
    order = np.argsort(-np.take_along_axis(rows, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def spread_out(candidates: Iterable[LoopCandidate], frames: int, options: LoopOptions) -> list[LoopCandidate]:
    """As many candidates as the options allow, spread over the sequence, the best of each neighbourhood first.

    Two candidates are neighbours when both their ends are. Wide neighbourhoods come first, so that a few loops tie the
    whole sequence and not its easiest stretch.

    Args:
        candidates: in any order.
        frames: length of the sequence.
        options: ``apart`` is the narrowest neighbourhood.
    """
    ranked = sorted(candidates, key=lambda c: (-c.similarity, c.first, c.second))
    ends = np.array([(c.first, c.second) for c in ranked]).reshape(-1, 2)
    kept: list[int] = []
    apart, most = max(frames // 4, options.apart), options.most(frames)
    while ranked:
        free = np.ones(len(ranked), bool)
        for index in kept:
            free &= np.abs(ends - ends[index]).max(1) >= apart
        while free.any() and len(kept) < most:
            kept.append(int(np.argmax(free)))
            free &= np.abs(ends - ends[kept[-1]]).max(1) >= apart
        if apart == options.apart or len(kept) == most:
            break
        apart = max(apart // 2, options.apart)
    return [ranked[index] for index in kept]


def loop_frames(frame: int, window: Window, options: LoopOptions) -> list[int]:
    """Frames about ``frame``, evenly spaced, and inside the window, so that one window's world holds them all."""
    stride = max(1, min(options.stride, (len(window) - 1) // max(options.side - 1, 1)))
    span = stride * (min(options.side, len(window)) - 1)
    start = min(max(frame - span // 2, window.start), window.stop - 1 - span)
    return list(range(start, start + span + 1, stride))


def check_loop(prediction: Prediction, split: int, options: LoopOptions | None = None) -> LoopCheck:
    """Whether the two sides of a loop window see one place.

    Each frame's points are put into the frames of the other side; the pair of frames that agrees best speaks for it,
    and the median over frames decides. A point hidden behind a nearer surface does not agree, so half a picture of
    agreement is much.

    Args:
        prediction: of the frames of one side followed by those of the other.
        split: how many belong to the first side.
        options: None for the defaults.

    Raises:
        InputError: the prediction has no cameras, or a side is empty.
    """
    options = options or LoopOptions()
    count = len(prediction.depth)
    if prediction.extrinsics is None or prediction.intrinsics is None:
        raise InputError("prediction", "one without cameras", "extrinsics and intrinsics of all frames")
    if not 0 < split < count:
        raise InputError("split", str(split), f"1 to {count - 1}")
    one, two = range(split), range(split, count)
    found = [_best_pair(prediction, frame, two if frame in one else one, options) for frame in range(count)]
    agreeing, shared = np.median(np.array(found), axis=0)
    accepted = bool(agreeing >= options.least_agreeing and shared >= options.least_shared)
    return LoopCheck(accepted=accepted, agreeing=float(agreeing), shared=float(shared))


def _best_pair(prediction: Prediction, frame: int, others: Iterable[int], options: LoopOptions) -> tuple[float, float]:
    """Largest agreeing part, and its shared part, over the frames of the other side."""
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    # One lens for all: focal lengths that differ from frame to frame would only move points to wrong pixels.
    lens = np.median(prediction.intrinsics, axis=0).astype(np.float64)
    depth = _without_sky(prediction)
    height, width = depth.shape[1:]
    stride = max(1, round((height * width / 2048) ** 0.5))
    pose = prediction.extrinsics[frame].astype(np.float64)
    points = unproject(depth[frame], lens, pose)[::stride, ::stride].reshape(-1, 3)
    points = points[np.isfinite(points).all(-1)]
    best = (0.0, 0.0)
    for other in others:
        xy, z = project(points, lens, prediction.extrinsics[other].astype(np.float64))
        inside = (z > 0) & (xy >= 0).all(-1) & (xy < (width, height)).all(-1)
        column, row = np.floor(xy[inside]).astype(np.int64).T
        seen, z = depth[other, row, column], z[inside]
        known = np.isfinite(seen)
        shared = float(known.sum() / max(len(points), 1))
        if shared < options.least_shared or not known.any():
            continue
        agreeing = float((np.abs(z[known] - seen[known]) < options.depth_error * seen[known]).mean())
        best = max(best, (agreeing, shared))
    return best


def _without_sky(prediction: Prediction) -> npt.NDArray[np.float64]:
    return np.where(usable_pixels(prediction), prediction.depth.astype(np.float64), np.nan)


def _unit_rows(descriptors: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    if np.ndim(descriptors) != 2:
        raise InputError("descriptors", f"shape {np.shape(descriptors)}", "one row per frame, shape (N, D)")
    length = np.linalg.norm(descriptors, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise InputError("descriptors", "a row that is zero or not finite", "finite rows that are not zero")
    return (descriptors / length).astype(np.float32)


def _level(similarities: npt.NDArray[np.float32], spread: float) -> float:
    known = similarities[np.isfinite(similarities)]
    if not len(known):
        return np.inf
    middle = float(np.median(known))
    return middle + spread * 1.48 * float(np.median(np.abs(known - middle)))
