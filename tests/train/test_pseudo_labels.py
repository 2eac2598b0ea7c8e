"""Teacher-made labels: the fit of section 3.3, and the sensor that stands in for a real one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from depth_anything_3.datasets.procedural import RenderedScene
from depth_anything_3.train.pseudo_labels import (
    align_to_measured,
    mean_absolute_deviation,
    ransac_affine,
    simulate_sensor,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pairs(count: int = 400, outliers: float = 0.0, noise: float = 0.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x, and 3 x + 0.5 with noise and with outliers anywhere between 0 and 25."""
    g = generator(seed)
    x = 1 + 4 * torch.rand(count, generator=g)
    y = 3 * x + 0.5 + noise * torch.randn(count, generator=g)
    wild = torch.rand(count, generator=g) < outliers
    return x, torch.where(wild, 25 * torch.rand(count, generator=g), y)


@pytest.mark.parametrize(("values", "expected"), [([1.0, 2.0, 3.0, 10.0, 4.0], 2.2), ([5.0, 5.0, 5.0], 0.0)])
def test_mean_absolute_deviation_by_hand(values: list[float], expected: float) -> None:
    assert float(mean_absolute_deviation(torch.tensor(values))) == pytest.approx(expected)


def test_ransac_is_exact_without_noise() -> None:
    s, b = ransac_affine(*pairs(), generator=generator())
    assert float(s) == pytest.approx(3, rel=1e-5)
    assert float(b) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_ransac_survives_two_fifths_of_outliers(seed: int) -> None:
    x, y = pairs(2000, outliers=0.4, noise=0.05, seed=seed)
    plain = np.polyfit(x.numpy(), y.numpy(), 1)
    s, b = ransac_affine(x, y, generator=generator(seed), threshold=0.15)
    assert float(s) == pytest.approx(3, rel=0.01)
    assert float(b) == pytest.approx(0.5, abs=0.05)
    s, b = ransac_affine(x, y, generator=generator(seed))  # the paper's threshold is a wide one here
    assert abs(float(s) - 3) < 0.5 * abs(plain[0] - 3)


def test_the_threshold_is_that_of_the_paper() -> None:
    """The mean absolute deviation from the median of the residuals of a least-squares fit, worked out by numpy."""
    x, y = pairs(301, outliers=0.3, noise=0.4)
    residual = y.double().numpy() - np.polyval(np.polyfit(x.double().numpy(), y.double().numpy(), 1), x.double())
    threshold = float(np.abs(residual - np.median(residual)).mean())
    by_default = ransac_affine(x, y, generator=generator())
    assert by_default == ransac_affine(x, y, generator=generator(), threshold=threshold)
    for other in (0.8, 1.25):
        assert by_default != ransac_affine(x, y, generator=generator(), threshold=other * threshold)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (torch.arange(9.0), torch.arange(9.0)),
        (torch.arange(30.0), -torch.arange(30.0)),
        (torch.ones(30), torch.arange(30.0)),
    ],
    ids=["too few points", "a negative scale", "a flat prediction"],
)
def test_ransac_gives_up_where_there_is_no_answer(source: Tensor, target: Tensor) -> None:
    assert ransac_affine(source, target, generator=generator()) is None


def test_the_scale_stays_positive_where_most_points_say_otherwise() -> None:
    x = torch.rand(100, generator=generator())
    y = torch.where(torch.arange(100) < 70, 5 - 3 * x, 1 + 2 * x)
    fit = ransac_affine(x, y, generator=generator(), threshold=0.01)
    assert fit is not None
    assert float(fit[0]) == pytest.approx(2, rel=0.01)


def test_ransac_draws_from_its_generator_alone() -> None:
    x, y = pairs(100, outliers=0.4, noise=0.5)
    state = torch.get_rng_state()
    first, again, other = (ransac_affine(x, y, generator=generator(s), trials=2) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), state)


# Labels ----------------------------------------------------------------------------------------------------


def relative_error(depth: Tensor, truth: Tensor, where: Tensor) -> float:
    return float(((depth - truth).abs() / truth)[where].mean())


def test_labels_are_nearer_to_the_truth_than_what_was_measured(rendered: RenderedScene) -> None:
    truth = torch.from_numpy(rendered.depth[:3])
    measured = simulate_sensor(truth, np.random.default_rng(0))
    teacher = torch.stack([0.05 * truth[0] + 0.3, 7 * truth[1] - 0.2, truth[2]])
    labels, good = align_to_measured(teacher, measured, generator=generator())
    assert good.tolist() == [True, True, True]
    for label, depth, seen in zip(labels, truth, measured, strict=True):
        noise = relative_error(seen, depth, seen > 0)
        assert noise > 0.04
        assert relative_error(label, depth, label > 0) < 0.5 * noise
        assert (label > 0).float().mean() > 0.98  # dense where the sensor is sparse


def test_views_without_enough_points_have_no_labels() -> None:
    teacher = 1 + torch.rand(3, 6, 6, generator=generator())
    measured = 2 * teacher
    measured[1] = 0
    measured[2, 2:] = 0
    measured[2, 1, 3:] = 0  # nine points are left
    labels, good = align_to_measured(teacher, measured, generator=generator())
    assert good.tolist() == [True, False, False]
    torch.testing.assert_close(labels[0], measured[0])
    assert (labels[1:] == 0).all()


def test_a_label_that_would_not_be_positive_is_none() -> None:
    teacher = torch.linspace(0.1, 2, 64).view(1, 8, 8)
    measured = torch.where(teacher > 1.2, teacher - 1, 0.0)
    labels, good = align_to_measured(teacher, measured, generator=generator())
    assert bool(good[0])
    assert (labels[teacher < 0.99] == 0).all()
    torch.testing.assert_close(labels[teacher > 1.01], teacher[teacher > 1.01] - 1, rtol=0, atol=1e-4)


# The sensor ------------------------------------------------------------------------------------------------


def test_the_sensor_is_as_sparse_and_noisy_as_it_says() -> None:
    depth = 1 + torch.rand(4, 200, 200, generator=generator())
    depth[0, :50] = 0
    seen = simulate_sensor(depth, np.random.default_rng(0), density=0.3, noise=0.04, outliers=0.0)
    assert (seen[depth == 0] == 0).all()
    assert float((seen[depth > 0] > 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    error = (seen / depth)[seen > 0].log()
    assert float(error.std()) == pytest.approx(0.04, abs=0.001)
    assert float(error.mean()) == pytest.approx(0, abs=0.001)


def test_the_sensor_has_as_many_outliers_as_it_says() -> None:
    depth = torch.full((2, 200, 200), 3.0)
    seen = simulate_sensor(depth, np.random.default_rng(0), density=1.0, noise=0.0, outliers=0.1)
    ratio = seen / depth
    wild = (ratio - 1).abs() > 1e-6
    assert float(wild.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert 0.5 <= float(ratio.min()) < 0.55
    assert 1.9 < float(ratio.max()) <= 2.0


def test_the_sensor_is_a_function_of_its_generator() -> None:
    depth = 1 + torch.rand(1, 20, 20, generator=generator())
    before = depth.clone()
    first, again, other = (simulate_sensor(depth, np.random.default_rng(s)) for s in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(depth, before)
