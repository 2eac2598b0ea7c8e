"""The published scheme for long sequences, written down again as something to compare with.

Half-overlapping windows; point maps of all shared frames joined pixel by pixel with a Huber weight of fixed width; one
similarity per window; loops by a fixed threshold of the descriptors, at most one per pair of windows, not verified; a
pose graph over windows with unit information, without a robust kernel. It sees a prediction of frames and nothing else,
so that the oracle can drive it as it drives :class:`~depth_anything_3.stream.mapper.Mapper`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.pinhole import unproject
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.geometry.sim3 import Sim3, right_jacobian_inverse, sim3_exp, sim3_log
from depth_anything_3.types.prediction import Prediction

Array = npt.NDArray[np.float64]
Predict = Callable[[Sequence[int]], Prediction]

HUBER, IRLS_ROUNDS = 0.1, 5
"""Width of the Huber weight in the unit of the model, and rounds of reweighting."""

SIMILARITY, LOOP_GAP, LOOP_NMS, NEIGHBOURS = 0.85, 10, 25, 5
"""Cosine from which frames are a loop, least frames between them, frames that a loop suppresses, hits per frame."""

SIDE = 20
"""Frames of each side of a loop window."""

_LM_ROUNDS, _DAMPING = 30, 1e-6


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A window: first frame, cameras, points and weights of all its pixels."""

    start: int
    stop: int
    cameras: Sim3
    points: Array
    conf: Array

    def at(self, frames: Sequence[int]) -> tuple[Array, Array]:
        index = np.asarray(frames) - self.start
        return self.points[index].reshape(-1, 3), self.conf[index].reshape(-1)


def published_path(
    predict: Predict, frames: int, descriptors: Float[np.ndarray, "n d"], *, size: int = 120, loops: bool = True
) -> tuple[Float[np.ndarray, "n 3 4"], int]:
    """World-to-camera poses of all frames by the published scheme.

    Args:
        predict: what the network says about some frames together.
        frames: length of the sequence.
        descriptors: of all frames.
        size: frames of a window; half of them are shared.
        loops: False leaves the chain as it is.

    Returns:
        poses, and how many frames were inferred.
    """
    overlap = size // 2
    windows, inferred = [], 0
    for start, stop in half_overlapping(frames, size):
        windows.append(_look(predict(range(start, stop)), start))
        inferred += stop - start
    steps = [_aligned(one, two, range(two.start, one.stop)) for one, two in pairwise(windows)]
    nodes = [Sim3.identity()]
    for step in steps:
        nodes.append(nodes[-1] @ step)
    edges = [(i, i + 1, step) for i, step in enumerate(steps)]
    if loops:
        found, looked = _loops(predict, windows, descriptors)
        inferred += looked
        nodes = _solved(nodes, edges + found) if found else nodes
    poses = []
    for k, (window, node) in enumerate(zip(windows, nodes, strict=True)):
        own = len(window.cameras) - (overlap if k + 1 < len(windows) else 0)
        poses.append((node @ window.cameras[:own]).extrinsics())
    return np.concatenate(poses), inferred


def half_overlapping(frames: int, size: int) -> list[tuple[int, int]]:
    """First frame and end of each window."""
    if frames <= size:
        return [(0, frames)]
    stride = size - size // 2
    count = -(-(frames - size // 2) // stride)
    return [(k * stride, min(k * stride + size, frames)) for k in range(count)]


def _look(prediction: Prediction, start: int) -> _Seen:
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    conf = np.ones_like(prediction.depth) if prediction.conf is None else prediction.conf - 1
    if prediction.sky is not None:
        conf = np.where(prediction.sky, 0, conf)
    cameras = (prediction.intrinsics.astype(np.float64), prediction.extrinsics.astype(np.float64))
    points = unproject(prediction.depth.astype(np.float64), *cameras)
    count = len(prediction.depth)
    return _Seen(
        start=start,
        stop=start + count,
        cameras=Sim3.from_extrinsics(prediction.extrinsics),
        points=points.reshape(count, -1, 3),
        conf=conf.reshape(count, -1).astype(np.float64),
    )


def _aligned(target: _Seen, source: _Seen, frames: Sequence[int], source_frames: Sequence[int] | None = None) -> Sim3:
    """From the source's world to the target's, by points of the same pixels."""
    (y, weight_y), (x, weight_x) = target.at(frames), source.at(frames if source_frames is None else source_frames)
    cut = 0.1 * min(float(np.median(weight_y)), float(np.median(weight_x)))
    keep = (weight_y > cut) & (weight_x > cut)
    return huber_similarity(y[keep], x[keep], np.sqrt(weight_y * weight_x)[keep])


def huber_similarity(target: Float[np.ndarray, "p 3"], source: Float[np.ndarray, "p 3"], prior: Array) -> Sim3:
    """Target from source; the scale is the ratio of the spreads (Horn's symmetric one)."""
    found = _closed_form(target, source, prior)
    for _ in range(IRLS_ROUNDS):
        off = np.linalg.norm(target - found.on_points(source), axis=1)
        found = _closed_form(target, source, prior * np.minimum(1, HUBER / np.maximum(off, 1e-12)))
    return found


def _closed_form(target: Array, source: Array, weight: Array) -> Sim3:
    w = (weight / weight.sum())[:, None]
    mean_t, mean_s = (w * target).sum(0), (w * source).sum(0)
    t, s = target - mean_t, source - mean_s
    scale = float(np.sqrt((w * t**2).sum() / (w * s**2).sum()))
    rotation = nearest_rotation((w * t).T @ s)
    return Sim3(rotation, mean_t - scale * rotation @ mean_s, np.asarray(scale))


def _loops(predict: Predict, windows: Sequence[_Seen], descriptors: Array) -> tuple[list[tuple[int, int, Sim3]], int]:
    """Relations between windows, the first pair of frames of each pair of windows only."""
    found: dict[tuple[int, int], Sim3] = {}
    inferred = 0
    for first, second in loop_pairs(descriptors):
        a, b = (max(k for k, w in enumerate(windows) if w.start <= frame) for frame in (first, second))
        if a == b or (a, b) in found:
            continue
        sides = [_side(frame, windows[k]) for frame, k in ((first, a), (second, b))]
        together = _look(predict([*sides[0], *sides[1]]), 0)
        inferred += len(sides[0]) + len(sides[1])
        split = len(sides[0])
        to_a = _aligned(windows[a], together, sides[0], range(split))
        to_b = _aligned(windows[b], together, sides[1], range(split, split + len(sides[1])))
        found[a, b] = to_a @ to_b.inverse()
    return [(a, b, relation) for (a, b), relation in found.items()], inferred


def loop_pairs(descriptors: Float[np.ndarray, "n d"]) -> list[tuple[int, int]]:
    """Frames that look alike, the most alike first, with neighbours suppressed."""
    unit = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
    candidates: dict[tuple[int, int], float] = {}
    for i, row in enumerate(unit @ unit.T):
        row[i] = -np.inf
        for j in np.argsort(-row, kind="stable")[:NEIGHBOURS].tolist():
            if row[j] > SIMILARITY and abs(i - j) > LOOP_GAP:
                candidates[min(i, j), max(i, j)] = float(row[j])
    free, kept = np.ones(len(unit), bool), []
    for (i, j), _ in sorted(candidates.items(), key=lambda item: (-item[1], item[0])):
        if free[i] and free[j]:
            kept.append((i, j))
            for end in (i, j):
                free[max(0, end - LOOP_NMS) : end + LOOP_NMS + 1] = False
    return kept


def _side(frame: int, window: _Seen) -> list[int]:
    count = min(SIDE, window.stop - window.start)
    start = min(max(frame - count // 2, window.start), window.stop - count)
    return list(range(start, start + count))


def _solved(nodes: Sequence[Sim3], edges: Sequence[tuple[int, int, Sim3]]) -> list[Sim3]:
    """Levenberg-Marquardt with unit information and no kernel; the first node is only held by the damping."""
    first, second = (np.array([edge[k] for edge in edges]) for k in (0, 1))
    measured = Sim3(*(np.stack([getattr(e[2], n) for e in edges]) for n in ("rotation", "translation", "scale")))
    now = Sim3(*(np.stack([getattr(node, n) for node in nodes]) for n in ("rotation", "translation", "scale")))

    def residual(at: Sim3) -> Array:
        return sim3_log(measured.inverse() @ at[first].inverse() @ at[second])

    damping, error = _DAMPING, residual(now)
    for _ in range(_LM_ROUNDS):
        by_second = right_jacobian_inverse(error)
        by_first = -by_second @ (now[second].inverse() @ now[first]).adjoint()
        slope = np.zeros((len(edges), 7, len(nodes), 7))
        rows = np.arange(len(edges))
        slope[rows, :, first] += by_first
        slope[rows, :, second] += by_second
        matrix = slope.reshape(-1, 7 * len(nodes))
        normal = matrix.T @ matrix
        damped = normal + damping * np.diag(np.diag(normal)) + 1e-12 * np.eye(len(normal))
        step = -np.linalg.solve(damped, matrix.T @ error.ravel()).reshape(-1, 7)
        proposal = now @ sim3_exp(step)
        proposed = residual(proposal)
        if (proposed**2).sum() < (error**2).sum():
            now, error, damping = proposal, proposed, damping / 2
        else:
            damping *= 2
    return [now[k] for k in range(len(nodes))]
