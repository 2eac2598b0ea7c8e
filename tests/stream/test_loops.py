"""Candidates, and the check that lets true loops pass and stops false ones."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.stream.loops import LoopCandidate, LoopOptions, check_loop, loop_frames, propose_loops, spread_out
from depth_anything_3.stream.windows import plan_windows
from depth_anything_3.synth.oracle import Oracle, OracleWorld, make_oracle_world


@pytest.fixture(scope="module")
def world() -> OracleWorld:
    return make_oracle_world(400, laps=2)


def _side(frame: int) -> list[int]:
    return list(range(frame, frame + 16, 2))


def test_true_loops_pass_and_false_ones_do_not(world: OracleWorld) -> None:
    true, false = [], []
    for seed in range(2):
        oracle = Oracle(world=world, seed=seed)
        for frame in (5, 60, 120):
            true.append(check_loop(oracle.predict(_side(frame) + _side(frame + 200)), 8))
            false.append(check_loop(oracle.predict(_side(frame) + _side((frame + 300) % 384)), 8))
    assert sum(check.accepted for check in true) >= 4
    assert not any(check.accepted for check in false)
    assert np.median([c.agreeing for c in true]) > 2 * np.median([c.agreeing for c in false])


def test_descriptors_lead_to_the_same_place(world: OracleWorld) -> None:
    oracle = Oracle(world=world)
    found = propose_loops(oracle.descriptors(), LoopOptions(share=1.0))
    assert len(found) >= 6
    assert all(c.second - c.first >= 100 for c in found)
    assert np.mean([oracle.shares_place(c.first, c.second) for c in found]) > 0.9
    assert max(c.first for c in found) - min(c.first for c in found) > 100


def test_candidates_are_spread_before_they_are_dense() -> None:
    pairs = [LoopCandidate(first=f, second=f + 500, similarity=1 - f / 1000) for f in range(400)]
    kept = spread_out(pairs, 1000, LoopOptions(share=0.08))
    assert len(kept) == 5
    assert np.diff(sorted(c.first for c in kept)).min() >= 60
    everything = spread_out(pairs, 1000, LoopOptions(share=10.0))
    assert np.diff(sorted(c.first for c in everything)).min() >= 25


def test_nothing_alike_means_no_candidates() -> None:
    noise = np.random.default_rng(0).normal(size=(200, 256))
    assert propose_loops(noise) == []


def test_frames_of_a_side_stay_in_the_window() -> None:
    options = LoopOptions()
    for window in plan_windows(130, size=60, overlap=8):
        for frame in range(window.own_start, window.own_stop):
            frames = loop_frames(frame, window, options)
            assert len(frames) == 8
            assert set(frames) <= set(window.frames)
    assert loop_frames(2, plan_windows(3)[0], options) == [0, 1, 2]
    assert loop_frames(0, plan_windows(1)[0], options) == [0]


def test_errors(world: OracleWorld) -> None:
    prediction = Oracle(world=world).predict(range(4))
    with pytest.raises(InputError, match="split"):
        check_loop(prediction, 4)
    with pytest.raises(InputError, match="descriptors"):
        propose_loops(np.zeros((3, 4)))
    with pytest.raises(InputError, match="counts"):
        LoopOptions(side=0)
