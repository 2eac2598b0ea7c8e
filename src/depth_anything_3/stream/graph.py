"""The pose graph: all frames of a sequence, moved until what is known about them fits best.

    cost = sum over believed rows of |r|^2  +  sum over doubtful rows of  c^2 |r|^2 / (c^2 + |r|^2)

The doubtful rows have the kernel of Geman and McClure, under which a row that contradicts the others costs a constant
and pulls at nothing. A solver that starts from a drifted path would take every true loop for such a row; so it starts
from a kernel so wide that all rows count, and narrows it step by step (graduated non-convexity; Yang, Antonante,
Tzoumas, Carlone, "Graduated non-convexity for robust spatial perception", 2020, with the schedule of its section IV).

Each step is Levenberg-Marquardt on the manifold with a sparse factorisation. N nodes with seven numbers each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float

from depth_anything_3._optional import require
from depth_anything_3.errors import InputError
from depth_anything_3.geometry.sim3 import Sim3, sim3_exp
from depth_anything_3.stream.factors import Factor

Array = npt.NDArray[np.float64]

_LEAST_DAMPING, _MOST_DAMPING = 1e-9, 1e8
_ANCHOR = 1e-8  # of the largest number on the diagonal: holds what no absolute prior speaks about
_ROUNDS_ON_THE_WAY = 2
_ZERO_COST = 1e-18  # per row: nothing but rounding is left


@dataclass(frozen=True, kw_only=True)
class GraphOptions:
    """How the graph is solved.

    Attributes:
        cut: c, in standard deviations of a row of seven; a doubtful row beyond counts as wrong.
        rounds: the most steps for each width of the kernel.
        tolerance: relative change of the cost at which a width is done.
        narrowing: by how much the squared width of the kernel shrinks from one to the next.
    """

    cut: float = 5.0
    rounds: int = 12
    tolerance: float = 1e-6
    narrowing: float = 2.0

    def __post_init__(self) -> None:
        if not (self.cut > 0 and self.rounds >= 1 and self.tolerance >= 0):
            raise InputError("options", repr(self), "cut > 0, at least one round and a tolerance of at least 0")
        if not self.narrowing > 1:
            raise InputError("narrowing", repr(self.narrowing), "a factor above 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphResult:
    """Result of :func:`solve_graph`.

    Attributes:
        nodes: the moved nodes.
        weights: one array per factor: 1 for rows that are believed, 0 to 1 for those that were doubtful. Below 0.5 a
            row is not part of the solution.
        cost_before, cost_after: weighted sums of squares with the last weights.
        steps: that lowered the cost.
    """

    nodes: Sim3
    weights: tuple[Float[np.ndarray, " _"], ...]
    cost_before: float
    cost_after: float
    steps: int


def solve_graph(
    start: Sim3,
    factors: Sequence[Factor],
    *,
    free: Bool[np.ndarray, " n"] | None = None,
    options: GraphOptions | None = None,
) -> GraphResult:
    """Move the nodes to the least cost near the start.

    Without absolute factors the first node, or whatever is not ``free``, stays where it is to the last bit, and a graph
    whose factors agree with the start comes back as it was. With them nothing is fixed, and what they leave open stays
    near where it was.

    Args:
        start: where the search starts; (N,).
        factors: all terms.
        free: nodes that may move, for an incremental solve; None for all.
        options: None for the defaults.

    Raises:
        InputError: a factor names a node that does not exist, or ``free`` has another length.
        MissingExtraError: scipy is not installed.
    """
    options = options or GraphOptions()
    movable = _movable(start, factors, free)
    problem = _Problem(list(factors), movable, held=any(factor.absolute for factor in factors))
    weights = problem.all_believed()
    before = problem.cost(start, weights)
    if not movable.any() or before <= _ZERO_COST * problem.rows:
        return _result(problem, start, start, weights, 0)
    nodes, steps = start, 0
    width = problem.first_width(start, options.cut)
    while True:
        # A wide kernel is only on the way to the next one; its minimum need not be reached.
        rounds = options.rounds if width is None else min(options.rounds, _ROUNDS_ON_THE_WAY)
        nodes, taken = _descend(problem, nodes, weights, rounds, options.tolerance)
        steps += taken
        if width is None:
            break
        weights, done = problem.reweighted(nodes, width, options.cut), width <= 1
        if done:
            nodes, taken = _descend(problem, nodes, weights, options.rounds, options.tolerance)
            weights = problem.reweighted(nodes, 1.0, options.cut)
            steps += taken
            break
        width = max(1.0, width / options.narrowing)
    return _result(problem, start, nodes, weights, steps)


class _Problem:
    """Factors with the nodes that may move: costs, weights and normal equations."""

    def __init__(self, factors: list[Factor], movable: npt.NDArray[np.bool_], held: bool) -> None:
        self.factors, self.movable, self.held = factors, movable, held
        self.sparse = require("scipy.sparse", extra="stream")
        self.linalg = require("scipy.sparse.linalg", extra="stream")
        # Place of each free node among the unknowns; those that stay share one past the end.
        self.place = np.where(movable, np.cumsum(movable) - 1, int(movable.sum()))
        self.rows = sum(len(factor.doubtful) for factor in factors)

    def all_believed(self) -> list[Array]:
        return [np.ones(len(factor.doubtful)) for factor in self.factors]

    def squares(self, nodes: Sim3) -> list[Array]:
        return [(factor.residuals(nodes) ** 2).sum(-1) for factor in self.factors]

    def cost(self, nodes: Sim3, weights: list[Array]) -> float:
        return float(sum((w * s).sum() for w, s in zip(weights, self.squares(nodes), strict=True)))

    def first_width(self, nodes: Sim3, cut: float) -> float | None:
        """Squared width of the kernel, relative to the last one, at which every doubtful row counts; None for none."""
        doubtful = [s[f.doubtful] for s, f in zip(self.squares(nodes), self.factors, strict=True)]
        worst = max((float(s.max()) for s in doubtful if len(s)), default=None)
        return None if worst is None else max(1.0, 2 * worst / cut**2)

    def reweighted(self, nodes: Sim3, width: float, cut: float) -> list[Array]:
        wide = width * cut**2
        return [
            np.where(factor.doubtful, (wide / (wide + square)) ** 2, 1.0)
            for square, factor in zip(self.squares(nodes), self.factors, strict=True)
        ]

    def normal_equations(self, nodes: Sim3, weights: list[Array]) -> tuple[object, Array]:
        """Sparse matrix and gradient over the free nodes."""
        count = int(self.movable.sum())
        gradient = np.zeros((count + 1, 7))
        data, rows, columns = [], [], []
        for factor, weight in zip(self.factors, weights, strict=True):
            residual = factor.residuals(nodes) * weight[:, None]
            ends = list(zip(factor.touched, factor.jacobians(nodes), strict=True))
            for node, slope in ends:
                np.add.at(gradient, self.place[node], (residual[:, None] @ slope)[:, 0])
                for other, across in ends:
                    keep = self.movable[node] & self.movable[other]
                    data.append((weight[keep, None, None] * slope[keep].swapaxes(1, 2)) @ across[keep])
                    rows.append(self.place[node[keep]])
                    columns.append(self.place[other[keep]])
        matrix = self._assembled(np.concatenate(data), np.concatenate(rows), np.concatenate(columns), count)
        return matrix, gradient[:count].ravel()

    def _assembled(
        self, blocks: Array, row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], count: int
    ) -> object:
        offset = np.arange(7)
        rows = np.broadcast_to(7 * row[:, None, None] + offset[:, None], blocks.shape)
        columns = np.broadcast_to(7 * column[:, None, None] + offset, blocks.shape)
        shape = (7 * count, 7 * count)
        return self.sparse.csc_matrix((blocks.ravel(), (rows.ravel(), columns.ravel())), shape=shape)

    def step(self, equations: tuple[object, Array], damping: float) -> Array:
        """(N, 7) damped step; zero for the nodes that stay."""
        matrix, gradient = equations
        diagonal = matrix.diagonal()  # type: ignore[attr-defined]
        extra = damping * diagonal + (_ANCHOR * self._first() * diagonal.max() if self.held else 0.0)
        # A number that nothing depends on stays: its gradient is zero as well.
        extra = np.where(diagonal + extra > 0, extra, 1.0)
        damped = (matrix + self.sparse.diags(extra)).tocsc()
        solver = self.linalg.splu(
            damped, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0
        )
        step = np.zeros((len(self.movable), 7))
        step[self.movable] = -solver.solve(gradient).reshape(-1, 7)
        return step

    def _first(self) -> Array:
        first = np.zeros((int(self.movable.sum()), 7))
        first[:1] = 1
        return first.ravel()


def _movable(start: Sim3, factors: Sequence[Factor], free: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    movable = np.ones(len(start), bool) if free is None else np.array(free, bool)
    if movable.shape != (len(start),):
        raise InputError("free", f"shape {movable.shape}", f"shape ({len(start)},), one per node")
    for node in (node for factor in factors for node in factor.touched if len(node)):
        if not 0 <= node.min() <= node.max() < len(start):
            raise InputError("factors", f"nodes {node.min()} to {node.max()}", f"nodes from 0 to {len(start) - 1}")
    if movable.all() and not any(factor.absolute for factor in factors):
        movable[:1] = False
    return movable


def _descend(problem: _Problem, nodes: Sim3, weights: list[Array], rounds: int, tolerance: float) -> tuple[Sim3, int]:
    """Levenberg-Marquardt with fixed weights: damp more where a step fails, less where it works."""
    damping, cost, steps = 1e-6, problem.cost(nodes, weights), 0
    equations = problem.normal_equations(nodes, weights)
    while steps < rounds and cost > _ZERO_COST * problem.rows:
        proposal = nodes @ sim3_exp(problem.step(equations, damping))
        proposed = problem.cost(proposal, weights)
        if not proposed < cost:  # NaN too
            damping *= 10
            if damping > _MOST_DAMPING:
                break
            continue
        gain, nodes, cost, steps = cost - proposed, proposal, proposed, steps + 1
        if gain <= tolerance * (cost + gain):
            break
        damping = max(damping / 10, _LEAST_DAMPING)
        equations = problem.normal_equations(nodes, weights)
    return nodes, steps


def _result(problem: _Problem, start: Sim3, nodes: Sim3, weights: list[Array], steps: int) -> GraphResult:
    return GraphResult(
        nodes=nodes,
        weights=tuple(weights),
        cost_before=problem.cost(start, weights),
        cost_after=problem.cost(nodes, weights),
        steps=steps,
    )
