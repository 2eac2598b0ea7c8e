"""Errors of relative poses: by hand, against loops, by law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.poses import centres, disturbed, in_another_world, random_poses, random_rotation, rotation, with_centres

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.pose import (
    angle_between_deg,
    auc,
    errors_of_pairs,
    focal_errors,
    fov_errors_deg,
    median_rotation_error_deg,
    pair_errors,
    pose_auc,
    relative_poses,
    rotation_angle_deg,
    rotation_auc,
)


def orbit(count: int) -> np.ndarray:
    """Cameras on a circle of radius 2 that look at its middle."""
    angles = np.linspace(0, 300, count)
    turns = np.stack([rotation([0, 1, 0], a) for a in angles])
    return with_centres(turns, -2 * turns[:, 2])


def test_angles_by_hand() -> None:
    for degrees in (0, 1e-6, 30, 90, 179.9999, 180):
        assert rotation_angle_deg(rotation([1, 2, 3], degrees)[None])[0] == pytest.approx(degrees, abs=1e-9)
    a = np.array([[1.0, 0, 0]])
    for b, expected in (([2, 0, 0], 0), ([0, 3, 0], 90), ([-1, 0, 0], 180), ([1, 1e-9, 0], np.degrees(1e-9))):
        assert angle_between_deg(a, np.array([b], np.float64)) == pytest.approx(expected, rel=1e-6)
    assert angle_between_deg(a, np.zeros((1, 3))) == 180
    assert angle_between_deg(a, np.array([[np.nan, 0, 0]])) == np.inf


def test_two_views_by_hand() -> None:
    true = with_centres(np.stack([np.eye(3)] * 2), np.array([[0.0, 0, 0], [1, 0, 0]]))
    predicted = with_centres(
        np.stack([np.eye(3), rotation([0, 0, 1], 7)]), np.array([[0, 0, 0], [np.cos(0.3), np.sin(0.3), 0]])
    )
    errors = pair_errors(predicted, true)
    np.testing.assert_allclose(errors.rotation_deg, [7])
    # In camera 1 the centre of camera 0 is seen along -R c.
    np.testing.assert_allclose(errors.translation_deg, [np.degrees(0.3) + 7])
    np.testing.assert_allclose(errors.pair_deg, [np.degrees(0.3) + 7])
    assert median_rotation_error_deg(predicted, true) == pytest.approx(7)


def test_the_area_by_hand() -> None:
    errors = np.array([0.5, 1.0, 2.5, 3.0, 3.1])
    # Below 1: one. Below 2: two. At most 3, the last edge: four.
    assert auc(errors, 3) == pytest.approx((1 + 2 + 4) / 5 / 3)
    assert auc(errors, 3, rule="exact") == pytest.approx((2.5 + 2 + 0.5 + 0 + 0) / 3 / 5)


@given(st.lists(st.floats(0, 180) | st.just(float("nan")), min_size=1, max_size=30), st.sampled_from([1, 3, 5, 30]))
def test_the_area_against_a_loop(errors: list[float], limit: int) -> None:
    parts = [sum(e < k or (k == limit and e == k) for e in errors) / len(errors) for k in range(1, limit + 1)]
    assert auc(np.array(errors), limit) == pytest.approx(np.mean(parts))
    steps = (np.arange(2000) + 0.5) * limit / 2000
    recall = (np.array(errors)[:, None] <= steps).mean(0)
    assert auc(np.array(errors), limit, rule="exact") == pytest.approx(recall.mean(), abs=1e-3)


@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(1e-3, 1e3))
def test_perfect_in_any_world(seed: int, count: int, scale: float) -> None:
    true = random_poses(seed, count)
    predicted = in_another_world(true, seed + 1, scale)
    assert pose_auc(predicted, true) == {5: 1, 15: 1, 30: 1}
    assert rotation_auc(predicted, true) == {5: 1, 15: 1, 30: 1}
    assert median_rotation_error_deg(predicted, true) < 1e-6


@given(st.integers(0, 10**6))
def test_the_standard_convention_does_not_see_the_world(seed: int) -> None:
    true = random_poses(seed, 5)
    predicted = disturbed(true, seed, 8, 0.2)
    before = pair_errors(predicted, true)
    after = pair_errors(in_another_world(predicted, seed + 1, 7.0), in_another_world(true, seed + 2))
    np.testing.assert_allclose(after.rotation_deg, before.rotation_deg, atol=1e-9)
    np.testing.assert_allclose(after.translation_deg, before.translation_deg, atol=1e-6)


def test_which_camera_is_first_matters_to_the_published_convention_alone() -> None:
    true = orbit(50)
    predicted = disturbed(true, 3, 1, 0.01)
    first = [np.roll(np.arange(50), -shift) for shift in range(0, 50, 5)]
    spread = {}
    for convention in ("standard", "da3"):
        values = [pose_auc(predicted[o], true[o], thresholds_deg=[3], convention=convention)[3] for o in first]  # type: ignore[arg-type]
        spread[convention] = max(values) - min(values)
    assert spread["standard"] < 0.02
    assert spread["da3"] > 0.04


def test_an_error_of_the_first_camera_enters_all_pairs_of_the_published_convention() -> None:
    """The numbers of the simulation that found it: 0.96 and 0.002 for a circle of 50 cameras."""
    true = orbit(50)
    predicted = true.copy()
    predicted[0] = rotation([1, 2, 0.5], 4) @ true[0]
    assert pose_auc(predicted, true, thresholds_deg=[3])[3] == pytest.approx(0.96, abs=0.005)
    assert pose_auc(predicted, true, thresholds_deg=[3], convention="da3")[3] < 0.1


def published_errors(predicted: np.ndarray, true: np.ndarray) -> list[float]:
    """The published definition as a loop over pairs, with quaternions replaced by the angle they give."""
    last = np.array([[0.0, 0, 0, 1]])
    p, g = ([np.concatenate([e, last]) for e in poses] for poses in (predicted, true))
    p, g = ([e @ np.linalg.inv(poses[0]) for e in poses] for poses in (p, g))
    errors = []
    for i in range(len(p)):
        for j in range(i + 1, len(p)):
            a, b = np.linalg.inv(p[i]) @ p[j], np.linalg.inv(g[i]) @ g[j]
            turn = np.degrees(np.arccos(np.clip((np.trace(a[:3, :3].T @ b[:3, :3]) - 1) / 2, -1, 1)))
            u, v = (m[:3, 3] / (np.linalg.norm(m[:3, 3]) + 1e-15) for m in (a, b))
            folded = np.degrees(np.arccos(np.sqrt(1 - max(1 - (u @ v) ** 2, 1e-15))))
            errors.append(max(turn, folded))
    return errors


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_the_published_convention_against_a_loop(seed: int, count: int) -> None:
    true, predicted = random_poses(seed, count), random_poses(seed + 1, count)
    errors = pair_errors(predicted, true, convention="da3")
    np.testing.assert_allclose(errors.pair_deg, published_errors(predicted, true), atol=1e-4)


def test_published_convention_without_motion() -> None:
    still = np.repeat(np.eye(3, 4)[None], 2, 0)
    np.testing.assert_allclose(published_errors(still, still), [90])
    np.testing.assert_allclose(pair_errors(still, still, convention="da3").pair_deg, [90])
    assert pair_errors(still, still).pair_deg == 0


@given(st.integers(0, 10**6))
def test_standard_against_a_loop(seed: int) -> None:
    true, predicted = random_poses(seed, 4), random_poses(seed + 1, 4)
    errors = pair_errors(predicted, true)
    k = 0
    for i in range(4):
        for j in range(i + 1, 4):
            u, v = (e[j, :, :3] @ (centres(e)[i] - centres(e)[j]) for e in (predicted, true))
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            assert errors.translation_deg[k] == pytest.approx(np.degrees(np.arccos(np.clip(cosine, -1, 1))), abs=1e-5)
            turn = predicted[j, :, :3] @ predicted[i, :, :3].T @ (true[j, :, :3] @ true[i, :, :3].T).T
            assert errors.rotation_deg[k] == pytest.approx(
                np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))), abs=1e-5
            )
            k += 1
    assert k == len(errors.pair_deg)


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_pairs_by_themselves_are_scored_as_poses_are(seed: int, count: int) -> None:
    true, predicted = random_poses(seed, count), random_poses(seed + 1, count)
    pairs = relative_poses(predicted)
    square = [np.vstack([pose, [0, 0, 0, 1]]) for pose in predicted]
    loop = [square[j] @ np.linalg.inv(square[i]) for i in range(count) for j in range(i + 1, count)]
    np.testing.assert_allclose(pairs, np.array(loop)[:, :3], atol=1e-9)
    one, other = errors_of_pairs(pairs, true), pair_errors(predicted, true)
    np.testing.assert_array_equal(one.rotation_deg, other.rotation_deg)
    np.testing.assert_array_equal(one.translation_deg, other.translation_deg)


def test_a_pair_that_was_not_found_is_a_miss() -> None:
    true = with_centres(np.stack([np.eye(3)] * 3), np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    pairs = relative_poses(true)
    pairs[1] = np.nan
    assert auc(errors_of_pairs(pairs, true).pair_deg, 30) == pytest.approx(2 / 3)
    assert auc(errors_of_pairs(pairs, true).rotation_deg, 30) == pytest.approx(2 / 3)
    lost = true.copy()
    lost[0] = np.nan
    assert np.isnan(relative_poses(lost)[:, 0, 0]).tolist() == [True, True, False]


def test_opposite_directions_are_an_error() -> None:
    true = with_centres(np.stack([np.eye(3)] * 2), np.array([[0.0, 0, 0], [1, 0, 0]]))
    back = with_centres(np.stack([np.eye(3)] * 2), np.array([[0.0, 0, 0], [-1, 0, 0]]))
    np.testing.assert_allclose(pair_errors(back, true).pair_deg, [180])
    np.testing.assert_allclose(pair_errors(back, true, convention="da3").pair_deg, [0], atol=1e-5)


def test_noise_makes_it_worse() -> None:
    true = orbit(10)
    levels = [pose_auc(disturbed(true, 1, d, 0.02 * d), true)[30] for d in (0, 1, 3, 10, 30)]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] == 1
    assert levels[-1] < 0.5


def test_pairs_without_a_baseline_count_by_their_rotation() -> None:
    rng = np.random.default_rng(0)
    turns = np.stack([random_rotation(rng) for _ in range(3)])
    true = with_centres(turns, np.array([[0.0, 0, 0], [0.001, 0, 0], [1, 0, 0]]))
    predicted = with_centres(turns, np.array([[0.0, 0, 0], [0, 0.001, 0], [1, 0, 0]]))
    errors = pair_errors(predicted, true)
    assert np.isnan(errors.translation_deg).tolist() == [True, False, False]
    assert errors.pair_deg[0] < 1e-5
    # Beside a scene of 1000, none of the motions is one; beside one of 0.01, all are.
    assert np.isnan(pair_errors(predicted, true, scene_size=1000).translation_deg).all()
    errors = pair_errors(predicted, true, scene_size=0.01)
    assert errors.translation_deg[0] == pytest.approx(90)
    assert pair_errors(predicted, true, min_baseline=0.0).translation_deg[0] == pytest.approx(90)


def test_no_motion_at_all() -> None:
    rng = np.random.default_rng(1)
    turns = np.stack([random_rotation(rng) for _ in range(3)])
    true = with_centres(turns, np.zeros((3, 3)))
    assert pose_auc(random_poses(2, 3) * 0 + true, true) == {5: 1, 15: 1, 30: 1}
    assert np.isnan(pair_errors(true, true).translation_deg).all()


def test_a_predicted_camera_that_never_moved_is_a_miss() -> None:
    true = orbit(2)
    still = with_centres(true[:, :, :3], np.zeros((2, 3)))
    assert pair_errors(still, true).translation_deg == 180
    assert pose_auc(still, true)[30] == 0
    assert rotation_auc(still, true)[30] == 1


@pytest.mark.parametrize("convention", ["standard", "da3"])
def test_a_pose_that_is_not_finite_is_a_miss(convention: str) -> None:
    true = random_poses(5, 4)
    predicted = true.copy()
    predicted[3] = np.nan
    assert pose_auc(predicted, true, convention=convention)[30] == 0.5  # type: ignore[arg-type]
    predicted = true.copy()
    predicted[3, :, 3] = np.inf
    assert pose_auc(predicted, true, convention=convention)[30] == 0.5  # type: ignore[arg-type]
    assert rotation_auc(predicted, true)[30] == 1
    predicted[:, 0, 0] = np.nan
    assert median_rotation_error_deg(predicted, true) == 180


def test_homogeneous_poses_are_the_same() -> None:
    true, predicted = random_poses(6, 3), random_poses(7, 3)
    last = np.broadcast_to([[0.0, 0, 0, 1]], (3, 1, 4))
    as_4x4 = pair_errors(np.concatenate([predicted, last], 1), np.concatenate([true, last], 1))
    np.testing.assert_array_equal(as_4x4.pair_deg, pair_errors(predicted, true).pair_deg)


def test_one_view_has_no_pair() -> None:
    one = random_poses(0, 1)
    assert pair_errors(one, one).pair_deg.shape == (0,)
    with pytest.raises(InputError, match="at least one pair"):
        pose_auc(one, one)
    with pytest.raises(InputError, match="two views"):
        median_rotation_error_deg(one, one)


def test_focal_and_field_of_view() -> None:
    true = np.repeat(np.array([[100.0, 0, 50], [0, 200, 40], [0, 0, 1]])[None], 2, 0)
    predicted = true.copy()
    predicted[1, 0, 0], predicted[1, 1, 1] = 110, 180
    np.testing.assert_allclose(focal_errors(predicted, true), [0, 0.1])
    fov = fov_errors_deg(predicted, true, 400, 200)
    np.testing.assert_allclose(fov[0], 0)
    np.testing.assert_allclose(fov[1, 0], 90 - 2 * np.degrees(np.arctan(100 / 110)))
    predicted[0, 0, 0] = np.nan
    assert focal_errors(predicted, true)[0] == np.inf


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    poses = random_poses(0, 3)
    with pytest.raises(InputError, match="convention"):
        pair_errors(poses, poses, convention="vggt")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not finite"):
        pair_errors(poses, poses * np.nan)
    with pytest.raises(InputError, match="max_deg"):
        auc(np.zeros(1), 0)
    with pytest.raises(InputError, match="rule"):
        auc(np.zeros(1), 5, rule="trapezoid")  # type: ignore[arg-type]


@pytest.mark.usefixtures("unchecked_shapes")
def test_wrong_shapes() -> None:
    poses = random_poses(0, 3)
    with pytest.raises(InputError, match="2 pairs"):
        errors_of_pairs(relative_poses(random_poses(0, 3))[:2], random_poses(0, 3))
    with pytest.raises(InputError, match="2 poses"):
        pair_errors(poses[:2], poses)
    with pytest.raises(InputError, match="world-to-camera"):
        pair_errors(poses[0], poses[0])
    with pytest.raises(InputError, match="matrices"):
        focal_errors(np.eye(3)[None], np.stack([np.eye(3)] * 2))
