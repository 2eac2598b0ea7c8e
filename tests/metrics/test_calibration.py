"""Honest probabilities, and the map that makes scores honest."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.calibration import expected_calibration_error, fit_monotone


def test_honest_probabilities_have_no_error_and_wrong_ones_theirs() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(100_000)
    right = rng.random(100_000) < p
    assert expected_calibration_error(p, right) < 0.01
    assert expected_calibration_error(np.full(100_000, 0.8), right) == pytest.approx(0.3, abs=0.01)
    with pytest.raises(InputError, match="outside of 0 to 1"):
        expected_calibration_error(2 * p, right)


def test_the_fit_makes_scores_honest() -> None:
    rng = np.random.default_rng(0)
    score = rng.normal(size=40_000)
    right = rng.random(40_000) < 1 / (1 + np.exp(-3 * score))
    x, y = fit_monotone(score[:20_000], right[:20_000])
    assert (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
    assert expected_calibration_error(np.interp(score[20_000:], x, y), right[20_000:]) < 0.02


def test_what_falls_is_pooled() -> None:
    score = np.repeat([1.0, 2, 3], 10)
    right = np.repeat([False, True, False], 10)
    np.testing.assert_allclose(fit_monotone(score, right, knots=3)[1], [0, 0.5, 0.5])


def test_equal_scores_get_one_share() -> None:
    score = np.append(np.zeros(900), np.ones(100))
    right = np.append(np.arange(900) % 2 == 0, np.ones(100, bool))
    x, y = fit_monotone(score, right, knots=24)
    np.testing.assert_allclose(x, [0, 1])
    np.testing.assert_allclose(y, [0.5, 1])
