"""Similarity transforms between two sets of camera poses of the same views (numpy, world-to-camera, OpenCV axes)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.geometry.rotation_vectors import nearest_rotation

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

AlignmentRule = Literal["umeyama", "orientations", "orientations, scale unknown"]

# Below this ratio of the second to the first spread, centres lie on a line and cannot fix the roll about it.
_COLLINEAR = 1e-3
_COINCIDENT = 1e-9

# Of the consensus: this share of the views must agree, and only views that are off by so many times what these are off
# by count as wrong. Both are on the safe side of noise: a view is left out only where it is clearly apart.
_AGREEING = 0.65
_APART = 5.0
_FEWEST = 5  # with four views, any three agree
_MOST_PAIRS = 500


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation, from the estimate's world to the reference's.

    Attributes:
        rotation: (3, 3).
        translation: (3,).
        scale: positive factor; 1 where ``rule`` says that it is unknown.
        rule: how it was found.
        outliers: views that had no say because they contradict the others.
    """

    rotation: Array
    translation: Array
    scale: float
    rule: AlignmentRule
    outliers: tuple[int, ...] = ()

    def on_points(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """Map points."""
        mapped: Array = self.scale * points @ self.rotation.T + self.translation
        return mapped

    def on_extrinsics(self, extrinsics: Float[np.ndarray, "n _ 4"]) -> Float[np.ndarray, "n 3 4"]:
        """Map world-to-camera poses into the reference world; depth must be multiplied by ``scale``."""
        rotation = extrinsics[:, :3, :3] @ self.rotation.T
        centres = self.on_points(camera_centres(extrinsics[:, :3]))
        return np.concatenate([rotation, -rotation @ centres[..., None]], -1)

    @property
    def inverse(self) -> Similarity:
        """From the reference's world to the estimate's."""
        rotation = self.rotation.T
        return replace(
            self, rotation=rotation, translation=-rotation @ self.translation / self.scale, scale=1 / self.scale
        )


def umeyama(source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"]) -> Similarity:
    """Least-squares similarity from source points to target points (Umeyama 1991, eq. 40-43).

    Raises:
        ValueError: the points do not fix a rotation (fewer than three, coincident, or exactly on a line).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    x, y = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    if np.count_nonzero(d > np.finfo(np.float64).eps) < 2:
        raise ValueError("points: got a set of rank below 2; expected at least three that are not on a line")
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = u @ np.diag(signs) @ vt
    scale = float((d * signs).sum() / x.var(0).sum())
    return Similarity(rotation, target.mean(0) - scale * rotation @ source.mean(0), scale, "umeyama")


def align_trajectories(
    reference: Float[np.ndarray, "n _ 4"],
    estimate: Float[np.ndarray, "n _ 4"],
    *,
    robust: bool = False,
    seed: int = 42,
) -> Similarity:
    """The similarity that moves the estimated cameras onto the reference cameras.

    Camera centres decide where they can. Where they cannot (one or two views, centres on a line or in one place), the
    orientations give the rotation and the distances the scale; with a single place the scale stays 1 and the rule
    says so. Never raises on finite rigid poses.

    Args:
        reference, estimate: world-to-camera poses of the same views.
        robust: leave out views that clearly contradict the others, up to a third of five or more. Where no view does,
            the result is that of all views, bit by bit.
        seed: of the local generator that draws pairs of views where there are many.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    if not robust or len(reference) < _FEWEST:
        return _fit(reference, estimate)
    kept = _consensus(reference, estimate, seed)
    outliers = tuple(np.flatnonzero(~kept).tolist())
    return replace(_fit(reference[kept], estimate[kept]), outliers=outliers)


def _fit(reference: Array, estimate: Array) -> Similarity:
    """Least squares over all views."""
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    if _is_collinear(source) or _is_collinear(target):
        return _align_orientations(reference, estimate)
    return umeyama(source, target)


def _is_collinear(points: Array) -> bool:
    spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
    return len(points) < 3 or bool(spread[1] <= max(_COLLINEAR * spread[0], _coincident(points)))


def _coincident(points: Array) -> float:
    """Spread that is rounding noise at this distance from the origin."""
    return _COINCIDENT * max(float(np.abs(points).max()), 1.0)


def _align_orientations(reference: Array, estimate: Array) -> Similarity:
    """Rotation from the cameras' axes together with the line of centres, scale from the spread of the centres."""
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    y, x = target - target.mean(0), source - source.mean(0)
    size_y, size_x = float(np.linalg.norm(y)), float(np.linalg.norm(x))
    known = size_y > _coincident(target) and size_x > _coincident(source)
    # The chordal mean of the rotations that map one world to the other.
    votes = _world_rotations(reference, estimate).mean(0)
    scale = 1.0
    if known:
        covariance = y.T @ x
        votes = votes + covariance / (size_y * size_x)
        # As in the full fit; the sum of singular values does not depend on the roll that is missing.
        scale = float(np.linalg.svd(covariance, compute_uv=False).sum()) / size_x**2
    rotation = nearest_rotation(votes)
    translation = target.mean(0) - scale * rotation @ source.mean(0)
    return Similarity(rotation, translation, scale, "orientations" if known else "orientations, scale unknown")


def _world_rotations(reference: Array, estimate: Array) -> Array:
    """By view, the rotation from the estimate's world to the reference's that it votes for: R_ref^T R_est."""
    return reference[:, :3, :3].swapaxes(1, 2) @ estimate[:, :3, :3]


# --- views that contradict the others ----------------------------------------------------------------------------


def _consensus(reference: Array, estimate: Array, seed: int) -> Mask:
    """Which views agree with each other: first by their places, then by the way they look."""
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    kept = np.ones(len(target), bool)
    if min(_spread(target), _spread(source)) > 0:
        kept = _agreeing_places(reference, estimate, seed)
    chosen = np.flatnonzero(kept)
    if _is_collinear(source[chosen]) or _is_collinear(target[chosen]):
        kept[chosen[~_agreeing_turns(_world_rotations(reference, estimate)[chosen])]] = False
    return kept


def _spread(points: Array) -> float:
    """Root of the summed squared distances from the centroid; 0 where it is rounding noise."""
    size = float(np.linalg.norm(points - points.mean(0)))
    return size if size > _coincident(points) else 0.0


def _agreeing_places(reference: Array, estimate: Array, seed: int) -> Mask:
    """Least trimmed squares (Rousseeuw and Van Driessen 2006): start from pairs, refit to the views that fit best."""
    count = len(reference)
    needed = int(np.ceil(_AGREEING * count))
    errors = _pair_errors(reference, estimate, _pairs(count, seed))
    if not len(errors):
        return np.ones(count, bool)
    order = np.sort(errors, axis=1)[:, :needed]
    starts = np.argsort((order**2).sum(1))[:8]
    fits = [_concentrated(reference, estimate, errors[k], needed) for k in starts]
    best = min(fits, key=lambda error: float(np.square(np.sort(error)[:needed]).sum()))
    # A fit of 7 numbers to 3 h coordinates leaves residuals that are smaller than the noise by this factor.
    shrunk = np.sqrt(3 * needed / max(3 * needed - 7, 1))
    floor = _COINCIDENT * max(_spread(camera_centres(reference[:, :3])), _coincident(reference[:, :3]))
    kept: Mask = best <= max(_APART * shrunk * float(np.sort(best)[needed - 1]), floor)
    return kept


def _pairs(count: int, seed: int) -> npt.NDArray[np.int64]:
    pairs = np.array(list(combinations(range(count), 2)) if count <= 300 else [], np.int64).reshape(-1, 2)
    if 0 < len(pairs) <= _MOST_PAIRS:
        return pairs
    drawn = np.random.default_rng(seed).integers(0, count, (2 * _MOST_PAIRS, 2))
    return drawn[drawn[:, 0] != drawn[:, 1]][:_MOST_PAIRS]


def _pair_errors(reference: Array, estimate: Array, pairs: npt.NDArray[np.int64]) -> Array:
    """By pair of views, how far every view is off after the alignment that this pair asks for: (pairs, N)."""
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    i, j = pairs.T
    turns = _world_rotations(reference, estimate)
    y, x = target[j] - target[i], source[j] - source[i]
    size_y, size_x = np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1)
    usable = (size_y > _coincident(target)) & (size_x > _coincident(source))
    i, j, y, x, size_y, size_x = (v[usable] for v in (i, j, y, x, size_y, size_x))
    lines = y[:, :, None] * x[:, None] / (size_y * size_x)[:, None, None]
    rotations = nearest_rotation((turns[i] + turns[j]) / 2 + lines)
    scale = (size_y / size_x)[:, None, None]
    moved = scale * source[None] @ rotations.swapaxes(1, 2)
    shift = (target[i] + target[j]) / 2 - (moved[np.arange(len(i)), i] + moved[np.arange(len(i)), j]) / 2
    errors: Array = np.linalg.norm(moved + shift[:, None] - target, axis=2)
    return errors


def _concentrated(reference: Array, estimate: Array, error: Array, needed: int) -> Array:
    """Errors of all views after refitting to the best so many, again and again; each round lowers their sum."""
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    chosen = np.argsort(error, kind="stable")[:needed]
    for _ in range(10):
        fit = _fit(reference[chosen], estimate[chosen])
        error = np.linalg.norm(fit.on_points(source) - target, axis=1)
        again = np.argsort(error, kind="stable")[:needed]
        if set(again) == set(chosen):
            break
        chosen = again
    return error


def _agreeing_turns(turns: Array) -> Mask:
    """Which rotations are near the one that most are near to."""
    if len(turns) < _FEWEST:
        return np.ones(len(turns), bool)
    # |R - S| (Frobenius) is 2 sqrt(2) sin(angle / 2): it grows with the angle.
    apart = np.linalg.norm(turns[:, None] - turns[None], axis=(2, 3))
    needed = int(np.ceil(_AGREEING * len(turns)))
    radius = np.sort(apart, axis=1)[:, needed - 1]
    middle = int(np.argmin(radius))
    kept: Mask = apart[middle] <= max(_APART * radius[middle], _COINCIDENT)
    return kept
