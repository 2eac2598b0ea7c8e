"""The normal equations of bundle adjustment, without the points: Schur complement, step and covariance.

See :mod:`depth_anything_3.refine.bundle` for the cost and the letters; a point is eliminated from

    [ U   W ] [ step of views  ]     [ a ]
    [ W^T V ] [ step of points ] = - [ b ]      by      (U - W V^-1 W^T) step of views = - (a - W V^-1 b).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from depth_anything_3.refine.bundle_terms import PER_VIEW, Problem, State

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_CHUNK = 512  # points whose part of W is dense at one time
_TINY = 1e-11  # of the trace of a point's block: keeps the depth of points without parallax where it is
_UNSEEN = 1e-9  # of the scaled normal matrix: an eigenvalue below it is rounding, nothing was measured


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalEquations:
    """Reweighted least squares about one state.

    Attributes:
        used: which parameters of a view are free in any, U of them.
        free: columns from the free parameters to the used ones of all views.
        u: normal matrix of the views' parameters, (U N, U N), priors included.
        a: its gradient, (U N,).
        w: normal matrix between the view and the point of each observation, (O, U, 3).
        v: of points that are observed, (Q, 3, 3).
        b: their gradient, (Q, 3).
        view: of each observation.
        row: place in ``v`` of the point of each observation; not decreasing inside a chunk.
        seen: points that are observed, in the order of ``v``.
        views, points: how many there are, N and P.
    """

    used: Indices
    free: Array
    u: Array
    a: Array
    w: Array
    v: Array
    b: Array
    view: Indices
    row: Indices
    seen: Indices
    views: int
    points: int

    @classmethod
    def of(cls, problem: Problem, state: State) -> NormalEquations:
        """Linearise at ``state``."""
        rows, every = problem.rows(state), problem.free_directions(state)
        every = every.reshape(len(state.poses), PER_VIEW, -1)
        used = np.flatnonzero(every.any((0, 2)))
        # Without any depth the third row of every observation is zero.
        known = slice(3 if np.isfinite(problem.log_depth).any() else 2)
        weight = np.sqrt(problem.robust(rows.residual)[1])[:, [0, 0, 1]][:, known]
        by_view = weight[..., None] * rows.by_view[:, known][..., used]
        by_point, residual = weight[..., None] * rows.by_point[:, known], weight * rows.residual[:, known]
        start = np.flatnonzero(np.diff(problem.point, prepend=-1))
        u, a = _of_views(problem, state, used, by_view, residual)
        turned = by_point.swapaxes(1, 2)
        return cls(
            used=used,
            free=every[:, used].reshape(len(a), every.shape[2]),
            u=u,
            a=a,
            w=by_view.swapaxes(1, 2) @ by_point,
            v=_sums(turned @ by_point, start),
            b=_sums((turned @ residual[..., None])[..., 0], start),
            view=problem.view,
            row=np.cumsum(np.diff(problem.point, prepend=-1) != 0) - 1,
            seen=problem.point[start],
            views=len(state.poses),
            points=len(state.points),
        )

    @property
    def anything_free(self) -> bool:
        """Whether there is a parameter that something depends on."""
        return bool((self.free.T @ np.diagonal(self.u) != 0).any() or self.v.any())

    def step(self, damping: float) -> tuple[Float[np.ndarray, "n 11"], Float[np.ndarray, "p 3"], float]:
        """Step of the views and of the points, and how much it is at most expected to lower the cost.

        Each parameter is damped by its own share of the normal matrix.
        """
        root, reduced, gradient = self._reduced(damping)
        u = self.free.T @ self.u @ self.free
        scale = _scale(u)
        matrix = scale[:, None] * (reduced + damping * np.diag(np.diagonal(u))) * scale
        matrix[np.diag_indices(len(scale))] += np.where(np.diagonal(u) > 0, 0.0, 1.0)
        moved = -self.free @ (scale * np.linalg.solve(matrix, scale * gradient))
        each = moved.reshape(self.views, len(self.used), 1)
        pulled = (self.w.swapaxes(1, 2) @ each[self.view])[..., 0]
        start = np.flatnonzero(np.diff(self.row, prepend=-1))
        right = (self.b + _sums(pulled, start))[..., None]
        by_point = np.zeros((self.points, 3))
        by_point[self.seen] = -(root.swapaxes(1, 2) @ (root @ right))[..., 0]
        slope = float(self.a @ moved + (self.b * by_point[self.seen]).sum())
        return self._of_views(moved[:, None])[..., 0], by_point, -slope

    def covariance_by_view(self) -> Float[np.ndarray, "n 11 11"]:
        """Of each view's parameters: zero for those that are fixed, inf on the diagonal where nothing is known."""
        _, reduced, _ = self._reduced(0.0)
        scale = _scale(self.free.T @ self.u @ self.free)
        values, vectors = np.linalg.eigh(scale[:, None] * reduced * scale)
        measured = values > _UNSEEN
        inverse = np.where(measured, 1 / np.where(measured, values, 1.0), 0.0)
        blocks = self._of_views(self.free @ (scale[:, None] * vectors))
        covariance: Array = (blocks * inverse) @ blocks.swapaxes(1, 2)
        lost = self._of_views(self.free @ np.abs(vectors[:, ~measured]))
        unknown = (np.abs(lost) > 1e-3).any(-1)
        covariance[np.broadcast_to(unknown[..., None] & np.eye(PER_VIEW, dtype=bool), covariance.shape)] = np.inf
        return covariance

    def _of_views(self, rows: Array) -> Float[np.ndarray, "n 11 x"]:
        """Rows of the used parameters (U N, X) among those of all parameters of each view, (N, 11, X)."""
        full = np.zeros((self.views, PER_VIEW, rows.shape[1]))
        full[:, self.used] = rows.reshape(self.views, len(self.used), rows.shape[1])
        return full

    def _reduced(self, damping: float) -> tuple[Array, Array, Array]:
        """Inverse triangular roots of the points' blocks (Q, 3, 3), reduced normal matrix (G, G) and gradient (G,)."""
        trace = np.trace(self.v, axis1=1, axis2=2)
        # All directions of a point by one factor: its tangents are any three, so their diagonal means nothing.
        block = (1 + damping) * (self.v + (_TINY * trace + (trace == 0))[:, None, None] * np.eye(3))
        root = _inverse_triangular(np.linalg.cholesky(block))
        white = self.w @ root[self.row].swapaxes(1, 2)
        matrix, gradient, count = self.u.copy(), self.a.copy(), len(self.used)
        solved = (root @ self.b[..., None])[..., 0]
        for begin in range(0, len(self.seen), _CHUNK):
            first, last = np.searchsorted(self.row, [begin, begin + _CHUNK])
            part = slice(int(first), int(last))
            present, local = np.unique(self.view[part], return_inverse=True)
            size = min(_CHUNK, len(self.seen) - begin)
            blocks = np.zeros((len(present), count, size, 3))
            blocks[local, :, self.row[part] - begin] = white[part]
            dense = blocks.reshape(len(present) * count, size * 3)
            index = (present[:, None] * count + np.arange(count)).ravel()
            matrix[np.ix_(index, index)] -= dense @ dense.T
            gradient[index] -= dense @ solved[begin : begin + size].ravel()
        return root, self.free.T @ matrix @ self.free, self.free.T @ gradient


def _of_views(problem: Problem, state: State, used: Indices, by_view: Array, residual: Array) -> tuple[Array, Array]:
    """U and a: observations and priors."""
    views, count = len(state.poses), len(used)
    u, a = np.zeros((views, count, views, count)), np.zeros((views, count))
    prior, slope = problem.prior_rows(state)
    order = np.argsort(problem.view, kind="stable")
    ends = np.searchsorted(problem.view[order], np.arange(views + 1))
    for view in range(views):
        mine = order[ends[view] : ends[view + 1]]
        rows = np.concatenate([by_view[mine].reshape(residual[mine].size, count), slope[view][:, used]])
        u[view, :, view] = rows.T @ rows
        a[view] = rows.T @ np.concatenate([residual[mine].ravel(), prior[view]])
    return u.reshape(a.size, a.size), a.ravel()


def _inverse_triangular(root: Array) -> Array:
    """Inverses of lower triangular matrices (Q, 3, 3); LAPACK takes ten times as long for so small ones."""
    inverse = np.zeros_like(root)
    a, b, c = 1 / np.diagonal(root, axis1=1, axis2=2).T
    d, e, f = root[:, 1, 0], root[:, 2, 0], root[:, 2, 1]
    inverse[:, 0, 0], inverse[:, 1, 1], inverse[:, 2, 2] = a, b, c
    inverse[:, 1, 0], inverse[:, 2, 1] = -a * d * b, -b * f * c
    inverse[:, 2, 0] = a * (d * b * f - e) * c
    return inverse


def _scale(matrix: Array) -> Array:
    """One over the root of the diagonal; 1 where it is zero."""
    diagonal = np.diagonal(matrix)
    return 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))


def _sums(values: Array, start: Indices) -> Array:
    """Sums of consecutive rows, from each start to the next."""
    return np.add.reduceat(values, start) if len(start) else np.zeros((0, *values.shape[1:]))
