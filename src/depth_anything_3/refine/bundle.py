"""Sparse bundle adjustment: poses, focal lengths, principal point, one radial distortion and points that explain where
points were seen, with what is known beforehand as priors.

    cost = sum w rho(|seen - projected|^2 / noise^2)                 Cauchy: rho(s) = c^2 log(1 + s / c^2), in pixels
         + sum rho_d((log z - log depth - scale_v)^2 / sigma^2)      depth of a point in a view, and that view's scale
         + |log(R R_prior^T)|^2 / sigma^2 + |centre - centre_prior|^2 / sigma^2
         + (log f - log f_prior)^2 / sigma^2 + |middle - middle_prior|^2 / sigma^2 + scale_v^2 / sigma^2

It is minimised (half of it) by Levenberg-Marquardt with iterated reweighting; points are eliminated from the normal
equations (Schur complement; Triggs et al., "Bundle adjustment - a modern synthesis", 2000, sections 6 and 9).

What the observations and priors leave free is fixed, and nothing else: views that share points form a group; the first
view of each keeps its pose (in groups without view 0, unless priors hold it), and where neither depth nor centres say
how large the group is, the view that is farthest from the first keeps its distance. A parameter that nothing depends
on stays as it came.

Letters: N views, P points, O observations, C = 11 parameters per view (rotation, translation, log focal, k1, log depth
scale, principal point), G parameters that are free once views share them and the gauge is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import nearest_rotation
from depth_anything_3.refine.bundle_terms import (
    FOCAL,
    BundleOptions,
    Focal,
    Priors,
    Problem,
    State,
    build_problem,
)
from depth_anything_3.refine.normal_equations import NormalEquations
from depth_anything_3.refine.reprojection import (
    check_cameras,
    euclidean_points,
    homogeneous_points,
    project_points,
)
from depth_anything_3.refine.tracks import Observations

__all__ = ["BundleOptions", "BundleReport", "BundleResult", "Focal", "Priors", "StopReason", "adjust_bundle"]

Array = npt.NDArray[np.float64]

StopReason = Literal["converged", "no step lowers the cost", "out of rounds", "nothing to refine"]

_DAMPING = 1e-4
_LEAST_DAMPING, _MOST_DAMPING = 1e-8, 1e10
_NO_PROMISE = 1e-3  # of the tolerance: a step that cannot lower the cost by more is not tried
_ZERO_COST = 1e-20  # per observation: nothing but rounding is left


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """What happened.

    Attributes:
        rounds: steps that lowered the cost.
        cost_before, cost_after: the cost above.
        stopped: why.
        noise_px: standard deviation of the observations that the residuals speak for (from their median); NaN where
            there are not enough of them.
        groups: views that share points, directly or through others; a view that shares none is alone.
        fixed_scale: per group, the view whose distance from the first of its group was kept; -1 where none was.
    """

    rounds: int
    cost_before: float
    cost_after: float
    stopped: StopReason
    noise_px: float
    groups: tuple[tuple[int, ...], ...]
    fixed_scale: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class BundleResult:
    """Result of :func:`adjust_bundle`.

    Standard deviations are those of the normal equations, given ``noise_px`` and the priors: 0 for what was fixed,
    inf for what nothing was known about.

    Attributes:
        extrinsics: world-to-camera.
        intrinsics: with refined focal lengths and principal points.
        distortion: k1.
        points: unit 4-vectors (x, w).
        log_scale: ``depth * exp(log_scale)`` is a view's given depth in the unit of this world.
        errors_px: per observation; inf behind the camera.
        view_rms_px, point_rms_px: weighted; NaN without observations, inf where one is behind the camera.
        report: what happened.
        problem, state: what was minimised and where it ended.
    """

    extrinsics: Float[np.ndarray, "n 3 4"]
    intrinsics: Float[np.ndarray, "n 3 3"]
    distortion: float
    points: Float[np.ndarray, "p 4"]
    log_scale: Float[np.ndarray, " n"]
    errors_px: Float[np.ndarray, " o"]
    view_rms_px: Float[np.ndarray, " n"]
    point_rms_px: Float[np.ndarray, " p"]
    report: BundleReport
    problem: Problem
    state: State

    @property
    def places(self) -> Float[np.ndarray, "p 3"]:
        """x / w of the points; inf where w is not positive."""
        return euclidean_points(self.points)

    @property
    def rotation_sigma(self) -> Float[np.ndarray, "n 3"]:
        """In radians, about the axes of the camera."""
        return np.sqrt(self._variance[:, :3])

    @property
    def centre_sigma(self) -> Float[np.ndarray, "n 3"]:
        """In the unit of the world, along its axes."""
        # A movement b of the pose moves the centre by -R^T b.
        world = self.extrinsics[:, :, :3].swapaxes(1, 2)
        known = np.isfinite(self._variance[:, 3:6]).all(1)
        covariance = np.where(known[:, None, None], self._covariance[:, 3:6, 3:6], 0.0)
        turned = np.diagonal(world @ covariance @ world.swapaxes(1, 2), axis1=1, axis2=2)
        return np.sqrt(np.where(known[:, None], np.maximum(turned, 0.0), np.inf))

    @property
    def focal_sigma(self) -> Float[np.ndarray, " n"]:
        """Of the logarithm of the focal length."""
        return np.sqrt(self._variance[:, FOCAL])

    @property
    def _variance(self) -> Float[np.ndarray, "n 11"]:
        return np.diagonal(self._covariance, axis1=1, axis2=2)

    @cached_property
    def _covariance(self) -> Float[np.ndarray, "n 11 11"]:
        return NormalEquations.of(self.problem, self.state).covariance_by_view()


def adjust_bundle(
    observations: Observations,
    extrinsics: Float[np.ndarray, "n 3 4"],
    intrinsics: Float[np.ndarray, "n 3 3"],
    points: Float[np.ndarray, "p xyz_or_xyzw"],
    *,
    priors: Priors | None = None,
    options: BundleOptions | None = None,
    distortion: float = 0.0,
    log_scale: Float[np.ndarray, " n"] | None = None,
) -> BundleResult:
    """Refine cameras and points from a first guess.

    Args:
        observations: of the points. Those of a point that is seen once, without a depth, change nothing but the point.
        extrinsics: world-to-camera, where the search starts.
        intrinsics: camera matrices; focal lengths and principal points start here, everything else stays.
        points: places in the world, or 4-vectors (x, w) for points that may be at infinity.
        priors: None for none.
        options: None for the defaults.
        distortion: k1 of every view, where the search starts.
        log_scale: of each view's depth prior, where the search starts; None is 0.

    Raises:
        InputError: a shape or an index is wrong, a value is not finite, a standard deviation is negative.
    """
    options = options or BundleOptions()
    poses, lenses = check_cameras(extrinsics, intrinsics, least=1)
    poses = np.concatenate([nearest_rotation(poses[..., :3]), poses[..., 3:]], -1)
    unit = homogeneous_points(points)
    observations.check(len(unit), len(poses))
    scales = np.zeros(len(poses)) if log_scale is None else np.asarray(log_scale, np.float64)
    if scales.shape != (len(poses),) or not np.isfinite(scales).all():
        raise InputError("log_scale", f"shape {scales.shape}, or a value not finite", f"{len(poses)} finite numbers")
    start = State(poses=poses, lenses=lenses, distortion=float(distortion), points=unit, log_scale=scales)
    problem = build_problem(observations, start, priors or Priors(), options)
    state, report = _minimise(problem, start)
    return _result(problem, observations, state, report)


def _minimise(problem: Problem, start: State) -> tuple[State, BundleReport]:
    """Levenberg-Marquardt: damp more where a step fails, less where it works."""
    state, cost, damping = start, problem.cost(start), _DAMPING
    before, rounds, quiet, grow = cost, 0, 0, 4.0
    stopped: StopReason = "out of rounds"
    equations = NormalEquations.of(problem, state)
    if not equations.anything_free:
        return state, _report(problem, state, 0, before, before, "nothing to refine")
    while rounds < problem.options.rounds:
        if cost <= _ZERO_COST * max(len(problem.view), 1):
            stopped = "converged"
            break
        by_view, by_point, promise = equations.step(damping)
        if damping <= _DAMPING and promise <= _NO_PROMISE * problem.options.tolerance * cost:
            stopped = "converged"
            break
        proposal = problem.rescaled(state.moved(by_view, by_point), state)
        proposed = problem.cost(proposal)
        if not proposed < cost:  # NaN too
            damping, grow = damping * grow, 2 * grow
            if damping > _MOST_DAMPING:
                stopped = "no step lowers the cost"
                break
            continue
        quiet = quiet + 1 if cost - proposed <= problem.options.tolerance * cost else 0
        state, cost, rounds = proposal, proposed, rounds + 1
        damping, grow = max(damping / 5, _LEAST_DAMPING), 4.0
        if quiet == 2:
            stopped = "converged"
            break
        equations = NormalEquations.of(problem, state)
    return state, _report(problem, state, rounds, before, cost, stopped)


def _report(
    problem: Problem, state: State, rounds: int, before: float, after: float, stopped: StopReason
) -> BundleReport:
    return BundleReport(
        rounds=rounds,
        cost_before=before,
        cost_after=after,
        stopped=stopped,
        noise_px=_noise(problem, state),
        groups=problem.gauge.groups,
        fixed_scale=problem.gauge.kept,
    )


def _noise(problem: Problem, state: State) -> float:
    """From the median squared error, which is 2 log 2 times the variance, and the freedom that the fit had."""
    square = (problem.residuals(state)[:, :2] ** 2).sum(1) * problem.options.noise_px**2
    parameters = 3 * len(np.unique(problem.point)) + problem.free_directions(state).shape[1]
    spare = 2 * len(square) - parameters
    if spare <= 0:
        return float("nan")
    return float(np.sqrt(np.median(square) / (2 * np.log(2)) * 2 * len(square) / spare))


def _result(problem: Problem, observations: Observations, state: State, report: BundleReport) -> BundleResult:
    view, point = observations.view, observations.point
    xy, _, front = project_points(state.poses[view], state.lenses[view], state.points[point], state.distortion)
    errors = np.where(front, np.linalg.norm(xy - observations.xy, axis=1), np.inf)
    return BundleResult(
        extrinsics=state.poses,
        intrinsics=state.lenses,
        distortion=state.distortion,
        points=state.points,
        log_scale=state.log_scale,
        errors_px=errors,
        view_rms_px=_rms(errors, observations.weight, view, len(state.poses)),
        point_rms_px=_rms(errors, observations.weight, point, len(state.points)),
        report=report,
        problem=problem,
        state=state,
    )


def _rms(errors: Array, weight: Array, index: npt.NDArray[np.integer], count: int) -> Array:
    used = weight > 0
    total = np.bincount(index[used], weight[used], count)
    square = np.bincount(index[used], weight[used] * errors[used] ** 2, count)
    return np.sqrt(np.divide(square, total, out=np.full(count, np.nan), where=total > 0))
