"""Each view's depth laid onto the points that were triangulated in it: one scale, or a smooth field of scales.

Everything happens in the logarithm of depth, where a scale is a shift. With ``r`` the logarithm of the depth of a point
over that of the map at its pixel, the field is

    field(x, y, d) = bilinear(grid; x, y) + bend * (log d - mean)

and minimises  ``sum w rho(r - field)^2 + sum over neighbours (difference of grid / stiffness)^2 + (bend / sigma)^2``
with the Cauchy loss, by reweighted least squares. It has some 40 unknowns. The stiffness is the one that tells the
residuals of points best that the fit has not seen, and where none tells them better than one scale does, one scale it
is. Away from all points the field goes on as a constant; ``log d`` counts only as far as the points reach.

Letters: N views, O points in views, G unknowns of a field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import valid_pixels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Alignment = Literal["field", "scale", "none"]
"""How a view's depth was brought to the points; ``"none"`` is the caller's scale."""

_GRID = (5, 7)  # nodes, rows and columns
_STIFFNESS = (0.02, 0.05, 0.1, 0.2)  # standard deviation of the difference of neighbouring nodes, in log depth
_BEND_SIGMA = 0.5
_FOLDS = 5
_ROUNDS, _FOLD_ROUNDS = 10, 2  # of reweighting; where a fold is left out, from the field of all of them
_CAUCHY = 2.0  # standard deviations at which a residual has half its weight, squared
_LEAST_GAIN = 0.02  # of the held-out error: a field must be better than one scale by that part
_FLOOR = 1e-3  # log depth: nobody's residuals are smaller


@dataclass(frozen=True, kw_only=True)
class AlignmentOptions:
    """When to use what.

    Attributes:
        least_points: a view with fewer keeps the caller's scale.
        field_points: a view with fewer gets one scale.
        field_cells: of the 16 cells of a 4 x 4 grid over the picture, so many must hold a point for a field.
    """

    least_points: int = 8
    field_points: int = 50
    field_cells: int = 6

    def __post_init__(self) -> None:
        if self.least_points < 1 or self.field_points < _FOLDS or not 1 <= self.field_cells <= 16:
            got = f"{self.least_points}, {self.field_points}, {self.field_cells}"
            expected = f"at least 1, at least {_FOLDS}, and 1 to 16"
            raise InputError("least_points, field_points, field_cells", got, expected)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenPoints:
    """Points of known depth in views: O flat rows, in any order.

    Attributes:
        view: index of the view.
        xy: pixel, the centre of the top-left one at (0.5, 0.5).
        depth: z-depth of the point in that view.
        sigma: standard deviation of its logarithm.
    """

    view: Int[np.ndarray, " o"]
    xy: Float[np.ndarray, "o 2"]
    depth: Float[np.ndarray, " o"]
    sigma: Float[np.ndarray, " o"]

    def __post_init__(self) -> None:
        count = len(self.view)
        for name, shape in {"xy": (count, 2), "depth": (count,), "sigma": (count,)}.items():
            if np.shape(getattr(self, name)) != shape:
                raise InputError(f"points.{name}", f"shape {np.shape(getattr(self, name))}", f"shape {shape}")
        if not (np.isfinite(self.xy).all() and np.isfinite(self.sigma).all() and (self.sigma >= 0).all()):
            raise InputError("points", "a pixel or a sigma that is not finite, or a negative sigma", "finite numbers")
        if not valid_pixels(self.depth).all():
            raise InputError("points.depth", "a depth that is not finite and positive", "points in front of the view")


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedDepth:
    """Result of :func:`align_depth`. Residuals are medians of ``|log(depth of the point / depth of the map)|``.

    Attributes:
        depth: as it came, times the scale or the field; where it is not known it is as it came.
        scale: one factor per view, the caller's where ``method`` is "none".
        method: per view.
        points: per view, how many had a depth of the map to compare with.
        residual_before: with the caller's scale; NaN without points. So are the others.
        residual_scaled: with ``scale``.
        residual_after: with what was used.
        spread: standard deviation of log depth that is expected at points that the fit has not seen; 0.2 where the
            method is "none".
    """

    depth: Float[np.ndarray, "n h w"]
    scale: Float[np.ndarray, " n"]
    method: tuple[Alignment, ...]
    points: Int[np.ndarray, " n"]
    residual_before: Float[np.ndarray, " n"]
    residual_scaled: Float[np.ndarray, " n"]
    residual_after: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]

    @property
    def band(self) -> Float[np.ndarray, " n"]:
        """Half width of the band of log depth to search for each view: three times the spread, from 0.4 to 0.7.

        Points lie on texture, and most of them inside of things; the network errs more at their borders, so that the
        spread tells how wide to go at least.
        """
        return (3 * self.spread).clip(0.4, 0.7)


_UNKNOWN_SPREAD = 0.2


def align_depth(
    depth: Float[np.ndarray, "n h w"],
    points: SeenPoints,
    size: tuple[int, int],
    *,
    masks: Bool[np.ndarray, "n h w"] | None = None,
    fallback_scale: float | Float[np.ndarray, " n"] = 1.0,
    options: AlignmentOptions | None = None,
) -> AlignedDepth:
    """Align each view's depth to the points seen in it, see the module for how. One in five points may be wrong.

    Args:
        depth: z-depth in any unit and of any size; a map covers its picture entirely. What is not finite and positive
            is not known.
        points: in pixels of pictures of ``size``.
        size: height and width of the pictures.
        masks: where depth may be compared with points: False for sky and for what moves. None for everywhere.
        fallback_scale: for views without enough points; residuals "before" are with it. One for all, or one per view.
        options: None for the defaults.

    Raises:
        InputError: a shape, an index or a scale is wrong.
    """
    options = options or AlignmentOptions()
    scales = _checked(depth, points, size, masks, fallback_scale)
    views = [
        _align_view(z, points, points.view == v, size, None if masks is None else masks[v], scales[v], options)
        for v, z in enumerate(depth)
    ]
    return _joined(views)


def _checked(
    depth: npt.NDArray[np.floating],
    points: SeenPoints,
    size: tuple[int, int],
    masks: Mask | None,
    fallback_scale: float | Array,
) -> Array:
    """The fallback scale of each view."""
    if np.ndim(depth) != 3:
        raise InputError("depth", f"shape {np.shape(depth)}", "shape (N, h, w)")
    if masks is not None and masks.shape != depth.shape:
        raise InputError("masks", f"shape {masks.shape}", f"the shape of the depth, {depth.shape}")
    if min(size) < 1:
        raise InputError("size", str(size), "height and width of the pictures")
    if len(points.view) and not 0 <= points.view.min() <= points.view.max() < len(depth):
        raise InputError("points.view", f"{points.view.min()} to {points.view.max()}", f"0 to {len(depth) - 1}")
    scales = np.asarray(fallback_scale, np.float64)
    if scales.shape not in ((), (len(depth),)) or not valid_pixels(np.atleast_1d(scales)).all():
        raise InputError("fallback_scale", str(fallback_scale), f"one positive number, or {len(depth)}")
    return np.broadcast_to(scales, (len(depth),))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Samples:
    """The points of a view that have a depth of the map: place from 0 to 1, log depth of the map, residual, sigma."""

    place: Array
    log_depth: Array
    residual: Array
    sigma: Array

    def where(self, chosen: Mask) -> _Samples:
        return _Samples(**{name: value[chosen] for name, value in vars(self).items()})


def _samples(
    depth: Array, points: SeenPoints, chosen: Mask, size: tuple[int, int], mask: Mask | None, scale: float
) -> _Samples:
    place = points.xy[chosen] / (size[1], size[0])
    row, column = (np.floor(place[:, 1 - i] * depth.shape[i]).astype(np.int64) for i in (0, 1))
    inside = (row >= 0) & (row < depth.shape[0]) & (column >= 0) & (column < depth.shape[1])
    row, column = row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)
    inside &= valid_pixels(depth, mask)[row, column]
    log_depth = np.log(np.where(inside, depth[row, column], 1.0)) + np.log(scale)
    return _Samples(
        place=place,
        log_depth=log_depth,
        residual=np.log(points.depth[chosen]) - log_depth,
        sigma=points.sigma[chosen].astype(np.float64),
    ).where(inside)


_View = tuple[Array, float, Alignment, int, float, float, float, float]


def _align_view(
    depth: npt.NDArray[np.floating],
    points: SeenPoints,
    chosen: Mask,
    size: tuple[int, int],
    mask: Mask | None,
    scale: float,
    options: AlignmentOptions,
) -> _View:
    """A row of :class:`AlignedDepth`, in the order of its attributes."""
    z = depth.astype(np.float64)
    seen = _samples(z, points, chosen, size, mask, scale)
    count = len(seen.residual)
    before = _middle(seen.residual)
    known = valid_pixels(z)
    if count < options.least_points:
        return np.where(known, z * scale, z), scale, "none", count, before, before, before, _UNKNOWN_SPREAD
    shift = _robust_mean(seen)
    scaled = _middle(seen.residual - shift)
    field, spread = _best_field(seen, options)
    if field is None:
        own = np.where(known, z * scale * np.exp(shift), z)
        return own, scale * np.exp(shift), "scale", count, before, scaled, scaled, spread
    correction = field.map(np.log(np.where(known, z, 1.0)) + np.log(scale))
    after = _middle(seen.residual - field.at(seen))
    own = np.where(known, z * scale * np.exp(correction), z)
    return own, scale * np.exp(shift), "field", count, before, scaled, after, spread


def _joined(views: Sequence[_View]) -> AlignedDepth:
    depth, scale, method, count, before, scaled, after, spread = zip(*views, strict=True)
    return AlignedDepth(
        depth=np.stack(depth).astype(np.float32),
        scale=np.array(scale),
        method=method,
        points=np.array(count),
        residual_before=np.array(before),
        residual_scaled=np.array(scaled),
        residual_after=np.array(after),
        spread=np.array(spread),
    )


def _middle(residual: Array) -> float:
    return float(np.median(np.abs(residual))) if len(residual) else float("nan")


def _noise(residual: Array) -> float:
    """Standard deviation, from the median of the sizes of residuals."""
    return max(1.4826 * _middle(residual), _FLOOR)


def _weights(residual: Array, sigma: Array) -> Array:
    """Of a reweighted least squares: inverse variance, map and point together, times that of the Cauchy loss."""
    variance = _noise(residual) ** 2 + sigma**2
    return 1 / (variance * (1 + residual**2 / (_CAUCHY**2 * variance)))


def _robust_mean(seen: _Samples) -> float:
    mean = float(np.median(seen.residual))
    for _ in range(_ROUNDS):
        weight = _weights(seen.residual - mean, seen.sigma)
        mean = float(weight @ seen.residual / weight.sum())
    return mean


def _best_field(seen: _Samples, options: AlignmentOptions) -> tuple[_Field | None, float]:
    """The best field by cross-validation, None for one scale; and the noise of what is held out."""
    fold = np.arange(len(seen.residual)) % _FOLDS
    parts = [(seen.where(fold != k), seen.where(fold == k)) for k in range(_FOLDS) if (fold == k).any()]
    plain = np.concatenate([b.residual - _robust_mean(a) for a, b in parts if len(a.residual)] or [seen.residual])
    cells = np.unique((seen.place * 4).astype(np.int64).clip(0, 3) @ [4, 1])
    if len(fold) < options.field_points or len(cells) < options.field_cells:
        return None, _noise(plain)
    noise = _noise(plain)
    best, chosen = (1 - _LEAST_GAIN) * _cauchy_loss(plain, noise), None
    for stiffness in _STIFFNESS:
        field = _Field.fitted(seen, stiffness)
        held_out = np.concatenate([b.residual - field.without(a).at(b) for a, b in parts])
        if (loss := _cauchy_loss(held_out, _noise(plain))) < best:
            best, chosen, noise = loss, field, _noise(held_out)
    return chosen, noise


def _cauchy_loss(residual: Array, noise: float) -> float:
    return float(np.log1p((residual / (_CAUCHY * noise)) ** 2).mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Field:
    """A smooth correction of log depth.

    Attributes:
        grid: values at nodes; the outer ones lie on the border of the picture.
        bend: slope against log depth.
        middle, low, high: of the log depths at the points.
        stiffness: standard deviation of the difference of neighbouring nodes, before any point is seen.
    """

    grid: Array
    bend: float
    middle: float
    low: float
    high: float
    stiffness: float

    @classmethod
    def fitted(cls, seen: _Samples, stiffness: float) -> _Field:
        low, high = np.quantile(seen.log_depth, (0.02, 0.98)).tolist()
        grid = np.full(_GRID, float(np.median(seen.residual)))
        middle = float(np.median(seen.log_depth))
        flat = cls(grid=grid, bend=0.0, middle=middle, low=low, high=high, stiffness=stiffness)
        return flat._refitted(seen, _ROUNDS)

    def without(self, most: _Samples) -> _Field:
        """The field of most of the samples, from that of all of them: few rounds find which are wrong."""
        return self._refitted(most, _FOLD_ROUNDS)

    def _refitted(self, seen: _Samples, rounds: int) -> _Field:
        """Reweighted least squares from this field on."""
        rows = np.concatenate([_hats(seen.place), (seen.log_depth - self.middle)[:, None]], 1)
        prior = _prior(self.stiffness)
        # The shift of all nodes is free; a touch on it keeps the matrix regular where a fold is nearly empty.
        start = float(np.median(self.grid))
        solution = np.append(self.grid.ravel() - start, self.bend)
        for _ in range(rounds):
            weight = _weights(seen.residual - start - rows @ solution, seen.sigma)
            normal = rows.T @ (weight[:, None] * rows) + prior
            solution = np.linalg.solve(normal, rows.T @ (weight * (seen.residual - start)))
        return replace(self, grid=solution[:-1].reshape(_GRID) + start, bend=float(solution[-1]))

    def at(self, seen: _Samples) -> Array:
        """At points."""
        return _hats(seen.place) @ self.grid.ravel() + self._bent(seen.log_depth)

    def map(self, log_depth: Array) -> Array:
        """At every pixel of a map."""
        rows, columns = ((np.arange(n) + 0.5) / n for n in log_depth.shape)
        plane = _hats_along(rows, _GRID[0]) @ self.grid @ _hats_along(columns, _GRID[1]).T
        return plane + self._bent(log_depth)

    def _bent(self, log_depth: Array) -> Array:
        return self.bend * (log_depth.clip(self.low, self.high) - self.middle)


def _hats_along(place: Array, nodes: int) -> Array:
    """Weights of linear interpolation between nodes from 0 to 1: (P, nodes)."""
    return np.maximum(1 - np.abs(place.clip(0, 1)[:, None] * (nodes - 1) - np.arange(nodes)), 0.0)


def _hats(place: Array) -> Array:
    """Weights of the nodes of the grid, row by row: (P, nodes)."""
    rows, columns = _hats_along(place[:, 1], _GRID[0]), _hats_along(place[:, 0], _GRID[1])
    return (rows[:, :, None] * columns[:, None]).reshape(len(place), -1)


def _prior(stiffness: float) -> Array:
    """Inverse covariance of the unknowns of a field before any point is seen."""
    nodes = np.arange(_GRID[0] * _GRID[1]).reshape(_GRID)
    pairs = [(nodes[1:], nodes[:-1]), (nodes[:, 1:], nodes[:, :-1])]
    ends = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in pairs])
    differences = np.zeros((len(ends), nodes.size))
    differences[np.arange(len(ends)), ends[:, 0]], differences[np.arange(len(ends)), ends[:, 1]] = 1, -1
    prior = np.zeros((nodes.size + 1, nodes.size + 1))
    prior[:-1, :-1] = differences.T @ differences / stiffness**2 + 1e-6 * np.eye(nodes.size)
    prior[-1, -1] = 1 / _BEND_SIGMA**2
    return prior
