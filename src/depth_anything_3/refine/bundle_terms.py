"""What bundle adjustment minimises: its terms, their derivatives, and what fixes the gauge.

See :mod:`depth_anything_3.refine.bundle` for the cost and the letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import (
    left_jacobian_inverse,
    nearest_rotation,
    rotation_from_vector,
    vector_from_rotation,
)
from depth_anything_3.refine.reprojection import (
    move_points,
    point_tangents,
    project_points,
    project_with_derivatives,
)
from depth_anything_3.refine.tracks import Observations

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

Focal = Literal["fixed", "shared", "per view"]

PER_VIEW = 11
"""Parameters of a view: rotation vector, translation, log focal length, k1, log depth scale, principal point."""

FOCAL, DISTORTION, SCALE, MIDDLE = 6, 7, 8, slice(9, 11)
_BEHIND = 1e3  # residual, in standard deviations, of a point behind its camera: bad, and the same everywhere


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """How to adjust.

    Attributes:
        focal: which focal lengths are refined; "shared" is one factor on those of all views.
        distortion: refine k1, one for all views.
        middle: refine the principal points, by one shift of those of all views.
        noise_px: standard deviation of the observations, in pixels.
        cauchy_px: errors larger than about this count as wrong; inf for least squares.
        depth_cauchy: the same for depths, in their standard deviations.
        rounds: at most so many steps that lower the cost.
        tolerance: relative decrease of the cost that ends the search.
    """

    focal: Focal = "shared"
    distortion: bool = False
    middle: bool = False
    noise_px: float = 1.0
    cauchy_px: float = 2.0
    depth_cauchy: float = 3.0
    rounds: int = 50
    tolerance: float = 1e-9

    def __post_init__(self) -> None:
        if self.focal not in ("fixed", "shared", "per view"):
            raise InputError("focal", repr(self.focal), "a rule", ("fixed", "shared", "per view"))
        for name in ("noise_px", "cauchy_px", "depth_cauchy"):
            if not getattr(self, name) > 0:
                raise InputError(name, str(getattr(self, name)), "a positive number")
        if self.rounds < 0 or not self.tolerance >= 0:
            raise InputError("rounds, tolerance", f"{self.rounds}, {self.tolerance}", "numbers of at least 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class Priors:
    """What is known before the observations; a standard deviation of inf says that nothing is. None leaves it out.

    Attributes:
        rotation: world-to-camera.
        rotation_sigma: in radians, about each axis.
        centre: positions of the cameras in the world.
        centre_sigma: in the unit of the world, along each axis.
        focal_px: fx in pixels.
        focal_sigma: of its logarithm. With a shared focal length the N values count as one measurement.
        middle_px: principal points.
        middle_sigma: in pixels, along each axis. The N values count as one measurement.
        depth: z-depth of the point of each observation in its view; what is not finite and positive is not known.
        depth_sigma: of its logarithm. Depths of neighbouring points that err together should say so by a larger one.
        scale_sigma: of the logarithm of the factor that each view's depth is off by; 0 for depths of known scale.
    """

    rotation: Float[np.ndarray, "n 3 3"] | None = None
    rotation_sigma: Float[np.ndarray, " n"] | float = np.inf
    centre: Float[np.ndarray, "n 3"] | None = None
    centre_sigma: Float[np.ndarray, " n"] | float = np.inf
    focal_px: Float[np.ndarray, " n"] | None = None
    focal_sigma: Float[np.ndarray, " n"] | float = np.inf
    middle_px: Float[np.ndarray, "n 2"] | None = None
    middle_sigma: Float[np.ndarray, " n"] | float = np.inf
    depth: Float[np.ndarray, " o"] | None = None
    depth_sigma: Float[np.ndarray, " o"] | float = np.inf
    scale_sigma: Float[np.ndarray, " n"] | float = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class State:
    """What is refined."""

    poses: Float[np.ndarray, "n 3 4"]
    lenses: Float[np.ndarray, "n 3 3"]
    distortion: float
    points: Float[np.ndarray, "p 4"]
    log_scale: Float[np.ndarray, " n"]

    @property
    def centres(self) -> Float[np.ndarray, "n 3"]:
        """Positions of the cameras in the world."""
        found: Array = -np.einsum("nji,nj->ni", self.poses[..., :3], self.poses[..., 3])
        return found

    def moved(self, by_view: Float[np.ndarray, "n 11"], by_point: Float[np.ndarray, "p 3"]) -> State:
        """The state after a step: poses move from the left, points along their tangents."""
        turn = rotation_from_vector(by_view[:, :3])
        shift = turn @ self.poses[..., 3:] + by_view[:, 3:6, None]
        lenses = self.lenses.copy()
        lenses[:, :2, :2] *= np.exp(by_view[:, FOCAL])[:, None, None]
        lenses[:, :2, 2] += by_view[:, MIDDLE]
        return State(
            poses=np.concatenate([nearest_rotation(turn @ self.poses[..., :3]), shift], -1),
            lenses=lenses,
            distortion=self.distortion + float(by_view[0, DISTORTION]) if len(by_view) else self.distortion,
            points=move_points(self.points, point_tangents(self.points), by_point),
            log_scale=self.log_scale + by_view[:, SCALE],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Residuals of observations and their derivatives, divided by standard deviations and not yet reweighted.

    Rows are x, y in pixels and the logarithm of the depth.
    """

    residual: Float[np.ndarray, "o 3"]
    by_view: Float[np.ndarray, "o 3 11"]
    by_point: Float[np.ndarray, "o 3 3"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gauge:
    """Which parameters the observations and priors leave free, and what fixes them.

    Attributes:
        groups: views that share points, directly or through others.
        turn_fixed, shift_fixed: views whose rotation and whose centre do not move.
        kept: per group, the view whose distance from the first one is kept; -1 for none.
    """

    groups: tuple[tuple[int, ...], ...]
    turn_fixed: tuple[int, ...]
    shift_fixed: tuple[int, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PriorTerms:
    """Priors as arrays, each with its weight: one over the squared standard deviation, 0 where nothing is known."""

    rotation: Float[np.ndarray, "n 3 3"]
    rotation_weight: Float[np.ndarray, " n"]
    centre: Float[np.ndarray, "n 3"]
    centre_weight: Float[np.ndarray, " n"]
    log_focal: Float[np.ndarray, " n"]
    focal_weight: Float[np.ndarray, " n"]
    middle: Float[np.ndarray, "n 2"]
    middle_weight: Float[np.ndarray, " n"]
    scale_weight: Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Everything that does not change while the cost is minimised.

    Observations of a point are together, and so are points whose first view is the same. ``log_depth`` is NaN where
    nothing is known; ``free_scale`` says whether the scale of a view's depth is refined.
    """

    view: Indices
    point: Indices
    xy: Array
    weight: Array
    log_depth: Array
    depth_sigma: Array
    free_scale: Mask
    priors: PriorTerms
    options: BundleOptions
    gauge: Gauge

    def residuals(self, state: State) -> Float[np.ndarray, "o 3"]:
        """Residuals of observations in standard deviations; see :class:`Rows`."""
        pose, lens, point = state.poses[self.view], state.lenses[self.view], state.points[self.point]
        xy, depth, front = project_points(pose, lens, point, state.distortion)
        return self._residual(xy, depth, point[:, 3], front, state)

    def rows(self, state: State) -> Rows:
        """Residuals of observations with their derivatives."""
        pose, lens, point = state.poses[self.view], state.lenses[self.view], state.points[self.point]
        tangents = point_tangents(state.points)[self.point]
        seen = project_with_derivatives(pose, lens, point, tangents, state.distortion)
        noise = 1 / self.options.noise_px
        deep = seen.front & (point[:, 3] > 0) & ~np.isnan(self.log_depth)
        sharp = np.where(deep, 1 / self.depth_sigma, 0.0)
        by_view = np.zeros((len(self.view), 3, PER_VIEW))
        by_view[:, :2, :6] = noise * seen.by_pose
        by_view[:, :2, FOCAL] = noise * seen.by_focal
        by_view[:, :2, DISTORTION] = noise * seen.by_distortion
        by_view[:, :2, MIDDLE] = noise * np.eye(2)
        by_view[:, 2, :6] = sharp[:, None] * seen.depth_by_pose
        by_view[:, 2, SCALE] = -sharp
        by_point = np.concatenate([noise * seen.by_point, sharp[:, None, None] * seen.depth_by_point[:, None]], 1)
        residual = self._residual(seen.xy, seen.depth, point[:, 3], seen.front, state)
        return Rows(residual=residual, by_view=by_view, by_point=by_point)

    def _residual(self, xy: Array, depth: Array, w: Array, front: Mask, state: State) -> Array:
        residual = np.zeros((len(self.view), 3))
        hidden = _BEHIND / np.sqrt(2)
        residual[:, :2] = np.where(front[:, None], (xy - self.xy) / self.options.noise_px, hidden)
        deep = front & (w > 0)
        log_z = np.log(np.where(deep, depth, 1.0)) - np.log(np.where(deep, w, 1.0))
        difference = (log_z - self.log_depth - state.log_scale[self.view]) / self.depth_sigma
        residual[:, 2] = np.where(np.isnan(self.log_depth), 0.0, np.where(deep, difference, _BEHIND))
        return residual

    def robust(self, residual: Float[np.ndarray, "o 3"]) -> tuple[Float[np.ndarray, "o 2"], Float[np.ndarray, "o 2"]]:
        """Cost (twice) of pixel and depth, and the weights of an equivalent least-squares problem."""
        square = np.stack([(residual[:, :2] ** 2).sum(1), residual[:, 2] ** 2], 1)
        width = np.array([self.options.cauchy_px / self.options.noise_px, self.options.depth_cauchy]) ** 2
        known = np.stack([self.weight, np.ones_like(self.weight)], 1)
        finite = np.isfinite(width)
        ratio = square / np.where(finite, width, np.inf)
        cost = np.where(finite, np.where(finite, width, 0.0) * np.log1p(ratio), square)
        return known * cost, known / (1 + ratio)

    def cost(self, state: State) -> float:
        """Half the cost of the module's heading."""
        seen = self.robust(self.residuals(state))[0].sum()
        residual, _ = self.prior_rows(state)
        return 0.5 * float(seen + (residual**2).sum())

    def prior_rows(self, state: State) -> tuple[Float[np.ndarray, "n 10"], Float[np.ndarray, "n 10 11"]]:
        """Residuals of the priors of each view with derivatives: rotation 3, centre 3, focal length, depth scale,
        principal point 2.
        """
        p, views = self.priors, len(state.poses)
        away = vector_from_rotation(state.poses[..., :3] @ p.rotation.swapaxes(1, 2))
        apart = state.centres - p.centre
        log_focal = np.log(state.lenses[:, 0, 0]) - p.log_focal
        off = state.lenses[:, :2, 2] - p.middle
        residual = np.concatenate([away, apart, log_focal[:, None], state.log_scale[:, None], off], 1)
        slope = np.zeros((views, 10, PER_VIEW))
        slope[:, :3, :3] = left_jacobian_inverse(away)
        slope[:, 3:6, 3:6] = -state.poses[..., :3].swapaxes(1, 2)
        slope[:, 6, FOCAL] = slope[:, 7, SCALE] = 1
        slope[:, 8:, MIDDLE] = np.eye(2)
        weights = [p.rotation_weight] * 3 + [p.centre_weight] * 3 + [p.focal_weight, p.scale_weight]
        weights += [p.middle_weight] * 2
        root = np.sqrt(np.stack(weights, 1))
        return root * residual, root[..., None] * slope

    def free_directions(self, state: State) -> Float[np.ndarray, "n11 g"]:
        """Columns: how the parameters of all views follow from those that are free."""
        views = len(state.poses)
        free = np.ones((views, PER_VIEW), np.bool_)
        free[list(self.gauge.turn_fixed), :3] = False
        free[list(self.gauge.shift_fixed), 3:6] = False
        free[:, FOCAL] = self.options.focal == "per view"
        free[:, DISTORTION] = free[:, MIDDLE] = False
        free[:, SCALE] = self.free_scale
        columns = [np.eye(views * PER_VIEW)[:, free.ravel()]]
        shared = [FOCAL] if self.options.focal == "shared" else []
        shared += [DISTORTION] if self.options.distortion else []
        shared += list(range(PER_VIEW)[MIDDLE]) if self.options.middle else []
        for parameter in shared:
            columns.append((np.arange(views * PER_VIEW) % PER_VIEW == parameter).astype(np.float64)[:, None])
        found = np.concatenate(columns, 1)
        for group, view in zip(self.gauge.groups, self.gauge.kept, strict=True):
            if view >= 0:
                found = _without_baseline(found, state, group[0], view)
        return found

    def rescaled(self, state: State, like: State) -> State:
        """The same scene, with the kept distances of ``like`` again: groups grow about their first camera."""
        poses, points, scales = state.poses.copy(), state.points.copy(), state.log_scale.copy()
        for group, view in zip(self.gauge.groups, self.gauge.kept, strict=True):
            if view < 0:
                continue
            factor = _distance(like, group[0], view) / _distance(state, group[0], view)
            chosen, middle = list(group), state.centres[group[0]]
            centres = middle + factor * (state.centres[chosen] - middle)
            poses[chosen, :, 3] = -np.einsum("nij,nj->ni", poses[chosen, :, :3], centres)
            mine = np.unique(self.point[np.isin(self.view, chosen)])
            points[mine, :3] = factor * points[mine, :3] + (1 - factor) * points[mine, 3:] * middle
            points[mine] /= np.linalg.norm(points[mine], axis=1, keepdims=True)
            scales[chosen] += np.where(self.free_scale[chosen], np.log(factor), 0.0)
        return State(poses=poses, lenses=state.lenses, distortion=state.distortion, points=points, log_scale=scales)


def _distance(state: State, a: int, b: int) -> float:
    return float(np.linalg.norm(state.centres[b] - state.centres[a]))


def _without_baseline(columns: Array, state: State, first: int, view: int) -> Array:
    """Replace the three columns of a view's translation by two that keep its distance from another view."""
    rows = slice(view * PER_VIEW + 3, view * PER_VIEW + 6)
    others = columns[:, ~columns[rows].any(0)]
    along = state.poses[view, :, :3] @ (state.centres[view] - state.centres[first])
    across = np.linalg.svd(along[None])[2][1:].T
    new = np.zeros((len(columns), 2))
    new[rows] = across
    return np.concatenate([others, new], 1)


def build_problem(observations: Observations, state: State, priors: Priors, options: BundleOptions) -> Problem:
    """Check the priors, sort the observations, and find what fixes the gauge.

    Raises:
        InputError: a shape is wrong, a value is not finite, a standard deviation is negative or zero where it must not
            be, or a point is seen twice in a view.
    """
    views, count = len(state.poses), len(observations.point)
    depth = np.full(count, np.nan) if priors.depth is None else _shaped("depth", priors.depth, (count,))
    sigma = _deviations("depth_sigma", priors.depth_sigma, count)
    with np.errstate(invalid="ignore"):
        known = np.isfinite(depth) & (depth > 0) & np.isfinite(sigma)
    if (sigma[known] == 0).any():
        raise InputError("depth_sigma", "0", "positive standard deviations")
    order = _sorted_observations(observations)
    view, point = observations.view[order].astype(np.int64), observations.point[order].astype(np.int64)
    terms, scale_sigma = _prior_terms(priors, views, shared=options.focal == "shared")
    given = np.bincount(view, known[order], views) > 0
    observed = np.bincount(view, minlength=views) > 0
    return Problem(
        view=view,
        point=point,
        xy=observations.xy[order].astype(np.float64),
        weight=observations.weight[order].astype(np.float64),
        log_depth=np.log(np.where(known, depth, np.nan))[order],
        depth_sigma=np.where(known, sigma, 1.0)[order],
        free_scale=given & (scale_sigma > 0),
        priors=terms,
        options=options,
        gauge=_gauge(_groups(view, point, views), state, terms, observed, given & np.isfinite(scale_sigma)),
    )


def _sorted_observations(observations: Observations) -> Indices:
    order = np.flatnonzero(observations.weight > 0)
    order = order[np.lexsort((observations.view[order], observations.point[order]))]
    point, view = observations.point[order], observations.view[order]
    again = (point[1:] == point[:-1]) & (view[1:] == view[:-1])
    if again.any():
        at = int(np.flatnonzero(again)[0])
        raise InputError("observations", f"point {point[at]} twice in view {view[at]}", "at most one each")
    names, start, which = np.unique(point, return_index=True, return_inverse=True)
    first = view[start][which] if len(names) else view
    return order[np.argsort(first, kind="stable")]


def _prior_terms(priors: Priors, views: int, *, shared: bool) -> tuple[PriorTerms, Array]:
    scale_sigma = _deviations("scale_sigma", priors.scale_sigma, views)
    rotation, rotation_weight = _prior("rotation", priors.rotation, priors.rotation_sigma, (views, 3, 3))
    centre, centre_weight = _prior("centre", priors.centre, priors.centre_sigma, (views, 3))
    focal, focal_weight = _prior("focal_px", priors.focal_px, priors.focal_sigma, (views,))
    middle, middle_weight = _prior("middle_px", priors.middle_px, priors.middle_sigma, (views, 2))
    if (focal[focal_weight > 0] <= 0).any():
        raise InputError("focal_px", "a value that is not positive", "positive focal lengths")
    if shared:
        focal_weight = focal_weight / max(int(np.count_nonzero(focal_weight)), 1)
    terms = PriorTerms(
        rotation=np.where((rotation_weight > 0)[:, None, None], rotation, np.eye(3)),
        rotation_weight=rotation_weight,
        centre=np.where((centre_weight > 0)[:, None], centre, 0.0),
        centre_weight=centre_weight,
        log_focal=np.log(np.where(focal_weight > 0, focal, 1.0)),
        focal_weight=focal_weight,
        middle=np.where((middle_weight > 0)[:, None], middle, 0.0),
        middle_weight=middle_weight / max(int(np.count_nonzero(middle_weight)), 1),
        scale_weight=_weights(scale_sigma),
    )
    return terms, scale_sigma


def _shaped(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> Array:
    if np.shape(value) != shape:
        raise InputError(name, f"shape {np.shape(value)}", f"shape {shape}")
    return np.asarray(value, np.float64)


def _deviations(name: str, value: npt.ArrayLike, count: int) -> Array:
    """A standard deviation per view or observation, from one for all or from as many."""
    array = np.asarray(value, np.float64)
    sigma = np.full(count, float(array)) if array.ndim == 0 else _shaped(name, array, (count,))
    if not (sigma >= 0).all():
        raise InputError(name, "a negative value or NaN", "standard deviations of at least 0")
    return sigma


def _weights(sigma: Array) -> Array:
    """One over the square; 0 where it is inf, and where it is 0 (then the parameter is fixed, not pulled)."""
    usable = np.isfinite(sigma) & (sigma > 0)
    return np.where(usable, 1 / np.where(usable, sigma, 1.0) ** 2, 0.0)


def _prior(name: str, value: npt.ArrayLike | None, sigma: npt.ArrayLike, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """A prior per view and its weight."""
    if value is None:
        return np.zeros(shape), np.zeros(shape[0])
    given = _shaped(name, value, shape)
    name_of_sigma = f"{name.removesuffix('_px')}_sigma"
    deviation = _deviations(name_of_sigma, sigma, shape[0])
    if (deviation == 0).any():
        raise InputError(name_of_sigma, "0", "positive standard deviations")
    weight = _weights(deviation)
    if not np.isfinite(given[weight > 0]).all():
        raise InputError(name, "a value that is not finite", "finite numbers wherever the standard deviation is")
    return given, weight


def _groups(view: Indices, point: Indices, views: int) -> tuple[tuple[int, ...], ...]:
    """Views connected by points, by their first views; observations of a point are together."""
    label = np.arange(views)
    same = point[1:] == point[:-1]
    for a, b in np.unique(np.stack([view[:-1][same], view[1:][same]], 1), axis=0).tolist():
        low, high = sorted((int(label[a]), int(label[b])))
        label[label == high] = low
    return tuple(tuple(np.flatnonzero(label == name).tolist()) for name in np.unique(label))


def _gauge(groups: tuple[tuple[int, ...], ...], state: State, priors: PriorTerms, observed: Mask, deep: Mask) -> Gauge:
    """The first view of a group is fixed. In groups without view 0, priors may hold it instead."""
    turn_fixed: list[int] = []
    shift_fixed: list[int] = []
    kept = []
    for group in groups:
        members = list(group)
        centred = priors.centre_weight[members] > 0
        held_by_centres = group[0] != 0 and np.count_nonzero(centred) >= min(2, len(group))
        if group[0] != 0 and not observed[members].any():
            turn_held = shift_held = True  # by priors, or by nothing, which the standard deviations should say
        else:
            turn_held = group[0] != 0 and bool(priors.rotation_weight[members].any())
            shift_held = bool(held_by_centres)
        turn_fixed += [] if turn_held else [group[0]]
        shift_fixed += [] if shift_held else [group[0]]
        scaled = bool(deep[members].any()) or held_by_centres or bool(centred[1:].any())
        kept.append(-1 if scaled else _farthest(state, members))
    return Gauge(groups=groups, turn_fixed=tuple(turn_fixed), shift_fixed=tuple(shift_fixed), kept=tuple(kept))


def _farthest(state: State, members: list[int]) -> int:
    """The view farthest from the first; -1 where all are in one place."""
    distance = np.linalg.norm(state.centres[members] - state.centres[members[0]], axis=1)
    return members[int(distance.argmax())] if distance.max() > 0 else -1
