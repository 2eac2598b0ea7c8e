"""The learning rate of a phase."""

from __future__ import annotations

import math

import pytest

from depth_anything_3.train.schedule import learning_rate


def rate(step: int, *, warmup: int = 4) -> float:
    return learning_rate(step, steps=24, peak=2.0, warmup=warmup, final=0.5)


def test_the_warm_up_is_linear() -> None:
    assert [rate(i) for i in range(4)] == [0.5, 1.0, 1.5, 2.0]


def test_then_half_a_cosine_goes_down_to_the_final_rate() -> None:
    assert rate(4) == 2.0
    assert rate(14) == pytest.approx(1.25)
    assert rate(9) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)
    assert rate(24) == rate(1000) == 0.5
    values = [rate(i) for i in range(4, 25)]
    assert values == sorted(values, reverse=True)


def test_without_a_warm_up_it_begins_at_the_peak() -> None:
    assert rate(0, warmup=0) == 2.0
