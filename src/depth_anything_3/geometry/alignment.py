"""Similarity transforms between two sets of camera poses of the same views (numpy, world-to-camera, OpenCV axes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.geometry.pinhole import camera_centres

Array = npt.NDArray[np.float64]

AlignmentRule = Literal["umeyama", "ransac", "orientations", "orientations, scale unknown"]

# Below this ratio of the second to the first spread, centres lie on a line and cannot fix the roll about it.
_COLLINEAR = 1e-3
_COINCIDENT = 1e-9


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation @ x + translation, from the estimate's world to the reference's.

    Attributes:
        rotation: (3, 3).
        translation: (3,).
        scale: positive factor; 1 where ``rule`` says that it is unknown.
        rule: how it was found.
    """

    rotation: Array
    translation: Array
    scale: float
    rule: AlignmentRule

    def on_points(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
        """Map points."""
        mapped: Array = self.scale * points @ self.rotation.T + self.translation
        return mapped

    def on_extrinsics(self, extrinsics: Float[np.ndarray, "n _ 4"]) -> Float[np.ndarray, "n 3 4"]:
        """Map world-to-camera poses into the reference world; depth must be multiplied by ``scale``."""
        rotation = extrinsics[:, :3, :3] @ self.rotation.T
        centres = self.on_points(camera_centres(extrinsics[:, :3]))
        return np.concatenate([rotation, -rotation @ centres[..., None]], -1)


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
        robust: random sample consensus instead of a fit to all views (the published rule for ten or more).
        seed: of the local generator behind the consensus.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    target, source = camera_centres(reference[:, :3]), camera_centres(estimate[:, :3])
    if _is_collinear(source) or _is_collinear(target):
        return _align_orientations(reference, estimate)
    return _umeyama_consensus(source, target, seed) if robust else umeyama(source, target)


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
    # Mean of R_ref^T R_est over the views: the chordal mean of the rotations that map one world to the other.
    votes = np.einsum("nji,njk->ik", reference[:, :3, :3], estimate[:, :3, :3]) / len(reference)
    scale = 1.0
    if known:
        covariance = y.T @ x
        votes = votes + covariance / (size_y * size_x)
        # As in the full fit; the sum of singular values does not depend on the roll that is missing.
        scale = float(np.linalg.svd(covariance, compute_uv=False).sum()) / size_x**2
    u, _, vt = np.linalg.svd(votes)
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u) * np.linalg.det(vt)]) @ vt
    translation = target.mean(0) - scale * rotation @ source.mean(0)
    return Similarity(rotation, translation, scale, "orientations" if known else "orientations, scale unknown")


def _umeyama_consensus(source: Array, target: Array, seed: int, iterations: int = 10) -> Similarity:
    """The published consensus: samples of half the views, best by inlier count, then by mean inlier error."""
    rng = np.random.default_rng(seed)
    count = len(source)
    threshold = _nearest_distance(umeyama(source, target).on_points(source), target)
    best: tuple[int, float] = (-1, 0.0)
    best_fit: Similarity | None = None
    best_inliers = np.zeros(count, bool)
    for _ in range(iterations):
        sample = rng.choice(count, max(3, (count + 1) // 2), replace=False)
        fit = _try_umeyama(source[sample], target[sample])
        if fit is None:
            continue
        error = np.linalg.norm(fit.on_points(source) - target, axis=1)
        inliers = error <= threshold
        score = (int(inliers.sum()), -float(error[inliers].mean()) if inliers.any() else -np.inf)
        if best_fit is None or score > best:
            best, best_fit, best_inliers = score, fit, inliers
    if best[0] >= 3:
        best_fit = _try_umeyama(source[best_inliers], target[best_inliers]) or best_fit
    fit = best_fit or umeyama(source, target)
    return Similarity(fit.rotation, fit.translation, fit.scale, "ransac")


def _try_umeyama(source: Array, target: Array) -> Similarity | None:
    try:
        return umeyama(source, target)
    except ValueError:
        return None


def _nearest_distance(points: Array, others: Array) -> float:
    """Median distance from each point to the nearest of the others, whichever it is."""
    distances: npt.NDArray[Any] = np.linalg.norm(points[:, None] - others[None], axis=-1)
    return float(np.median(distances.min(1)))
