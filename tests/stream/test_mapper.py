"""The whole back end on paths whose truth is known, with a network that errs as it is told."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.factors import PositionPrior
from depth_anything_3.stream.loops import LoopCandidate, LoopOptions
from depth_anything_3.stream.mapper import Mapper, MapperOptions
from depth_anything_3.stream.windows import Window, plan_windows
from depth_anything_3.synth.oracle import Oracle, OracleErrors, OracleWorld, make_oracle_world

pytest.importorskip("scipy.sparse")

FRAMES, LAPS = 300, 3
LAP = FRAMES // LAPS
EXACT = OracleErrors(scale_drift=0, rotation_drift_deg=0, translation_drift=0, focal=0, depth=0, outliers=0)


@pytest.fixture(scope="module", params=["ring", "eight"])
def world(request: pytest.FixtureRequest) -> OracleWorld:
    return make_oracle_world(FRAMES, path=request.param, laps=LAPS)


def _chain(oracle: Oracle, options: MapperOptions | None = None) -> Mapper:
    mapper = Mapper(options)
    for window in plan_windows(len(oracle.world), size=40, overlap=6):
        mapper.add_window(window, oracle.predict(window.frames))
    return mapper


def _add(mapper: Mapper, oracle: Oracle, first: int, second: int) -> bool:
    candidate = LoopCandidate(first=first, second=second, similarity=1.0)
    sides = mapper.loop_frames(candidate)
    return mapper.add_loop(candidate, oracle.predict(sides[0] + sides[1])).accepted


def _error_percent(mapper: Mapper, world: OracleWorld) -> float:
    return 100 * trajectory_errors(mapper.extrinsics(), world.extrinsics).rmse / world.path_length


def test_exact_windows_give_the_exact_path(world: OracleWorld) -> None:
    mapper = _chain(Oracle(world=world, errors=EXACT))
    assert _error_percent(mapper, world) < 1e-3
    unit = mapper.depth_scales() / trajectory_errors(world.extrinsics, mapper.extrinsics()).similarity.scale
    # depth_scales belong to depths in the gauge of each window; together with it they give one unit.
    starts = [w.own_start for w in plan_windows(FRAMES, size=40, overlap=6)]
    assert np.ptp(np.log(unit)) > 0.1
    assert all(np.ptp(np.log(unit[a:b])) < 1e-9 for a, b in zip(starts, [*starts[1:], FRAMES], strict=True))


def test_loops_hold_the_path_together(world: OracleWorld) -> None:
    before, after = [], []
    for seed in range(2):
        oracle = Oracle(world=world, seed=seed)
        mapper = _chain(oracle)
        before.append(_error_percent(mapper, world))
        accepted = [_add(mapper, oracle, f, f + LAP) for f in range(4, FRAMES - LAP - 8, 40)]
        assert sum(accepted) >= 3
        mapper.solve()
        after.append(_error_percent(mapper, world))
    assert max(after) <= 0.5
    assert np.mean(after) < 0.6 * np.mean(before)


def test_without_loops_the_chain_stays_to_the_bit(world: OracleWorld) -> None:
    mapper = _chain(Oracle(world=world))
    chain = mapper.extrinsics()
    result = mapper.solve()
    assert result is not None
    np.testing.assert_array_equal(mapper.extrinsics(), chain)


def test_false_loops_that_nobody_checked_do_no_harm(world: OracleWorld) -> None:
    options = MapperOptions(loops=LoopOptions(least_agreeing=0.0, least_shared=0.0))
    for seed in range(2):
        oracle = Oracle(world=world, seed=seed)
        mapper, honest = _chain(oracle, options), _chain(oracle, options)
        for f in range(4, FRAMES - LAP - 8, 30):
            assert _add(mapper, oracle, f, f + LAP)
            _add(honest, oracle, f, f + LAP)
        for f in (10, 90, 150):
            assert not oracle.shares_place(f, f + LAP // 2 + 20)
            assert _add(mapper, oracle, f, f + LAP // 2 + 20)
        honest.solve()
        mapper.solve()
        assert _error_percent(mapper, world) <= max(0.5, 1.5 * _error_percent(honest, world))


def test_repeats_are_identical() -> None:
    world = make_oracle_world(150, laps=2)
    poses = []
    for _ in range(2):
        oracle = Oracle(world=world, seed=3)
        mapper = _chain(oracle)
        _add(mapper, oracle, 20, 95)
        mapper.solve()
        poses.append(mapper.extrinsics())
    np.testing.assert_array_equal(poses[0], poses[1])


def test_windows_after_a_solve_go_on_from_there() -> None:
    world = make_oracle_world(200, laps=2)
    oracle, mapper = Oracle(world=world, seed=1), Mapper()
    windows = plan_windows(200, size=40, overlap=6)
    for window in windows[:4]:
        mapper.add_window(window, oracle.predict(window.frames))
    _add(mapper, oracle, 10, 110)
    mapper.solve(last=60)
    for window in windows[4:]:
        mapper.add_window(window, oracle.predict(window.frames))
    steps = np.linalg.norm(np.diff(mapper.nodes.translation, axis=0), axis=1)
    assert len(mapper) == 200
    assert steps.max() < 1.5 * np.median(steps)


def test_positions_move_the_world_to_theirs() -> None:
    world = make_oracle_world(120, path="line")
    oracle = Oracle(world=world)
    mapper = _chain(oracle)
    node = np.arange(0, 120, 10)
    true = camera_centres(world.extrinsics)
    mapper.solve([PositionPrior(node=node, position=true[node], sigma=np.full((len(node), 3), 0.1))])
    assert trajectory_errors(mapper.extrinsics(), world.extrinsics, alignment="none").rmse < 0.3


@pytest.mark.parametrize("frames", [1, 2, 5, 41])
def test_short_sequences(frames: int) -> None:
    world = make_oracle_world(frames, path="line")
    mapper = _chain(Oracle(world=world))
    mapper.solve()
    assert mapper.extrinsics().shape == (frames, 3, 4)
    assert np.isfinite(mapper.extrinsics()).all()


def test_one_lens_for_the_sequence(world: OracleWorld) -> None:
    found = _chain(Oracle(world=world)).intrinsics()
    assert abs(np.log(found[0, 0] / world.intrinsics[0, 0])) < 0.03


def test_windows_must_follow_each_other() -> None:
    world = make_oracle_world(20, path="line")
    oracle, mapper = Oracle(world=world), Mapper()
    with pytest.raises(InputError, match="5 frames"):
        mapper.add_window(Window(start=0, stop=6, own_start=0, own_stop=6), oracle.predict(range(5)))
    with pytest.raises(InputError, match="window"):
        mapper.add_window(Window(start=3, stop=8, own_start=4, own_stop=8), oracle.predict(range(3, 8)))
    with pytest.raises(InputError, match="frame"):
        mapper.loop_frames(LoopCandidate(first=1, second=2, similarity=1.0))
