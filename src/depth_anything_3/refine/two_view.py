"""Relative pose of two views from matches, most of which may be wrong, and of which there may be few.

Hypotheses come from minimal samples (RANSAC), from the homography of a plane and from a prior, where there is one.
All are refined on the robust cost

    sum w 2 min(e^2 / tolerance^2, 1)  +  prior terms        e: Sampson error in pixels; noise is half the tolerance

and the best wins; the terms of the prior grow with the logarithm of the distance only, so that matches can outvote it.
Whether the views are only turned, or see a plane, is decided by Torr's criterion (GRIC: "An assessment of information
criteria for motion model selection", 1997), and whether the matches mean anything at all by the number of false alarms
(Moisan and Stival, "A probabilistic criterion to detect rigid point matches", 2004): how many models as good as this
one wrong matches would give by chance.

Letters: M matches, X hypotheses. The pose takes the first camera to the second: ``x_2 = R x_1 + t``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import lgamma, log, pi
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import (
    left_jacobian_inverse,
    nearest_rotation,
    rotation_from_vector,
    skew,
    vector_from_rotation,
)
from depth_anything_3.refine.minimal import essential_matrices, homographies, poses_of_essential, rotations

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Kind = Literal["general", "planar", "rotation", "none"]

LEAST_MATCHES = 8

_BATCH, _BATCHES = 40, 24
_FEW_BATCHES = 4  # for models of fewer than five matches
_SCORED = 500  # matches that judge hypotheses; all of them refine the best
_CONFIDENCE = 0.9999
_KEPT = 3  # hypotheses of a batch that are refined,
_QUICK = 4  # with so many steps
_SETTLED = 1e-4  # relative change of the cost, either way, that ends a search: poses move by .0005 degrees after it
_TURN_ROUNDS = 12  # of refining a rotation
_LOOSELY = 4.0  # times the tolerance: where matches of a rotation lie when it comes from two of them
_PRIOR_WIDTH = 2.0  # standard deviations beyond which a prior is taken as wrong
_LEAST_MEANING = -1.0  # logarithm to base 10 of the number of false alarms
_WIDE = 8.0  # times the tolerance: what a prior is looked at with first
_LOST = 1e6  # pixels, of what cannot be projected
_VAGUE = 3.0  # matches that the tolerance counts for where the noise is estimated
_ENOUGH_OF_SIMPLE = 0.8  # of the matches that agree with the best pose must agree with a plane or a rotation
_SAME_LIKELIHOOD = 3.0  # difference of the cost under which two poses explain the matches alike

_IDENTITY = np.eye(3)
_OTHERS = _IDENTITY[:, [[1, 2], [0, 2], [0, 1]]].swapaxes(0, 1)  # of each axis the two others, as columns
_TURNS = skew(_IDENTITY)  # small rotations about each axis
_NARROWER = np.array([[-2.0, -2, -1], [-2, -2, -1], [-1, -1, 0]])  # of an essential matrix by the log focal length


@dataclass(frozen=True, kw_only=True, eq=False)
class PosePrior:
    """What is known about a relative pose.

    Attributes:
        rotation: second from first camera.
        rotation_sigma: about each axis, in radians.
        direction: of the translation of second from first camera, of any length; None if unknown.
        direction_sigma: across the direction, in radians.
    """

    rotation: Float[np.ndarray, "3 3"]
    rotation_sigma: float
    direction: Float[np.ndarray, " 3"] | None = None
    direction_sigma: float = 0.3

    def __post_init__(self) -> None:
        if np.shape(self.rotation) != (3, 3) or not np.isfinite(self.rotation).all():
            raise InputError("prior.rotation", f"shape {np.shape(self.rotation)}", "a finite matrix of shape (3, 3)")
        if not (self.rotation_sigma > 0 and self.direction_sigma > 0):
            raise InputError("prior", "a standard deviation that is not positive", "positive numbers")
        if self.direction is not None and not 0 < np.linalg.norm(self.direction) < np.inf:
            raise InputError("prior.direction", str(self.direction), "a finite vector other than zero")


@dataclass(frozen=True, kw_only=True, eq=False)
class TwoView:
    """Result of :func:`relative_pose`.

    Attributes:
        kind: "general"; "planar" (what matches lie on a plane, or cannot be told from it); "rotation" (no parallax, so
            no translation); "none" (no pose: see ``reason``).
        rotation: second from first camera; None where there is no pose.
        direction: unit translation of second from first camera; zero where there is no parallax.
        rotation_sigma, direction_sigma: standard deviations in radians, root mean square over the axes; inf where
            there is none.
        focal_factor: what the focal lengths should be multiplied by; 1 unless ``focal_sigma`` was given.
        inliers: matches that agree, in front of both cameras.
        errors_px: Sampson error, or half the transfer error where the kind is "rotation".
        noise_px: standard deviation of the matches that agree.
        parallax: median angle between the rays of matches that agree, after the rotation, in radians.
        log10_chance: logarithm to base 10 of the number of models this good expected of wrong matches.
        ambiguous: another pose of the plane explains the matches as well.
        from_prior: the pose was found by starting at the prior, not by sampling matches.
        reason: why there is no pose; empty where there is one.
    """

    kind: Kind
    rotation: Float[np.ndarray, "3 3"] | None
    direction: Float[np.ndarray, " 3"]
    rotation_sigma: float
    direction_sigma: float
    focal_factor: float
    inliers: Bool[np.ndarray, " m"]
    errors_px: Float[np.ndarray, " m"]
    noise_px: float
    parallax: float
    log10_chance: float
    ambiguous: bool
    from_prior: bool
    reason: str


def relative_pose(
    first: Float[np.ndarray, "m 2"],
    second: Float[np.ndarray, "m 2"],
    first_intrinsics: Float[np.ndarray, "3 3"],
    second_intrinsics: Float[np.ndarray, "3 3"],
    *,
    weight: Float[np.ndarray, " m"] | None = None,
    prior: PosePrior | None = None,
    tolerance_px: float = 2.0,
    focal_sigma: float = 0.0,
    seed: int = 0,
) -> TwoView:
    """Robust relative pose of two views.

    Args:
        first, second: pixels of the matches, the centre of the top-left one at (0.5, 0.5).
        first_intrinsics, second_intrinsics: camera matrices. The principal point also says how large the pictures are
            (twice as large), and with that what chance can do.
        weight: from 0 to 1; None is 1 for all.
        prior: tried as one hypothesis and preferred where matches leave a choice.
        tolerance_px: error up to which a match agrees, about twice the standard deviation of the noise.
        focal_sigma: standard deviation of the logarithm of a factor on both focal lengths; 0 takes them as exact.
        seed: of the local generator of the samples.

    Raises:
        InputError: a shape is wrong, a value is not finite, or a number is out of range.
    """
    pair = _Pair.of(first, second, first_intrinsics, second_intrinsics, weight, prior, tolerance_px, focal_sigma)
    used = int(np.count_nonzero(pair.weight))
    if used < LEAST_MATCHES:
        return _nothing(len(first), f"{used} matches, fewer than {LEAST_MATCHES}")
    rng = np.random.default_rng(seed)
    rotation = _best_rotation(pair, rng)
    plane = _best_homography(pair, rng)
    candidates = _candidates(pair, plane, rng)
    turned = _refined_rotation(pair, rotation, _TURN_ROUNDS if _may_be_turned(pair, rotation, candidates) else 0)
    return _judged(pair, turned, plane, candidates)


def costs_of_focal_lengths(
    first: Float[np.ndarray, "m 2"],
    second: Float[np.ndarray, "m 2"],
    first_intrinsics: Float[np.ndarray, "3 3"],
    second_intrinsics: Float[np.ndarray, "3 3"],
    fundamental: Float[np.ndarray, "3 3"],
    factors: Float[np.ndarray, " s"],
    *,
    tolerance_px: float,
) -> Float[np.ndarray, " s"]:
    """How badly the best relative pose explains matches if both focal lengths are multiplied by each of some factors.

    Args:
        first, second, first_intrinsics, second_intrinsics, tolerance_px: as of :func:`relative_pose`.
        fundamental: that most of the matches agree with, ``second^T F first = 0``; the search starts there.
        factors: on both focal lengths, in ascending order.

    Returns:
        the smooth robust cost of each, in nats.
    """
    pair = _Pair.of(first, second, first_intrinsics, second_intrinsics, None, None, tolerance_px, 0.0)
    pair = _scored(pair, np.random.default_rng(0))
    logs = np.log(factors)
    starts = [replace(_of_fundamental(_with_focal(pair, log), fundamental), log_focal=log) for log in logs]
    found, cost = _descended(pair, _Pose.stacked(starts), 1, 10)
    # What fits with one focal length is near what fits with the next: from both ends, where the search got stuck.
    for way in (1, -1):
        asked = np.arange(len(logs))[::way][1:]
        while len(asked):
            near = replace(found.some(asked - way), log_focal=logs[asked])
            poses, proposed = _descended(pair, near, 1, 10)
            gain, better = cost[asked] - proposed, proposed < cost[asked]
            found = found.with_others(asked[better], poses.some(better))
            worth = gain > _SETTLED * cost[asked]
            cost[asked[better]] = proposed[better]
            asked = asked[worth] + way
            asked = asked[(asked >= 0) & (asked < len(logs))]
    return cost


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pose:
    """One pose; or several with a common first axis (X), where a function says so."""

    rotation: Array
    direction: Array
    log_focal: Any = 0.0
    cost: float = np.inf
    from_prior: bool = False

    @classmethod
    def stacked(cls, poses: Sequence[_Pose]) -> _Pose:
        """Several as one."""
        return cls(
            rotation=np.stack([pose.rotation for pose in poses]),
            direction=np.stack([pose.direction for pose in poses]),
            log_focal=np.array([pose.log_focal for pose in poses]),
        )

    def some(self, chosen: Any) -> _Pose:
        """Some of several."""
        return _Pose(rotation=self.rotation[chosen], direction=self.direction[chosen], log_focal=self.log_focal[chosen])

    def with_others(self, places: Any, others: _Pose) -> _Pose:
        """Several with others in some places."""
        new = self.some(np.arange(len(self.rotation)))
        new.rotation[places], new.direction[places] = others.rotation, others.direction
        new.log_focal[places] = others.log_focal
        return new


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Matches with everything that does not change."""

    first: Array  # (M, 3) homogeneous pixels
    second: Array
    inverse: Array  # (2, 3, 3) of the camera matrices
    weight: Array  # (M,)
    prior: PosePrior | None
    tolerance: float
    focal_sigma: float

    @classmethod
    def of(
        cls,
        first: Array,
        second: Array,
        k1: Array,
        k2: Array,
        weight: Array | None,
        prior: PosePrior | None,
        tolerance: float,
        focal_sigma: float,
    ) -> _Pair:
        count = len(first)
        full = np.ones(count) if weight is None else np.asarray(weight, np.float64)
        shapes = {"first": (count, 2), "second": (count, 2), "weight": (count,)}
        for (name, shape), value in zip(shapes.items(), (first, second, full), strict=True):
            if np.shape(value) != shape or not np.isfinite(value).all():
                raise InputError(name, f"shape {np.shape(value)}, or a value not finite", f"{shape}, finite")
        for name, k in (("first_intrinsics", k1), ("second_intrinsics", k2)):
            if np.shape(k) != (3, 3) or not np.isfinite(k).all() or not (k[0, 0] > 0 and k[1, 1] > 0):
                raise InputError(name, f"{np.shape(k)}", "a finite camera matrix (3, 3) with positive focal lengths")
        if not (full >= 0).all():
            raise InputError("weight", f"{full.min():.3g}", "weights of at least 0")
        if not tolerance > 0 or not 0 <= focal_sigma < np.inf:
            raise InputError("tolerance_px, focal_sigma", f"{tolerance}, {focal_sigma}", "positive, and at least 0")
        one = np.ones((count, 1))
        return cls(
            first=np.concatenate([first, one], 1).astype(np.float64),
            second=np.concatenate([second, one], 1).astype(np.float64),
            inverse=np.linalg.inv(np.stack([k1, k2]).astype(np.float64)),
            weight=full,
            prior=prior,
            tolerance=float(tolerance),
            focal_sigma=float(focal_sigma),
        )

    def inverses(self, log_focal: Any) -> Array:
        """Inverse camera matrices (..., 2, 3, 3) after their focal lengths grew."""
        shrink = np.ones((*np.shape(log_focal), 1, 3, 1))
        shrink[..., :2, 0] = np.exp(-np.asarray(log_focal))[..., None, None]
        return self.inverse * shrink

    def rays(self, log_focal: float = 0.0) -> tuple[Array, Array]:
        """Unit rays of both views, each in its own camera."""
        a, b = self.inverses(log_focal)
        first, second = self.first @ a.T, self.second @ b.T
        return (
            first / np.linalg.norm(first, axis=1, keepdims=True),
            second / np.linalg.norm(second, axis=1, keepdims=True),
        )

    def subset(self, chosen: npt.NDArray[np.int64]) -> _Pair:
        return replace(self, first=self.first[chosen], second=self.second[chosen], weight=self.weight[chosen])

    def sampson(self, fundamental: Array) -> Array:
        """Sampson errors (X, M) in pixels of fundamental matrices (X, 3, 3), signed."""
        right = fundamental @ self.first.T
        left = fundamental.swapaxes(-1, -2) @ self.second.T
        top = (self.second.T * right).sum(-2)
        below = (right[..., :2, :] ** 2).sum(-2) + (left[..., :2, :] ** 2).sum(-2)
        return top / np.sqrt(np.maximum(below, 1e-300))

    def fundamental(self, pose: _Pose) -> Array:
        a, b = self.inverses(pose.log_focal)
        return b.T @ skew(pose.direction) @ pose.rotation @ a

    def data_cost(self, errors: Array) -> Array:
        """In nats: (..., M) errors to (...,)."""
        return (self.weight * 2 * np.minimum((errors / self.tolerance) ** 2, 1)).sum(-1)

    def prior_cost(self, pose: _Pose) -> float:
        return float(self.cost_of_terms(pose, self.prior_terms(pose)))

    def cost_of_terms(self, pose: _Pose, terms: list[tuple[Array, Array]]) -> Any:
        cost = 0.5 * (pose.log_focal / self.focal_sigma) ** 2 if self.focal_sigma else 0.0
        for residual, _ in terms:
            cost = cost + 0.5 * _PRIOR_WIDTH**2 * np.log1p((residual**2).sum(-1) / _PRIOR_WIDTH**2)
        return cost

    def prior_terms(self, pose: _Pose) -> list[tuple[Array, Array]]:
        """Residuals of poses in standard deviations (..., 3) with their derivatives by (rotation, direction, focal)."""
        if self.prior is None:
            return []
        away = vector_from_rotation(pose.rotation @ np.asarray(self.prior.rotation, np.float64).T)
        by_turn = np.zeros((*away.shape, 6))
        by_turn[..., :3] = left_jacobian_inverse(away)
        terms = [(away / self.prior.rotation_sigma, by_turn / self.prior.rotation_sigma)]
        if self.prior.direction is not None and pose.direction.any():
            said = self.prior.direction / np.linalg.norm(self.prior.direction)
            by_way = np.zeros((*away.shape, 6))
            by_way[..., 3:5] = _across(pose.direction)
            sigma = self.prior.direction_sigma
            terms.append(((pose.direction - said) / sigma, by_way / sigma))
        return terms

    def costed(self, pose: _Pose) -> _Pose:
        cost = float(self.data_cost(self.sampson(self.fundamental(pose)))) + self.prior_cost(pose)
        return replace(pose, cost=cost)


def _across(direction: Array) -> Array:
    """(..., 3, 2): two orthonormal directions across unit vectors, columns of Householder reflections."""
    axis = np.abs(direction).argmax(-1)
    mirror = direction + np.where(direction >= 0, 1.0, -1.0) * _IDENTITY[axis]
    outer = mirror[..., :, None] * mirror[..., None, :]
    reflection = _IDENTITY - 2 / (mirror**2).sum(-1)[..., None, None] * outer
    others: Array = reflection @ _OTHERS[axis]
    return others


def _samples(pair: _Pair, size: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(count, size) indices without repetition, likelier where the weight is larger (Gumbel's top k)."""
    with np.errstate(divide="ignore"):
        key = np.log(pair.weight) + rng.gumbel(size=(count, len(pair.weight)))
    return np.argpartition(-key, size - 1, axis=1)[:, :size]


def _scored(pair: _Pair, rng: np.random.Generator) -> _Pair:
    used = np.flatnonzero(pair.weight)
    return pair.subset(np.sort(rng.permutation(used)[:_SCORED]))


def _enough(agreeing: float, size: int, tried: int) -> bool:
    """Whether a sample of matches that all agree was tried, with the wanted confidence."""
    chance = min(max(agreeing, 1e-9), 1 - 1e-9) ** size
    return tried * log(1 - chance) <= log(1 - _CONFIDENCE)


def _candidates(pair: _Pair, plane: Array, rng: np.random.Generator) -> list[_Pose]:
    """Refined poses, each from another source."""
    few = _scored(pair, rng)
    found = []
    if pair.prior is not None:
        found.append(_refined(few, _at_prior(few, pair.prior, rng), (_WIDE, 4, 2, 1), _QUICK))
    found += _all_refined(few, _poses_of_plane(few, plane), _QUICK)
    best, tried = min([*found, _Pose(rotation=np.eye(3), direction=np.eye(3)[2])], key=lambda pose: pose.cost), 0
    rays = few.rays()
    for _ in range(_BATCHES):
        index = _samples(few, 5, _BATCH, rng)
        essentials, _ = essential_matrices(rays[0][index], rays[1][index])
        costs = few.data_cost(few.sampson(few.inverse[1].T @ essentials @ few.inverse[0]))
        # What the prior can add is bounded by nothing but the logarithm; the best samples are good enough to judge it.
        places = np.argsort(costs, kind="stable")[:_KEPT]
        new = _all_refined(few, [_in_front(few, essentials[place]) for place in places], _QUICK)
        found += new
        best = min([best, *new], key=lambda pose: pose.cost)
        tried += _BATCH
        errors = np.abs(few.sampson(few.fundamental(best)))
        if _enough(float(few.weight[errors < few.tolerance].sum() / few.weight.sum()), 5, tried):
            break
    return _all_refined(pair, _different(found))


def _different(poses: list[_Pose]) -> list[_Pose]:
    """The best few that are not about the same."""
    kept: list[_Pose] = []
    for pose in sorted(poses, key=lambda pose: pose.cost):
        if len(kept) < _KEPT and all(_differ(pose, other) for other in kept):
            kept.append(pose)
    return kept


def _differ(a: _Pose, b: _Pose) -> bool:
    away = np.linalg.norm(vector_from_rotation(a.rotation @ b.rotation.T))
    return bool(away > 0.035 or a.direction @ b.direction < np.cos(0.1))


def _at_prior(pair: _Pair, prior: PosePrior, rng: np.random.Generator) -> _Pose:
    rotation = nearest_rotation(prior.rotation)
    if prior.direction is not None:
        return _Pose(rotation=rotation, direction=prior.direction / np.linalg.norm(prior.direction), from_prior=True)
    # With the rotation known, translation is across the normals of the epipolar planes of any two matches.
    first, second = pair.rays()
    normals = np.cross(first @ rotation.T, second)
    index = _samples(pair, 2, _BATCH, rng)
    ways = np.cross(normals[index[:, 0]], normals[index[:, 1]])
    length = np.linalg.norm(ways, axis=1, keepdims=True)
    ways = ways[length[:, 0] > 0] / length[length[:, 0] > 0]
    if not len(ways):
        ways = np.eye(3)[:1]
    wide = replace(pair, tolerance=_WIDE * pair.tolerance)
    costs = wide.data_cost(wide.sampson(wide.inverse[1].T @ skew(ways) @ rotation @ wide.inverse[0]))
    best = ways[int(costs.argmin())]
    poses = [_Pose(rotation=rotation, direction=sign * best, from_prior=True) for sign in (1.0, -1.0)]
    return max(poses, key=lambda pose: int(np.count_nonzero(_front(pair, pose))))


def _in_front(pair: _Pair, essential: Array) -> _Pose:
    """The pose of four that has most agreeing matches in front of both cameras."""
    errors = np.abs(pair.sampson(pair.inverse[1].T @ essential @ pair.inverse[0]))
    agreeing = pair.weight * (errors < pair.tolerance)
    turns, ways = poses_of_essential(essential)
    place = (_front(pair, _Pose(rotation=turns, direction=ways)) @ agreeing).argmax()
    return _Pose(rotation=turns[place], direction=ways[place])


def _of_fundamental(pair: _Pair, fundamental: Array) -> _Pose:
    lenses = np.linalg.inv(pair.inverse)
    return _in_front(pair, lenses[1].T @ fundamental @ lenses[0])


def _front(pair: _Pair, pose: _Pose) -> Mask:
    """Matches whose point is in front of both cameras, or so far that noise may put it behind: (..., M) of poses that
    have their focal length in common."""
    first, second = pair.rays(pose.log_focal)
    p, q, t = first @ pose.rotation.swapaxes(-1, -2), second, pose.direction[..., None]
    cosine, along_p, along_q = (p * q).sum(-1), (p @ t)[..., 0], (q @ t)[..., 0]
    slack = -pair.tolerance * pair.inverse[:, 0, 0].max()
    front: Mask = (cosine * along_q - along_p > slack) & (along_q - cosine * along_p > slack) & (cosine > 0)
    return front


def _refined(pair: _Pair, pose: _Pose, widths: tuple[float, ...], rounds: int = 10) -> _Pose:
    """The best pose near one, from wide tolerances to the last."""
    for width in widths:
        pose = _all_refined(pair, [pose], rounds, width)[0]
    return pose


def _all_refined(pair: _Pair, poses: Sequence[_Pose], rounds: int = 10, width: float = 1.0) -> list[_Pose]:
    """The best pose near each of some."""
    if not poses:
        return []
    found, _ = _descended(pair, _Pose.stacked(poses), width, rounds)
    turns = nearest_rotation(found.rotation)
    return [
        pair.costed(replace(pose, rotation=turns[k], direction=found.direction[k], log_focal=float(found.log_focal[k])))
        for k, pose in enumerate(poses)
    ]


def _descended(pair: _Pair, poses: _Pose, width: float, rounds: int) -> tuple[_Pose, Array]:
    """Levenberg-Marquardt on a smooth robust cost (Geman-McClure), for X poses at once; with their costs."""
    normal, gradient, cost = _terms(pair, poses, width)
    damping, going = np.full(len(cost), 1e-3), np.arange(len(cost))
    for _ in range(rounds):
        scaled, diagonal = normal[going], normal[going].diagonal(axis1=1, axis2=2)
        tiny = 1e-12 * diagonal.sum(1, keepdims=True) + 1e-30
        scaled[:, range(6), range(6)] += damping[going, None] * diagonal + tiny
        step = -np.linalg.solve(scaled, gradient[going, :, None])[..., 0]
        proposal = _stepped(pair, poses.some(going), step)
        *terms, proposed = _terms(pair, proposal, width)
        gain = cost[going] - proposed
        better = gain > 0
        places = going[better]
        poses = poses.with_others(places, proposal.some(better))
        normal[places], gradient[places], cost[places] = terms[0][better], terms[1][better], proposed[better]
        damping[going] *= np.where(better, 0.1, 10.0)
        going = going[np.abs(gain) >= _SETTLED * (proposed + gain)]
        if not len(going):
            break
    return poses, cost


def _stepped(pair: _Pair, pose: _Pose, step: npt.NDArray[np.floating]) -> _Pose:
    direction = pose.direction + (_across(pose.direction) @ step[..., 3:5, None])[..., 0]
    return _Pose(
        rotation=rotation_from_vector(step[..., :3]) @ pose.rotation,
        direction=direction / np.linalg.norm(direction, axis=-1, keepdims=True),
        log_focal=pose.log_focal + (step[..., 5] if pair.focal_sigma else 0.0),
    )


def _terms(pair: _Pair, pose: _Pose, width: float) -> tuple[Array, Array, Array]:
    """Normal matrices (..., 6, 6), gradients (..., 6) and smooth costs, by rotation (3), direction (2), log focal."""
    error, slope = sampson_with_derivatives(pair.first, pair.second, pair.inverses(pose.log_focal), pose)
    scale = width * pair.tolerance
    ratio = (error / scale) ** 2
    prior = pair.prior_terms(pose)
    cost = (pair.weight * 2 * width**2 * ratio / (1 + ratio)).sum(-1) + pair.cost_of_terms(pose, prior)
    # The noise is half the tolerance: squares count four times, half of which is the cost.
    share = 4 / pair.tolerance**2 * pair.weight / (1 + ratio) ** 2
    shared = slope.swapaxes(-1, -2) * share[..., None, :]
    normal, gradient = shared @ slope, (shared @ error[..., None])[..., 0]
    for residual, by in prior:
        softened = (1 / (1 + (residual**2).sum(-1) / _PRIOR_WIDTH**2))[..., None]
        turned = softened[..., None] * by.swapaxes(-1, -2)
        normal, gradient = normal + turned @ by, gradient + (turned @ residual[..., None])[..., 0]
    if pair.focal_sigma:
        normal[..., 5, 5] += pair.focal_sigma**-2
        gradient[..., 5] += pose.log_focal / pair.focal_sigma**2
    else:
        normal[..., 5, :], normal[..., :, 5], gradient[..., 5] = 0, 0, 0
        normal[..., 5, 5] = 1
    return normal, gradient, cost


def sampson_with_derivatives(
    first: Float[np.ndarray, "m 3"],
    second: Float[np.ndarray, "m 3"],
    inverses: Float[np.ndarray, "*x 2 3 3"],
    pose: _Pose,
) -> tuple[Float[np.ndarray, "*x m"], Float[np.ndarray, "*x m 6"]]:
    """Signed Sampson errors in pixels, and their derivatives by rotation (3), direction (2) and log focal length.

    Args:
        first, second: homogeneous pixels.
        inverses: of both camera matrices.
        pose: one, or X; rotation moves from the left, direction across itself, both focal lengths by one factor.
    """
    a, b = inverses[..., :1, :, :], inverses[..., 1:, :, :]
    turn, cross = pose.rotation[..., None, :, :], skew(pose.direction)[..., None, :, :]
    essential = cross @ turn
    moved = [cross @ _TURNS @ turn, skew(_across(pose.direction).swapaxes(-1, -2)) @ turn, _NARROWER * essential]
    # (..., 7, 3, 3): the fundamental matrix and its derivatives
    every = b.swapaxes(-1, -2) @ np.concatenate([essential, *moved], -3) @ a
    first, second = np.ascontiguousarray(first.T), np.ascontiguousarray(second.T)
    right, left = every @ first, every[..., :2].swapaxes(-1, -2) @ second
    parts = [right[..., :2, :], left]
    below = np.sqrt(np.maximum(sum((part[..., 0, :, :] ** 2).sum(-2) for part in parts), 1e-300))
    top = np.einsum("im,...kim->...km", second, right) / below[..., None, :]
    grown: Any = sum(np.einsum("...im,...kim->...km", part[..., 0, :, :], part[..., 1:, :, :]) for part in parts)
    error = top[..., 0, :]
    slope = top[..., 1:, :] - (error / below**2)[..., None, :] * grown
    return error, slope.swapaxes(-1, -2)


def _transfer(pair: _Pair, homography: Array) -> Array:
    """(X, M) errors in pixels of homographies of rays (X, 3, 3): root of the mean square over both ways, per axis pair.

    Half of the squared transfer error is about the squared distance to the model, as both ends have noise.
    """
    lenses = np.linalg.inv(pair.inverse)
    there = lenses[1] @ homography @ pair.inverse[0]
    with np.errstate(all="ignore"):
        # The adjugate is the inverse but for a factor, and exists for singular ones too.
        next_row, last_row = there[:, [1, 2, 0]], there[:, [2, 0, 1]]
        back = next_row[..., [1, 2, 0]] * last_row[..., [2, 0, 1]] - next_row[..., [2, 0, 1]] * last_row[..., [1, 2, 0]]
        back = back.swapaxes(1, 2)
        square = _moved_square(there, pair.first, pair.second) + _moved_square(back, pair.second, pair.first)
    errors: Array = np.sqrt(np.where(np.isfinite(square), np.minimum(square / 4, _LOST**2), _LOST**2))
    return errors


def _moved_square(matrix: Array, source: Array, target: Array) -> Array:
    moved = matrix @ source.T
    off = moved[..., :2, :] / moved[..., 2:, :] - target[:, :2].T
    return (off**2).sum(-2)


def _best_of_samples(
    few: _Pair, start: Array, size: int, model: Callable[[Array, Array], Array], rng: np.random.Generator
) -> Array:
    """The homography of rays that most matches agree with, among those of minimal samples and the first guess."""
    first, second = few.rays()
    best, errors = start, _transfer(few, start[None])
    cost = float(few.data_cost(errors)[0])
    for batch in range(_FEW_BATCHES):
        index = _samples(few, size, _BATCH, rng)
        models = model(first[index], second[index])
        proposed = _transfer(few, models)
        costs = few.data_cost(proposed)
        place = int(costs.argmin())
        if costs[place] < cost:
            best, cost, errors = models[place], float(costs[place]), proposed[place : place + 1]
        agreeing = float(few.weight[errors[0] < few.tolerance].sum() / few.weight.sum())
        if _enough(agreeing, size, (batch + 1) * _BATCH):
            break
    return best


def _best_rotation(pair: _Pair, rng: np.random.Generator) -> Array:
    """The rotation (3, 3) that most matches agree with, without any translation: the prior's, or of two matches."""
    start = np.eye(3) if pair.prior is None else nearest_rotation(pair.prior.rotation)
    return _best_of_samples(_scored(pair, rng), start, 2, rotations, rng)


def _may_be_turned(pair: _Pair, rotation: Array, candidates: list[_Pose]) -> bool:
    """Whether enough matches lie near a rotation for :func:`_kind` to choose it once it is refined."""
    if pair.focal_sigma > 0:  # another focal length may bring them near
        return True
    near = (_transfer(pair, rotation[None])[0] < _LOOSELY * pair.tolerance) & (pair.weight > 0)
    best = min(candidates, key=lambda pose: pose.cost)
    return bool(np.count_nonzero(near) >= _ENOUGH_OF_SIMPLE * _most_agreeing(pair, [best]))


def _refined_rotation(pair: _Pair, rotation: Array, rounds: int) -> _Pose:
    """Reweighted Gauss-Newton over rotation and focal length on errors in the second view."""
    log_focal = 0.0
    best = _Pose(rotation=rotation, direction=np.zeros(3))
    best = replace(best, cost=float(pair.data_cost(_transfer(_with_focal(pair, 0.0), rotation[None]))[0]))
    for _ in range(rounds):
        now = _with_focal(pair, log_focal)
        error, slope = _turn_derivatives(now, rotation)
        ratio = (error**2).sum(1) / (2 * pair.tolerance**2)
        share = 2 / pair.tolerance**2 * pair.weight / (1 + ratio) ** 2
        share = np.where(np.isfinite(share), share, 0.0)
        rows, values = slope.reshape(-1, 4), error.ravel()
        both = np.repeat(share, 2)
        normal, gradient = (rows.T * both) @ rows, rows.T @ (both * values)
        normal[3, 3] += pair.focal_sigma**-2 if pair.focal_sigma else 1e18
        gradient[3] += log_focal / pair.focal_sigma**2 if pair.focal_sigma else 0.0
        step = -np.linalg.solve(normal + (1e-12 * np.trace(normal[:3, :3]) + 1e-30) * np.eye(4), gradient)
        rotation = nearest_rotation(rotation_from_vector(step[:3]) @ rotation)
        log_focal += float(step[3]) if pair.focal_sigma else 0.0
        cost = float(pair.data_cost(_transfer(_with_focal(pair, log_focal), rotation[None]))[0])
        if cost < best.cost:
            best = replace(best, rotation=rotation, log_focal=log_focal, cost=cost)
    return best


def _with_focal(pair: _Pair, log_focal: float) -> _Pair:
    return replace(pair, inverse=pair.inverses(log_focal))


def _turn_derivatives(pair: _Pair, rotation: Array) -> tuple[Array, Array]:
    """Errors in the second view (M, 2) and derivatives by rotation and log focal length (M, 2, 4)."""
    lens = np.linalg.inv(pair.inverse[1])
    plane = pair.first @ pair.inverse[0].T
    camera = plane @ rotation.T
    front = camera[:, 2] > 1e-6
    inverse = 1 / np.where(front, camera[:, 2], 1.0)
    seen = camera[:, :2] * inverse[:, None]
    by_camera = np.concatenate([np.tile(np.eye(2), (len(seen), 1, 1)), -seen[..., None]], 2) * inverse[:, None, None]
    by_camera = lens[:2, :2] @ by_camera
    # A longer focal length bends the rays inwards and spreads the picture.
    narrower = -(plane * [1.0, 1, 0]) @ rotation.T
    by_focal = (by_camera @ narrower[..., None])[..., 0] + seen @ lens[:2, :2].T
    slope = np.concatenate([by_camera @ -skew(camera), by_focal[..., None]], 2)
    error = seen @ lens[:2, :2].T + lens[:2, 2] - pair.second[:, :2]
    return np.where(front[:, None], error, _LOST), slope * front[:, None, None]


def _best_homography(pair: _Pair, rng: np.random.Generator) -> Array:
    """(3, 3) homography of rays that most matches agree with."""
    best = _best_of_samples(_scored(pair, rng), np.eye(3), 4, homographies, rng)
    cost = float(pair.data_cost(_transfer(pair, best[None]))[0])
    first, second = pair.rays()
    for _ in range(5):
        ratio = (_transfer(pair, best[None])[0] / pair.tolerance) ** 2
        weight = np.sqrt(pair.weight) / (1 + ratio)
        again = homographies(first[None], second[None], weight[None])[0]
        proposed = float(pair.data_cost(_transfer(pair, again[None]))[0])
        if proposed >= cost:
            break
        best, cost = again, proposed
    return best


def _poses_of_plane(pair: _Pair, plane: Array) -> list[_Pose]:
    """Poses that a homography of rays allows, those with matches in front of both cameras."""
    agreeing = pair.weight * (_transfer(pair, plane[None])[0] < pair.tolerance)
    if agreeing.sum() == 0 or abs(np.linalg.det(plane)) < 1e-12:
        return []
    plane = plane * np.sign(np.linalg.det(plane))
    _, turns, shifts, _ = cv2.decomposeHomographyMat(plane, np.eye(3))
    found = []
    for turn, shift in zip(np.asarray(turns, np.float64), np.asarray(shifts, np.float64)[..., 0], strict=True):
        length = float(np.linalg.norm(shift))
        if length > 1e-9 and np.isfinite(turn).all():
            pose = _Pose(rotation=nearest_rotation(turn), direction=shift / length)
            found.append((float(agreeing @ _front(pair, pose)), pose))
    most = max((share for share, _ in found), default=0.0)
    return [pose for share, pose in found if share > 0.9 * most]


def _judged(pair: _Pair, turned: _Pose, plane: Array, candidates: list[_Pose]) -> TwoView:
    """Which kind it is, whether it means anything, and how well it is known."""
    best = min(candidates, key=lambda pose: pose.cost)
    turn_errors = _transfer(_with_focal(pair, turned.log_focal), turned.rotation[None])[0]
    plane_errors = _transfer(pair, plane[None])[0]
    kind = _kind(pair, best, plane_errors, turn_errors)
    slack = _SAME_LIKELIHOOD
    if kind == "planar":
        flat, wide = _on_plane(pair, plane, plane_errors, candidates)
        # Where cameras hardly moved, the poses that a plane allows can all have it behind a camera.
        if _most_agreeing(pair, flat) < _ENOUGH_OF_SIMPLE * _most_agreeing(pair, [best]):
            kind = "general"
        else:
            candidates, slack = flat, wide
            best = min(candidates, key=lambda pose: pose.cost)
            # Where the matches leave a choice, the prior has it.
            alike = [pose for pose in candidates if pose.cost < best.cost + slack]
            best = min(alike, key=pair.prior_cost) if pair.prior is not None else best
    if kind == "rotation":
        best, errors, inliers = turned, turn_errors, (turn_errors < pair.tolerance) & (pair.weight > 0)
        noise = _noise(errors[inliers] * (0.6745 / 1.1774), 2, pair.tolerance)  # two axes: the median is another
    else:
        best, errors, inliers, noise = _sharpened(pair, best, plane_errors if kind == "planar" else None)
    chance = _log10_chance(pair, kind, inliers, plane_errors)
    if chance > _LEAST_MEANING:
        used = np.count_nonzero(pair.weight)
        said = f"{np.count_nonzero(inliers)} of {used} matches agree, which chance does as well"
        return replace(_nothing(len(errors), said), log10_chance=chance)
    sigma = _deviations(pair, best, kind, noise)
    return TwoView(
        kind=kind,
        rotation=best.rotation,
        direction=best.direction,
        rotation_sigma=sigma[0],
        direction_sigma=sigma[1],
        focal_factor=float(np.exp(best.log_focal)),
        inliers=inliers,
        errors_px=errors,
        noise_px=noise,
        parallax=_parallax(pair, best, inliers),
        log10_chance=chance,
        ambiguous=kind != "rotation" and _ambiguous(best, candidates, slack),
        from_prior=best.from_prior,
        reason="",
    )


def _on_plane(pair: _Pair, plane: Array, plane_errors: Array, candidates: list[_Pose]) -> tuple[list[_Pose], float]:
    """Poses that the plane allows, and the difference of their costs that says nothing.

    Matches on the plane fit all of them alike (how far off their lines they are differs by the noise alone), so the
    cost is that of the other matches and of the prior. Wrong ones among those lie near a line by chance.
    """
    on = plane_errors < pair.tolerance
    flat, off = replace(pair, weight=pair.weight * on), replace(pair, weight=pair.weight * ~on)
    found = [off.costed(pose) for pose in _all_refined(flat, _poses_of_plane(pair, plane))]
    if not found:
        return candidates, _SAME_LIKELIHOOD
    # The one that grew from the prior is better where the homography is poor; it is of this plane if it is near.
    grown = [off.costed(_refined(flat, pose, (1,))) for pose in candidates if pose.from_prior]
    found = [next((new for new in grown if not _differ(new, old)), old) for old in found]
    by_chance = float(off.weight.sum()) * _band(pair)
    return found, _SAME_LIKELIHOOD + 3 * float(np.sqrt(2 * by_chance))


def _agreeing(pair: _Pair, pose: _Pose) -> tuple[Array, Mask, float]:
    """Sampson errors, matches that agree in front of both cameras, and their noise."""
    errors = np.abs(pair.sampson(pair.fundamental(pose)))
    inliers = (errors < pair.tolerance) & _front(pair, pose) & (pair.weight > 0)
    return errors, inliers, _noise(errors[inliers], 5, pair.tolerance)


def _most_agreeing(pair: _Pair, poses: list[_Pose]) -> int:
    return max(int(np.count_nonzero(_agreeing(pair, pose)[1])) for pose in poses)


def _sharpened(pair: _Pair, pose: _Pose, plane_errors: Array | None) -> tuple[_Pose, Array, Mask, float]:
    """Refine with the tolerance that the noise of the matches asks for: fewer wrong ones agree with that by chance."""
    cost, noise = pose.cost, _agreeing(pair, pose)[2]
    weight = pair.weight if plane_errors is None else pair.weight * (plane_errors < pair.tolerance)
    sharp = replace(pair, tolerance=2 * noise, weight=weight)
    pose = replace(_refined(sharp, pose, (2, 1.5)), cost=cost)
    return pose, *_agreeing(pair, pose)


def _nothing(count: int, reason: str) -> TwoView:
    return TwoView(
        kind="none",
        rotation=None,
        direction=np.zeros(3),
        rotation_sigma=np.inf,
        direction_sigma=np.inf,
        focal_factor=1.0,
        inliers=np.zeros(count, np.bool_),
        errors_px=np.full(count, np.inf),
        noise_px=float("nan"),
        parallax=0.0,
        log10_chance=np.inf,
        ambiguous=False,
        from_prior=False,
        reason=reason,
    )


def _noise(errors: Array, parameters: int, tolerance: float) -> float:
    """Standard deviation of errors along one axis, from their median; half the tolerance counts as a few matches."""
    spare = max(len(errors) - parameters, 0)
    square = (float(np.median(errors)) / 0.6745) ** 2 * len(errors) if spare else 0.0
    return min(float(np.sqrt((square + _VAGUE * (tolerance / 2) ** 2) / (spare + _VAGUE))), tolerance / 2)


def _kind(pair: _Pair, best: _Pose, plane: Array, turned: Array) -> Kind:
    """Torr's criterion over the matches that any of the models explains."""
    general, inliers, noise = _agreeing(pair, best)
    some = (inliers | (plane < pair.tolerance) | (turned < pair.tolerance)) & (pair.weight > 0)
    count = max(int(np.count_nonzero(some)), 1)

    def criterion(errors: Array, dimension: int, parameters: int) -> float:
        square = np.minimum((errors[some] / noise) ** 2, 2 * (4 - dimension))
        return float(square.sum()) + dimension * count * log(4) + parameters * log(4 * count)

    # A match whose point is behind a camera is not explained.
    hidden = np.where(inliers | (general >= pair.tolerance), general, _LOST)
    scores: dict[Kind, float] = {
        "rotation": criterion(turned, 2, 3),
        "planar": criterion(plane, 2, 8),
        "general": criterion(hidden, 3, 5),
    }
    # Of few matches the criterion would rather give up half than pay for a direction.
    if np.count_nonzero(some & (turned < pair.tolerance)) < _ENOUGH_OF_SIMPLE * np.count_nonzero(inliers):
        del scores["rotation"]
    return min(scores, key=lambda kind: scores[kind])


def _area(pair: _Pair) -> tuple[float, float]:
    """Width and height of the second picture: twice the principal point, or what the matches span."""
    middle = np.linalg.inv(pair.inverse[1])[:2, 2]
    width, height = np.maximum(2 * middle, np.ptp(pair.second[:, :2], axis=0)).tolist()
    return width, height


def _band(pair: _Pair) -> float:
    """Chance that a wrong match agrees with an epipolar line: the share of the picture that is near a diagonal."""
    width, height = _area(pair)
    # A Sampson error of the tolerance is about root two of it in one of the pictures.
    return float(2 * np.sqrt(2) * pair.tolerance * np.hypot(width, height) / (width * height))


def _log10_chance(pair: _Pair, kind: Kind, inliers: Mask, plane_errors: Array) -> float:
    """Number of false alarms: models times ways to choose the matches times the chance that they agree."""
    width, height = _area(pair)
    count, agreeing = int(np.count_nonzero(pair.weight)), int(np.count_nonzero(inliers))
    disc = pi * 2 * pair.tolerance**2 / (width * height)
    if kind == "rotation":
        return _false_alarms(count, agreeing, 2, 1, disc)
    found = _false_alarms(count, agreeing, 5, 10, _band(pair))
    if kind == "planar":
        flat = int(np.count_nonzero(inliers & (plane_errors < pair.tolerance)))
        found = min(found, _false_alarms(count, flat, 4, 1, disc))
    return found


def _false_alarms(count: int, agreeing: int, size: int, models: int, chance: float) -> float:
    if agreeing <= size:
        return float("inf")
    ways = _log_choose(count, agreeing) + _log_choose(agreeing, size)
    return (log(models * (count - size)) + ways + (agreeing - size) * log(min(chance, 1.0))) / log(10)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _deviations(pair: _Pair, pose: _Pose, kind: Kind, noise: float) -> tuple[float, float]:
    """Standard deviations of rotation and direction, from the matches alone and the prior of the focal length."""
    if kind == "rotation":
        now = _with_focal(pair, pose.log_focal)
        error, slope = _turn_derivatives(now, pose.rotation)
        share = pair.weight / (1 + (error**2).sum(1) / (2 * pair.tolerance**2)) ** 2 / (2 * noise**2)
        rows = slope.reshape(-1, 4)
        normal = (rows.T * np.repeat(share, 2)) @ rows
        normal[3, 3] += pair.focal_sigma**-2 if pair.focal_sigma else 1e18
        return _root_mean(np.linalg.pinv(normal, hermitian=True)[:3, :3]), float("inf")
    calm = replace(pair, prior=None)
    normal = _terms(calm, pose, 1)[0]
    normal[:5, :5] *= (pair.tolerance / 2 / noise) ** 2
    covariance = np.asarray(np.linalg.pinv(normal, rcond=1e-14, hermitian=True), np.float64)
    return _root_mean(covariance[:3, :3]), _root_mean(covariance[3:5, 3:5])


def _root_mean(covariance: Array) -> float:
    return float(np.sqrt(max(np.trace(covariance) / len(covariance), 0.0)))


def _parallax(pair: _Pair, pose: _Pose, inliers: Mask) -> float:
    if not inliers.any():
        return 0.0
    first, second = pair.rays(pose.log_focal)
    turned = (first @ pose.rotation.T)[inliers]
    apart, together = np.linalg.norm(turned - second[inliers], axis=1), np.linalg.norm(turned + second[inliers], axis=1)
    return float(np.median(2 * np.arctan2(apart, together)))


def _ambiguous(best: _Pose, candidates: list[_Pose], slack: float) -> bool:
    """Whether a pose that differs by more than a few degrees costs about the same."""
    close = [other for other in candidates if abs(other.cost - best.cost) < slack]
    return any(_differ(best, other) for other in close)
