"""Errors of depth maps: by hand, by search, by law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.depth import (
    abs_rel,
    aligned_affine,
    coverage,
    delta,
    log_rmse,
    resized_nearest,
    rmse,
    scale_and_shift,
    scale_factor,
    valid_pixels,
)

TRUE = np.array([[1.0, 2.0, 4.0, 0.0]])
PREDICTED = np.array([[1.5, 2.0, 3.0, 9.0]])
RULES = ("median", "least squares", "relative least squares")
ERRORS = (abs_rel, rmse, log_rmse, lambda p, g: 1 - delta(p, g, threshold=1.05))


def scene(seed: int, shape: tuple[int, ...] = (3, 8, 9)) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(size=shape))


def test_by_hand() -> None:
    assert abs_rel(PREDICTED, TRUE) == pytest.approx((0.5 + 0 + 0.25) / 3)
    assert rmse(PREDICTED, TRUE) == pytest.approx(np.sqrt((0.25 + 0 + 1) / 3))
    assert log_rmse(PREDICTED, TRUE) == pytest.approx(np.sqrt((np.log(1.5) ** 2 + np.log(0.75) ** 2) / 3))
    assert delta(PREDICTED, TRUE) == pytest.approx(1 / 3)
    assert delta(PREDICTED, TRUE, threshold=1.4) == pytest.approx(2 / 3)
    assert delta(PREDICTED, TRUE, threshold=1.25**3) == 1


def test_a_ratio_at_the_threshold_is_a_miss() -> None:
    assert delta(np.array([1.25, 1.0]), np.array([1.0, 1.25])) == 0


def test_the_mask_leaves_out() -> None:
    mask = np.array([[True, False, False, True]])
    assert abs_rel(PREDICTED, TRUE, mask) == pytest.approx(0.5)
    assert scale_factor(PREDICTED, TRUE, mask) == pytest.approx(1 / 1.5)
    assert valid_pixels(TRUE, mask).sum() == 1


def test_what_is_not_a_true_depth_is_not_scored() -> None:
    true = np.array([1.0, np.nan, np.inf, -1.0, 0.0])
    assert valid_pixels(true).tolist() == [True, False, False, False, False]
    assert abs_rel(np.array([2.0, 5, 5, 5, 5]), true) == 1


def test_missing_predictions_are_not_free() -> None:
    true = np.full(4, 2.0)
    predicted = np.array([2.0, np.nan, np.inf, -2.0])
    assert abs_rel(predicted, true) == pytest.approx((0 + 1 + 1 + 2) / 4)
    assert rmse(predicted, true) == pytest.approx(np.sqrt((0 + 4 + 4 + 16) / 4))
    assert delta(predicted, true) == 0.25
    assert log_rmse(predicted, true) == 0
    assert coverage(predicted, true) == 0.25
    assert log_rmse(np.zeros(4), true) == np.inf
    assert scale_factor(predicted, true) == 1


@pytest.mark.parametrize("error", ERRORS)
@given(seed=st.integers(0, 1000))
def test_perfect_is_zero_and_noise_is_worse(error: Callable[..., float], seed: int) -> None:
    true = scene(seed)
    noise = np.random.default_rng(seed + 1).choice([-1.0, 1.0], true.shape)
    levels = [error(true * np.exp(s * noise), true) for s in (0, 0.02, 0.1, 0.5)]
    assert levels[0] == 0
    assert levels == sorted(levels)
    assert levels[-1] > levels[0]


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-3, 1e3))
def test_scale_is_recovered_and_equivariant(rule: str, seed: int, factor: float) -> None:
    true = scene(seed)
    assert scale_factor(true / factor, true, rule=rule) == pytest.approx(factor)  # type: ignore[arg-type]
    predicted = true * scene(seed + 1)
    once = scale_factor(predicted, true, rule=rule)  # type: ignore[arg-type]
    assert scale_factor(predicted * factor, true, rule=rule) == pytest.approx(once / factor)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "cost"),
    [
        ("median", lambda s, p, g: np.abs(np.log(s * p / g)).mean()),
        ("least squares", lambda s, p, g: ((s * p - g) ** 2).mean()),
        ("relative least squares", lambda s, p, g: ((s * p / g - 1) ** 2).mean()),
    ],
)
def test_each_scale_minimises_what_it_says(rule: str, cost: Callable[..., float]) -> None:
    p, g = scene(1, (51,)), scene(2, (51,))
    best = scale_factor(p, g, rule=rule)  # type: ignore[arg-type]
    others = best * np.exp(np.linspace(-2, 2, 801))
    assert cost(best, p, g) <= min(cost(s, p, g) for s in others) + 1e-12


def test_the_median_forgives_and_least_squares_do_not() -> None:
    true = scene(3, (99,))
    predicted = true / 2
    predicted[:40] *= 50
    assert scale_factor(predicted, true) == pytest.approx(2)
    assert scale_factor(predicted, true, rule="least squares") < 1


@pytest.mark.parametrize("robust", [False, True])
def test_scale_and_shift_by_the_normal_equations(robust: bool) -> None:
    p = scene(4, (60,))
    assert scale_and_shift(p, 3 * p + 0.5, robust=robust) == pytest.approx((3, 0.5))
    g = scene(5, (60,))
    a, b = scale_and_shift(p, g)
    expected = np.linalg.lstsq(np.stack([p, np.ones_like(p)], -1), g, rcond=None)[0]
    np.testing.assert_allclose([a, b], expected)


def test_robust_scale_and_shift_minimises_absolute_errors() -> None:
    rng = np.random.default_rng(6)
    p = scene(6, (101,))
    g = 2 * p + 1 + rng.normal(size=101) * 0.05
    g[:25] += 20
    a, b = scale_and_shift(p, g, robust=True)

    def cost(a: float, b: float) -> float:
        return float(np.abs(a * p + b - g).sum())

    nearby = [cost(a + i * 1e-2, b + j * 1e-2) for i in range(-5, 6) for j in range(-5, 6)]
    assert cost(a, b) <= min(nearby) * (1 + 1e-6)
    assert (a, b) == pytest.approx((2, 1), abs=0.1)
    assert scale_and_shift(p, g)[1] > 2


def test_a_constant_prediction_has_no_shift() -> None:
    assert scale_and_shift(np.full(5, 2.0), np.arange(1.0, 6)) == (1.5, 0)


def test_affine_in_depth_and_in_disparity() -> None:
    true = scene(7, (6, 7))
    in_depth = 0.5 * true + 0.2
    np.testing.assert_allclose(aligned_affine(in_depth, true), true)
    disparity = 4 / true + 0.3
    np.testing.assert_allclose(aligned_affine(1 / disparity, true, space="disparity"), true)
    assert abs_rel(aligned_affine(1 / disparity, true), true) > 0.01


def test_aligned_disparity_stays_within_the_farthest_true_depth() -> None:
    true = np.array([1.0, 2.0, 4.0, 0.0])
    out = aligned_affine(np.array([1.0, 2.0, 4.0, 1e9]), true, space="disparity")
    np.testing.assert_allclose(out, [1, 2, 4, 4])
    out = aligned_affine(np.array([1.0, 2.0, 4.0, np.nan]), true, space="disparity")
    assert np.isnan(out[3])


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    with pytest.raises(InputError, match="no valid pixel"):
        abs_rel(PREDICTED, np.zeros_like(TRUE))
    with pytest.raises(InputError, match="no pixel to compare"):
        scale_factor(np.full_like(TRUE, np.nan), TRUE)
    with pytest.raises(InputError, match=r"rule.*median"):
        scale_factor(PREDICTED, TRUE, rule="mean")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="threshold"):
        delta(PREDICTED, TRUE, threshold=1)
    with pytest.raises(InputError, match="space"):
        aligned_affine(PREDICTED, TRUE, space="log")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="predicted"):
        abs_rel(PREDICTED[0], TRUE)
    with pytest.raises(InputError, match="mask"):
        rmse(PREDICTED, TRUE, TRUE[0] > 0)


def test_nearest_pixels_at_another_size() -> None:
    maps = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(resized_nearest(maps, 3, 4), maps)
    np.testing.assert_array_equal(resized_nearest(maps, 6, 8), maps.repeat(2, 1).repeat(2, 2))
    np.testing.assert_array_equal(resized_nearest(maps, 1, 2), maps[:, 1:2, [1, 3]])
    assert resized_nearest(maps > 3, 2, 2).dtype == bool
