"""Intervals over scenes: repeatable, honest in width."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.bootstrap import bootstrap_interval


def test_the_mean_of_many_normal_numbers() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = bootstrap_interval(values)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval.low < interval.estimate < interval.high
    assert interval.count == 400


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = [
        (i := bootstrap_interval(rng.exponential(size=40), level=0.8, resamples=300)).low < 1 < i.high
        for _ in range(200)
    ]
    assert 0.68 < np.mean(hits) < 0.88


def test_the_median_ignores_an_outlier() -> None:
    values = np.array([1.0, 2, 3, 4, 1000])
    assert bootstrap_interval(values, statistic="median").estimate == 3
    assert bootstrap_interval(values).estimate == 202


def test_the_same_every_time_and_nothing_global() -> None:
    values = np.random.default_rng(2).normal(size=20)
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert (np.random.get_state()[1] == state).all()  # type: ignore[union-attr]


def test_one_value_and_equal_values() -> None:
    one = bootstrap_interval(np.array([2.0]))
    assert (one.estimate, one.low, one.high, one.count) == (2, 2, 2, 1)
    same = bootstrap_interval(np.full(5, 2.0))
    assert (same.low, same.high) == (2, 2)


def test_a_higher_level_is_wider() -> None:
    values = np.random.default_rng(3).normal(size=30)
    widths = [(i := bootstrap_interval(values, level=level)).high - i.low for level in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf]])
def test_no_values(values: list[float]) -> None:
    with pytest.raises(InputError, match="values"):
        bootstrap_interval(np.array(values))


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    for arguments in ({"statistic": "mode"}, {"level": 1.0}, {"resamples": 0}):
        with pytest.raises(InputError, match=next(iter(arguments))):
            bootstrap_interval(np.ones(3), **arguments)  # type: ignore[arg-type]
