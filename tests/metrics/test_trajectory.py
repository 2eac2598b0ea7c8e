"""Errors of camera paths: by hand, by search, by law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.poses import centres, disturbed, in_another_world, random_poses, random_rotation, rotation, with_centres

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.trajectory import align_by_orientations, step_errors, trajectory_errors


def line(count: int, step: float = 1.0) -> np.ndarray:
    """Cameras that move along x and look along z."""
    positions = np.zeros((count, 3))
    positions[:, 0] = np.arange(count) * step
    return with_centres(np.stack([np.eye(3)] * count), positions)


def test_by_hand() -> None:
    shifted = line(3)
    shifted[:, 1, 3] -= [0, 3, 0]
    errors = trajectory_errors(shifted, line(3), alignment="none")
    np.testing.assert_allclose(errors.distances, [0, 3, 0])
    assert errors.rmse == pytest.approx(np.sqrt(3))
    assert errors.similarity is None


@given(st.integers(0, 10**6), st.floats(1e-2, 1e2))
def test_each_alignment_removes_what_it_says(seed: int, scale: float) -> None:
    true = random_poses(seed, 6)
    rigid, similar = in_another_world(true, seed + 1), in_another_world(true, seed + 1, scale)
    assert trajectory_errors(rigid, true, alignment="se3").rmse < 1e-9
    found = trajectory_errors(similar, true)
    assert found.rmse < 1e-8
    assert found.similarity is not None
    assert found.similarity.scale == pytest.approx(1 / scale)
    assert trajectory_errors(rigid, true, alignment="none").rmse > 1e-3


def test_a_scale_is_an_error_without_a_scale() -> None:
    true = random_poses(0, 6)
    twice = in_another_world(true, 1, 2.0)
    errors = trajectory_errors(twice, true, alignment="se3")
    spread = centres(true) - centres(true).mean(0)
    assert errors.rmse == pytest.approx(np.sqrt((spread**2).sum(1).mean()))
    assert errors.similarity is not None
    assert errors.similarity.scale == 1


@pytest.mark.parametrize("alignment", ["sim3", "se3"])
def test_nothing_nearby_fits_better(alignment: str) -> None:
    true, predicted = random_poses(2, 8), disturbed(random_poses(2, 8), 3, 5, 0.3)
    errors = trajectory_errors(predicted, true, alignment=alignment)  # type: ignore[arg-type]
    assert errors.similarity is not None
    fit, rng = errors.similarity, np.random.default_rng(0)
    for _ in range(200):
        s = fit.scale * (np.exp(rng.normal() * 0.02) if alignment == "sim3" else 1)
        turn = random_rotation(rng, 2) @ fit.rotation
        moved = s * centres(predicted) @ turn.T + fit.translation + rng.normal(size=3) * 0.01
        assert np.sqrt(((moved - centres(true)) ** 2).sum(1).mean()) >= errors.rmse - 1e-12


def test_noise_makes_it_worse() -> None:
    true = random_poses(4, 20)
    levels = [trajectory_errors(disturbed(true, 1, 0, d), true).rmse for d in (0, 0.01, 0.1, 0.5)]
    assert levels == sorted(levels)
    assert levels[0] < 1e-9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_centres_on_a_line(count: int) -> None:
    true = line(count)
    errors = trajectory_errors(in_another_world(true, 0, 3.0), true)
    assert errors.rmse < 1e-9
    assert errors.similarity is not None
    assert errors.similarity.rule.startswith("orientations")
    assert trajectory_errors(in_another_world(true, 0), true, alignment="se3").rmse < 1e-9


def test_steps_by_hand() -> None:
    true = line(4)
    predicted = line(4, 1.5)
    predicted[2:] = with_centres(np.stack([rotation([0, 1, 0], 10)] * 2), centres(predicted)[2:])
    errors = step_errors(predicted, true)
    np.testing.assert_allclose(errors.rotation_deg, [0, 10, 0], atol=1e-9)
    np.testing.assert_allclose(errors.translation[:2], [0.5, 0.5])
    assert errors.rotation_rmse_deg == pytest.approx(10 / np.sqrt(3))
    np.testing.assert_allclose(step_errors(line(4, 1.5), true, step=2).translation, [1, 1])
    assert step_errors(line(4, 1.5), true, scale=1 / 1.5).translation_rmse == pytest.approx(0)


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_steps_against_the_definition(seed: int, step: int) -> None:
    true, predicted = random_poses(seed, 5), random_poses(seed + 1, 5)
    errors = step_errors(predicted, true, step=step)
    last = np.array([[0.0, 0, 0, 1]])
    p, q = ([np.linalg.inv(np.concatenate([e, last])) for e in poses] for poses in (predicted, true))
    for i in range(5 - step):
        e = np.linalg.inv(np.linalg.inv(q[i]) @ q[i + step]) @ (np.linalg.inv(p[i]) @ p[i + step])
        assert errors.translation[i] == pytest.approx(np.linalg.norm(e[:3, 3]))
        assert np.cos(np.radians(errors.rotation_deg[i])) == pytest.approx((np.trace(e[:3, :3]) - 1) / 2, abs=1e-9)


@given(st.integers(0, 10**6))
def test_steps_do_not_see_the_world(seed: int) -> None:
    true = random_poses(seed, 5)
    predicted = disturbed(true, seed, 5, 0.1)
    before, after = (step_errors(p, true) for p in (predicted, in_another_world(predicted, seed)))
    np.testing.assert_allclose(after.translation, before.translation, atol=1e-9)
    np.testing.assert_allclose(after.rotation_deg, before.rotation_deg, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(1e-2, 1e2))
def test_orientations_find_the_world(seed: int, count: int, scale: float) -> None:
    true = random_poses(seed, count)
    predicted = in_another_world(true, seed + 1, 1 / scale)
    similarity = align_by_orientations(predicted, true, scale=scale)
    np.testing.assert_allclose(similarity.on_extrinsics(predicted), true, atol=1e-7)


def test_orientations_are_not_turned_by_centres() -> None:
    true = line(5, 0.01)
    predicted = disturbed(true, 2, 0, 0.1)
    np.testing.assert_allclose(align_by_orientations(predicted, true, scale=1).rotation, np.eye(3), atol=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    poses = random_poses(0, 3)
    for step in (0, 3):
        with pytest.raises(InputError, match="step"):
            step_errors(poses, poses, step=step)
    with pytest.raises(InputError, match="alignment"):
        trajectory_errors(poses, poses, alignment="sim2")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="predicted: got poses that are not finite"):
        trajectory_errors(poses * np.nan, poses)
    with pytest.raises(InputError, match="at least one pose"):
        trajectory_errors(poses[:0], poses[:0])


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_shapes() -> None:
    poses = random_poses(0, 3)
    with pytest.raises(InputError, match="as many as"):
        trajectory_errors(poses[:2], poses)
    with pytest.raises(InputError, match="true"):
        step_errors(poses, poses[:, :2])
