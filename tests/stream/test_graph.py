"""The solver on small rings whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.sim3 import Sim3, sim3_exp, sim3_log
from depth_anything_3.stream.factors import GravityPrior, PosePrior, PositionPrior, Relations, ScalePrior, whitening
from depth_anything_3.stream.graph import GraphOptions, solve_graph

pytest.importorskip("scipy.sparse")

COUNT = 60
SIGMA = np.array([0.02] * 3 + [0.003] * 3 + [0.01])


def _ring(laps: float = 2.0) -> Sim3:
    angle = np.linspace(0, 2 * np.pi * laps, COUNT, endpoint=False)
    turn = np.zeros((COUNT, 7))
    turn[:, 4] = -angle
    transform = sim3_exp(turn)
    place = 10 * np.stack([np.cos(angle), 0.1 * np.sin(3 * angle), np.sin(angle)], -1)
    return Sim3(transform.rotation, place, np.ones(COUNT))


def _between(nodes: Sim3, first: np.ndarray, second: np.ndarray, noise: np.ndarray, *, doubtful: bool) -> Relations:
    return Relations(
        first=first,
        second=second,
        measured=nodes[first].inverse() @ nodes[second] @ sim3_exp(noise),
        whiten=whitening(np.broadcast_to(np.diag(SIGMA**2), (len(first), 7, 7))),
        doubtful=np.full(len(first), doubtful),
    )


def _chain(truth: Sim3, seed: int = 0) -> tuple[Relations, Sim3]:
    """Noisy steps with a bias of scale, and the drifted path that they give."""
    first = np.arange(COUNT - 1)
    noise = SIGMA * np.random.default_rng(seed).normal(size=(COUNT - 1, 7))
    noise[:, 6] += 0.01
    steps = _between(truth, first, first + 1, noise, doubtful=False)
    nodes = [truth[:1]]
    for k in range(COUNT - 1):
        nodes.append(nodes[-1] @ steps.measured[k : k + 1])
    return steps, Sim3.concatenate(nodes)


def _loops(truth: Sim3) -> Relations:
    first = np.arange(0, 30, 3)
    noise = SIGMA * np.random.default_rng(1).normal(size=(len(first), 7))
    return _between(truth, first, first + 30, noise, doubtful=True)


def _error(nodes: Sim3, truth: Sim3) -> float:
    return float(np.linalg.norm(nodes.translation - truth.translation, axis=1).max())


def test_without_loops_nothing_moves() -> None:
    steps, drifted = _chain(_ring())
    result = solve_graph(drifted, [steps])
    np.testing.assert_array_equal(result.nodes.translation, drifted.translation)
    assert result.steps == 0


def test_loops_pull_a_drifted_ring_together() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    result = solve_graph(drifted, [steps, _loops(truth)])
    gap = np.linalg.norm(result.nodes.translation[:30] - result.nodes.translation[30:], axis=1)
    assert np.linalg.norm(drifted.translation[:30] - drifted.translation[30:], axis=1).max() > 3
    assert gap.max() < 0.2
    assert (result.weights[1] > 0.5).all()
    np.testing.assert_array_equal(result.nodes.translation[0], drifted.translation[0])
    assert result.cost_after < 1e-2 * result.cost_before


def test_false_loops_do_no_harm() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    honest = solve_graph(drifted, [steps, _loops(truth)])
    rng = np.random.default_rng(2)
    wrong = _between(
        truth, np.array([2, 9, 16, 22]), np.array([20, 41, 50, 33]), rng.normal(size=(4, 7)), doubtful=True
    )
    result = solve_graph(drifted, [steps, _loops(truth), wrong])
    assert (result.weights[1] > 0.5).all()
    assert (result.weights[2] < 0.1).all()
    assert np.linalg.norm(result.nodes.translation - honest.nodes.translation, axis=1).max() < 0.02


def test_scale_off_by_two_is_found() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    half = drifted @ Sim3.scaling(np.exp(np.linspace(0, np.log(2), COUNT)))
    result = solve_graph(half, [steps, _loops(truth)], options=GraphOptions(rounds=50))
    assert _error(result.nodes, solve_graph(drifted, [steps, _loops(truth)]).nodes) < 1e-3


def test_repeats_are_identical() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    one, two = (solve_graph(drifted, [steps, _loops(truth)]).nodes for _ in range(2))
    for name in ("rotation", "translation", "scale"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_only_free_nodes_move() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    free = np.arange(COUNT) >= 25
    result = solve_graph(drifted, [steps, _loops(truth)], free=free)
    np.testing.assert_array_equal(result.nodes.translation[~free], drifted.translation[~free])
    assert result.cost_after < 0.5 * result.cost_before


def test_positions_fix_the_world_and_a_wrong_one_is_ignored() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    node = np.arange(0, COUNT, 5)
    position = truth.translation[node] + 0.05 * np.random.default_rng(4).normal(size=(len(node), 3))
    position[4] += 7
    prior = PositionPrior(node=node, position=position, sigma=np.full((len(node), 3), 0.05), wrong_possible=True)
    result = solve_graph(drifted, [steps, prior])
    assert _error(drifted, truth) > 2
    assert _error(result.nodes, truth) < 0.6
    assert (result.weights[1] < 0.1).tolist() == (np.arange(len(node)) == 4).tolist()
    assert abs(np.log(result.nodes.scale)).max() < 0.1


def test_given_poses_and_metric_scale() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    node = np.array([0, 20, 40, 59])
    known = truth[node]
    poses = PosePrior(node=node, pose=known, rotation_sigma=np.full(4, 1e-3), position_sigma=np.full(4, 1e-3))
    assert _error(solve_graph(drifted, [steps, poses]).nodes, truth) < 1.0
    scale = ScalePrior(node=node, scale=np.full(4, 3.0), sigma=np.full(4, 1e-3))
    np.testing.assert_allclose(solve_graph(drifted, [steps, scale]).nodes.scale[node], 3, rtol=1e-2)


def test_gravity_levels_the_world() -> None:
    truth = _ring()
    steps, drifted = _chain(truth)
    tilted = sim3_exp(np.array([0, 0, 0, 0.2, 0, 0.1, 0]))
    start = Sim3(tilted.rotation, np.zeros(3), np.ones(())) @ drifted
    down = np.array([0.0, 1, 0])
    seen = (truth.rotation.swapaxes(1, 2) @ down[:, None])[..., 0]
    prior = GravityPrior(node=np.arange(COUNT), down_camera=seen, down_world=down, sigma=np.full(COUNT, 1e-3))
    found = (solve_graph(start, [steps, prior]).nodes.rotation @ seen[..., None])[..., 0]
    assert np.degrees(np.arccos(np.clip(found @ down, -1, 1))).max() < 0.2


def test_errors_name_the_argument() -> None:
    steps, drifted = _chain(_ring())
    with pytest.raises(InputError, match="free"):
        solve_graph(drifted, [steps], free=np.ones(3, bool))
    with pytest.raises(InputError, match="nodes from 0 to 9"):
        solve_graph(drifted[:10], [steps])
    with pytest.raises(InputError, match="narrowing"):
        GraphOptions(narrowing=1.0)


def test_one_frame() -> None:
    alone = Sim3.identity(1)
    np.testing.assert_array_equal(sim3_log(solve_graph(alone, []).nodes), np.zeros((1, 7)))
