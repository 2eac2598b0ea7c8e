"""Bundle adjustment against exact synthetic scenes, cases computed by hand, dense algebra and scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.poses import centres, disturbed, random_rotation, rotation, with_centres

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import (
    rotation_from_vector,
    vector_from_rotation,
)
from depth_anything_3.metrics.pose import angle_between_deg, pair_errors, rotation_angle_deg
from depth_anything_3.refine.bundle import BundleOptions, BundleResult, Priors, adjust_bundle
from depth_anything_3.refine.bundle_terms import PER_VIEW, Problem, State, build_problem
from depth_anything_3.refine.normal_equations import NormalEquations
from depth_anything_3.refine.reprojection import homogeneous_points, project_points
from depth_anything_3.refine.tracks import Observations

K = np.array([[500.0, 0, 320], [0, 520.0, 240], [0, 0, 1]])
LEAST_SQUARES = BundleOptions(cauchy_px=np.inf, depth_cauchy=np.inf)


def cameras(count: int, *, seed: int = 0) -> np.ndarray:
    """On an arc of 40 degrees about (0, 0, 4), not quite regular."""
    rng = np.random.default_rng(seed)
    turns = np.stack([rotation([0.1, 1, 0], a) for a in np.linspace(-20, 20, count)])
    positions = np.array([0, 0, 4.0]) - 4 * turns[:, 2] + 0.2 * rng.normal(size=(count, 3))
    return with_centres(turns, positions)


def seen(
    points: np.ndarray, poses: np.ndarray, *, noise: float = 0, share: float = 1, seed: int = 0, k1: float = 0
) -> tuple[Observations, np.ndarray]:
    """Observations of a share of all, and the depth of each."""
    rng = np.random.default_rng(seed)
    view, point = np.nonzero(rng.uniform(size=(len(poses), len(points))) < share)
    rows = homogeneous_points(points)[point]
    xy, depth, front = project_points(poses[view], np.tile(K, (len(view), 1, 1)), rows, k1)
    assert front.all()
    xy = xy + noise * rng.normal(size=xy.shape)
    return Observations(point=point, view=view, xy=xy, weight=np.ones(len(view))), depth / rows[:, 3]


def cloud(count: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform([-1, -1, 3], [1, 1, 5], (count, 3))


def lenses(count: int, factor: float | np.ndarray = 1.0) -> np.ndarray:
    found = np.tile(K, (count, 1, 1))
    found[:, :2, :2] *= np.broadcast_to(factor, count)[:, None, None]
    return found


def shaken(poses: np.ndarray, *, degrees: float = 3, distance: float = 0.1, seed: int = 3) -> np.ndarray:
    """All but the first."""
    return np.concatenate([poses[:1], disturbed(poses, seed, degrees, distance)[1:]])


def worst(result: BundleResult, poses: np.ndarray) -> float:
    """Largest error of the rotation and the direction of any pair of views, in degrees."""
    return float(pair_errors(result.extrinsics, poses).pair_deg.max())


def no_observations() -> Observations:
    return Observations(point=np.zeros(0, int), view=np.zeros(0, int), xy=np.zeros((0, 2)), weight=np.zeros(0))


# What it recovers


@pytest.mark.parametrize("focal", ["shared", "per view"])
def test_exact_observations_give_exact_cameras_from_a_focal_length_15_percent_wrong(focal: str) -> None:
    poses, points = cameras(6), cloud()
    observations, _ = seen(points, poses, share=0.8)
    often = np.bincount(observations.point, minlength=40) > 1
    start = points + 0.05 * np.random.default_rng(2).normal(size=points.shape)
    result = adjust_bundle(
        observations, shaken(poses), lenses(6, 1.15), start, options=BundleOptions(focal=focal, rounds=100)
    )
    assert worst(result, poses) < 1e-6
    np.testing.assert_allclose(result.intrinsics, lenses(6), rtol=1e-6)
    assert result.errors_px.max() < 1e-6
    assert result.report.stopped == "converged"
    scale = np.linalg.norm(centres(result.extrinsics)[-1] - centres(poses)[0]) / np.linalg.norm(
        centres(poses)[-1] - centres(poses)[0]
    )
    np.testing.assert_allclose(
        (result.places - centres(poses)[0])[often], scale * (points - centres(poses)[0])[often], atol=1e-6
    )


def test_distortion() -> None:
    poses, points = cameras(6), cloud(60)
    observations, _ = seen(points, poses, k1=-0.15)
    options = BundleOptions(distortion=True, rounds=100)
    result = adjust_bundle(observations, shaken(poses), lenses(6, 1.05), points, options=options)
    assert result.distortion == pytest.approx(-0.15, abs=1e-6)
    assert worst(result, poses) < 1e-6
    straight = adjust_bundle(observations, shaken(poses), lenses(6, 1.05), points)
    assert straight.distortion == 0
    assert straight.errors_px.max() > 0.1
    np.testing.assert_array_equal(
        adjust_bundle(observations, poses, lenses(6), points, distortion=-0.15).errors_px < 1e-6, True
    )


def test_errors_are_as_large_as_predicted() -> None:
    """Over many draws of the noise, squared errors over predicted variances average one."""
    poses, points = cameras(5), cloud(25)
    ratios, focal = [], []
    for seed in range(30):
        observations, _ = seen(points, poses, noise=0.5, seed=seed)
        options = replace(LEAST_SQUARES, noise_px=0.5)
        result = adjust_bundle(observations, poses, lenses(5), points, options=options)
        off = centres(result.extrinsics) - centres(poses)
        turn = vector_from_rotation(result.extrinsics[..., :3] @ poses[..., :3].swapaxes(1, 2))
        kept = result.report.fixed_scale[0]
        free = [v for v in range(1, 5) if v != kept]
        ratios.append([(off[free] / result.centre_sigma[free]) ** 2, (turn[free] / result.rotation_sigma[free]) ** 2])
        focal.append(np.log(result.intrinsics[0, 0, 0] / 500) / result.focal_sigma[0])
        assert result.centre_sigma[0].max() == result.rotation_sigma[0].max() == 0
        assert result.report.noise_px == pytest.approx(0.5, rel=0.35)
    by_kind = np.mean(ratios, axis=(0, 2))  # centre and rotation, three axes
    assert (by_kind > 0.6).all()
    assert (by_kind < 1.6).all()
    assert 0.5 < np.mean(np.square(focal)) < 1.8


def test_a_third_of_the_observations_wrong() -> None:
    poses, points = cameras(6), cloud(80)
    observations, _ = seen(points, poses, noise=0.3)
    rng = np.random.default_rng(5)
    wild = rng.uniform(size=len(observations.view)) < 0.3
    xy = np.where(wild[:, None], rng.uniform([0, 0], [640, 480], observations.xy.shape), observations.xy)
    wrong = replace(observations, xy=xy)
    start = shaken(poses, degrees=0.5, distance=0.03)
    options = BundleOptions(noise_px=0.5, rounds=100)
    result = adjust_bundle(wrong, start, lenses(6, 1.03), points, options=options)
    assert worst(result, poses) < 1.0
    assert abs(result.intrinsics[0, 0, 0] / 500 - 1) < 0.01
    assert np.median(result.errors_px[~wild]) < 0.6
    assert np.median(result.errors_px[wild]) > 50
    naive = adjust_bundle(wrong, start, lenses(6, 1.03), points, options=LEAST_SQUARES)
    assert worst(naive, poses) > 2 * worst(result, poses)


def test_weights_of_zero_leave_observations_out() -> None:
    poses, points = cameras(4), cloud()
    observations, _ = seen(points, poses)
    wild = np.arange(len(observations.view)) % 3 == 0
    wrong = replace(observations, xy=observations.xy + 50.0 * wild[:, None], weight=1.0 - wild)
    result = adjust_bundle(wrong, shaken(poses), lenses(4), points, options=replace(LEAST_SQUARES, focal="fixed"))
    assert worst(result, poses) < 1e-6
    np.testing.assert_allclose(result.errors_px[wild], 50 * np.sqrt(2), rtol=1e-5)
    assert result.view_rms_px.max() < 1e-6
    assert result.point_rms_px.max() < 1e-6


# Priors


def test_focal_priors_alone_give_their_weighted_mean() -> None:
    sigma = np.array([0.1, 0.2, 0.05])
    given = np.array([400.0, 500.0, 700.0])
    priors = Priors(focal_px=given, focal_sigma=sigma)
    start = np.tile(np.eye(3, 4), (3, 1, 1))
    result = adjust_bundle(no_observations(), start, lenses(3), np.zeros((0, 3)), priors=priors)
    share = sigma**-2 / (sigma**-2).sum()
    assert result.intrinsics[1, 0, 0] == pytest.approx(np.exp(share @ np.log(given)), rel=1e-9)
    assert result.intrinsics[1, 1, 1] / result.intrinsics[1, 0, 0] == pytest.approx(520 / 500)
    assert result.focal_sigma[0] == pytest.approx(np.sqrt(3 / (sigma**-2).sum()))  # N values, one measurement
    each = adjust_bundle(
        no_observations(), start, lenses(3), np.zeros((0, 3)), priors=priors, options=BundleOptions(focal="per view")
    )
    np.testing.assert_allclose(each.intrinsics[:, 0, 0], given, rtol=1e-9)
    np.testing.assert_allclose(each.focal_sigma, sigma, rtol=1e-9)
    fixed = adjust_bundle(
        no_observations(), start, lenses(3), np.zeros((0, 3)), priors=priors, options=BundleOptions(focal="fixed")
    )
    np.testing.assert_array_equal(fixed.intrinsics, lenses(3))
    assert not fixed.focal_sigma.any()


def test_a_rotation_prior_pulls_as_its_sigma_says() -> None:
    """A far point straight ahead, in view 1 a pixels to the left: measured with variance 2 noise^2 / f^2."""
    turned, noise, sigma = 1e-4, 0.5, 2e-3
    xy = np.array([[320.0, 240.0], [320 - 500 * np.tan(turned), 240.0]])
    observations = Observations(point=np.zeros(2, int), view=np.arange(2), xy=xy, weight=np.ones(2))
    poses = np.tile(np.eye(3, 4), (2, 1, 1))
    priors = Priors(rotation=poses[:, :, :3], rotation_sigma=np.array([np.inf, sigma]))
    options = replace(LEAST_SQUARES, focal="fixed", noise_px=noise)
    far = np.array([[0, 0, 1.0, 0]])
    result = adjust_bundle(observations, poses, lenses(2), far, priors=priors, options=options)
    vector = vector_from_rotation(result.extrinsics[1, :, :3])
    measured = 2 * noise**2 / 500**2
    np.testing.assert_allclose(vector, [0, -turned * sigma**2 / (sigma**2 + measured), 0], rtol=1e-6, atol=1e-12)
    assert result.rotation_sigma[1, 1] == pytest.approx((sigma**-2 + 1 / measured) ** -0.5, rel=1e-6)
    assert result.rotation_sigma[1, 2] == pytest.approx(sigma, rel=1e-6)  # a point on the axis says nothing of roll
    np.testing.assert_array_equal(result.extrinsics[..., 3], 0)


def test_depth_priors_meet_as_their_sigmas_say() -> None:
    """Two cameras in one place see one point: only the depths speak of its distance."""
    xy = np.tile(np.array([[320.0, 240.0]]), (2, 1))
    observations = Observations(point=np.zeros(2, int), view=np.arange(2), xy=xy, weight=np.ones(2))
    poses = np.tile(np.eye(3, 4), (2, 1, 1))
    held = Priors(
        rotation=poses[:, :, :3],
        rotation_sigma=1e-7,
        centre=np.zeros((2, 3)),
        centre_sigma=1e-7,
        depth=np.array([2.0, 3.0]),
        depth_sigma=np.array([0.1, 0.2]),
        scale_sigma=0.0,
    )
    options = replace(LEAST_SQUARES, focal="fixed", rounds=200)
    start = np.array([[0, 0, 2.4]])
    result = adjust_bundle(observations, poses, lenses(2), start, priors=held, options=options)
    assert result.places[0, 2] == pytest.approx(np.exp((100 * np.log(2) + 25 * np.log(3)) / 125), rel=1e-5)
    assert not result.log_scale.any()
    loose = replace(held, scale_sigma=np.array([0.3, 0.4]))
    result = adjust_bundle(observations, poses, lenses(2), start, priors=loose, options=options)
    a, b = 1 / (0.01 + 0.09), 1 / (0.04 + 0.16)
    log_z = (a * np.log(2) + b * np.log(3)) / (a + b)
    assert result.places[0, 2] == pytest.approx(np.exp(log_z), rel=1e-5)
    share = np.array([0.09 / 0.10, 0.16 / 0.20])  # of each difference that the scale takes
    np.testing.assert_allclose(result.log_scale, share * (log_z - np.log([2, 3])), rtol=1e-4)


def test_depth_gives_the_scale_and_each_view_its_factor() -> None:
    poses, points = cameras(4), cloud()
    observations, depth = seen(points, poses)
    factor = np.array([1.0, 1.1, 0.9, 1.05])
    priors = Priors(depth=depth / factor[observations.view], depth_sigma=0.02, scale_sigma=0.5)
    small = with_centres(
        shaken(poses)[:, :, :3], 0.5 * (centres(shaken(poses)) - centres(poses)[0]) + centres(poses)[0]
    )
    result = adjust_bundle(observations, small, lenses(4), points, priors=priors, options=BundleOptions(rounds=200))
    assert result.report.fixed_scale == (-1,)
    between = result.log_scale - np.log(factor)
    np.testing.assert_allclose(between, between[0], atol=1e-5)  # one scale of the scene is left to the priors
    assert between[0] == pytest.approx(-np.log(factor).mean(), abs=1e-5)
    assert worst(result, poses) < 1e-3  # factors are pulled together by what the priors weigh against the depths


def test_wrong_depths_are_outvoted() -> None:
    poses, points = cameras(4), cloud()
    observations, depth = seen(points, poses)
    wild = np.random.default_rng(0).uniform(size=len(depth)) < 0.2
    priors = Priors(depth=np.where(wild, 3 * depth, depth), depth_sigma=0.02, scale_sigma=0.1)
    result = adjust_bundle(observations, shaken(poses), lenses(4), points, priors=priors)
    assert np.abs(centres(result.extrinsics) - centres(poses)).max() < 0.02
    unknown = replace(priors, depth=np.where(wild, np.nan, depth))
    result = adjust_bundle(observations, shaken(poses), lenses(4), points, priors=unknown)
    assert np.abs(centres(result.extrinsics) - centres(poses)).max() < 1e-5


def test_wrong_rotations_are_outvoted() -> None:
    poses, points = cameras(6), cloud(60)
    observations, _ = seen(points, poses, noise=0.5)
    wrong = shaken(poses, degrees=5)
    priors = Priors(rotation=wrong[:, :, :3], rotation_sigma=np.radians(5))
    result = adjust_bundle(observations, wrong, lenses(6), points, priors=priors)
    assert pair_errors(result.extrinsics, poses).rotation_deg.max() < 0.4


# What is left free


def test_the_first_pose_and_one_distance_are_kept() -> None:
    poses, points = cameras(5), cloud()
    observations, _ = seen(points, poses, noise=0.5)
    start = shaken(poses)
    result = adjust_bundle(observations, start, lenses(5), points)
    np.testing.assert_allclose(result.extrinsics[0], start[0], atol=1e-12)
    (kept,) = result.report.fixed_scale
    before, after = centres(start), centres(result.extrinsics)
    assert np.linalg.norm(after[kept] - after[0]) == pytest.approx(np.linalg.norm(before[kept] - before[0]), rel=1e-9)


def test_the_result_does_not_depend_on_the_world() -> None:
    poses, points = cameras(5), cloud()
    observations, depth = seen(points, poses, noise=0.5)
    start = shaken(poses)
    turn, shift, scale = random_rotation(np.random.default_rng(1)), np.array([3.0, -5, 9]), 7.0
    moved = with_centres(start[:, :, :3] @ turn.T, scale * centres(start) @ turn.T + shift)
    away = scale * points @ turn.T + shift
    for priors, there in ((Priors(), Priors()), (Priors(depth=depth, depth_sigma=0.1), None)):
        there = there or Priors(depth=scale * depth, depth_sigma=0.1)
        options = BundleOptions(rounds=200, tolerance=1e-14)
        here = adjust_bundle(observations, start, lenses(5), points, priors=priors, options=options)
        found = adjust_bundle(observations, moved, lenses(5), away, priors=there, options=options)
        np.testing.assert_allclose(found.extrinsics[:, :, :3] @ turn, here.extrinsics[:, :, :3], atol=1e-6)
        expected = scale * centres(here.extrinsics) @ turn.T + shift
        np.testing.assert_allclose(centres(found.extrinsics), expected, atol=1e-4)
        np.testing.assert_allclose(found.rotation_sigma, here.rotation_sigma, rtol=1e-3, atol=1e-9)
        if there.depth is None:
            spread = np.linalg.norm(found.centre_sigma, axis=1)
            np.testing.assert_allclose(spread, scale * np.linalg.norm(here.centre_sigma, axis=1), rtol=1e-3, atol=1e-9)


def test_groups_that_share_nothing_are_refined_each_on_its_own() -> None:
    poses, points = cameras(6), cloud(60)
    observations, _ = seen(points, poses)
    apart = observations.where((observations.point < 30) == (observations.view < 3))
    start = shaken(poses)
    result = adjust_bundle(apart, start, lenses(6), points, options=BundleOptions(focal="fixed", rounds=100))
    assert result.report.groups == ((0, 1, 2), (3, 4, 5))
    assert -1 not in result.report.fixed_scale
    np.testing.assert_allclose(result.extrinsics[3], start[3], atol=1e-12)
    for group in ([0, 1, 2], [3, 4, 5]):
        assert pair_errors(result.extrinsics[group], poses[group]).pair_deg.max() < 1e-5


def test_views_without_observations_stay_or_go_where_the_prior_says() -> None:
    poses, points = cameras(5), cloud()
    observations, _ = seen(points, poses)
    some = observations.where(observations.view < 3)
    start = shaken(poses)
    alone = adjust_bundle(some, start, lenses(5), points, options=BundleOptions(rounds=100))
    np.testing.assert_allclose(alone.extrinsics[3:], start[3:], atol=1e-12)
    assert pair_errors(alone.extrinsics[:3], poses[:3]).pair_deg.max() < 1e-5
    assert np.isnan(alone.view_rms_px[3:]).all()
    assert np.isinf(alone.rotation_sigma[3:]).all()
    assert np.isinf(alone.centre_sigma[3:]).all()
    sigma = np.array([np.inf, np.inf, np.inf, 0.1, 0.2])
    priors = Priors(rotation=poses[:, :, :3], rotation_sigma=sigma, centre=centres(poses), centre_sigma=sigma)
    held = adjust_bundle(some, start, lenses(5), points, priors=priors, options=BundleOptions(rounds=100))
    np.testing.assert_allclose(held.extrinsics[3:], poses[3:], atol=1e-6)
    np.testing.assert_allclose(held.rotation_sigma[3:], [[0.1] * 3, [0.2] * 3], rtol=1e-6)
    np.testing.assert_allclose(held.centre_sigma[3:], [[0.1] * 3, [0.2] * 3], rtol=1e-6)


def test_no_observations_at_all() -> None:
    poses = cameras(3)
    result = adjust_bundle(no_observations(), poses, lenses(3), np.zeros((0, 3)))
    np.testing.assert_allclose(result.extrinsics, poses, atol=1e-12)
    np.testing.assert_array_equal(result.intrinsics, lenses(3))
    assert result.report.stopped == "nothing to refine"
    assert result.report.rounds == 0
    assert np.isinf(result.focal_sigma).all()
    assert np.isnan(result.report.noise_px)


def test_one_view_keeps_its_pose_and_its_focal_length() -> None:
    points = cloud(10)
    observations, depth = seen(points, cameras(1))
    start = points + 0.1
    priors = Priors(depth=depth, depth_sigma=0.05, scale_sigma=0.0)
    free = adjust_bundle(observations, cameras(1), lenses(1), start, priors=priors)
    assert free.errors_px.max() < 1e-6
    np.testing.assert_allclose(free.extrinsics, cameras(1), atol=1e-12)
    assert np.isinf(free.focal_sigma[0])
    said = replace(priors, focal_px=np.array([500.0]), focal_sigma=0.1)
    result = adjust_bundle(observations, cameras(1), lenses(1, 1.1), start, priors=said)
    np.testing.assert_allclose(result.places, points, atol=1e-6)
    assert result.intrinsics[0, 0, 0] == pytest.approx(500)
    assert result.focal_sigma[0] == pytest.approx(0.1, rel=1e-6)


def test_two_views() -> None:
    poses, points = cameras(2), cloud(20)
    observations, _ = seen(points, poses)
    result = adjust_bundle(observations, shaken(poses), lenses(2), points, options=BundleOptions(focal="fixed"))
    assert worst(result, poses) < 1e-6
    np.testing.assert_array_equal(result.centre_sigma[0], 0)
    assert (result.centre_sigma[1] > 0).any()


def test_cameras_on_a_line() -> None:
    points = cloud(50)
    poses = with_centres(np.tile(np.eye(3), (5, 1, 1)), np.linspace([-0.5, 0, 0], [0.5, 0, 0], 5))
    observations, _ = seen(points, poses, noise=0.3)
    result = adjust_bundle(observations, shaken(poses), lenses(5), points, options=BundleOptions(focal="fixed"))
    assert worst(result, poses) < 1.5
    along = centres(result.extrinsics)[1:] - centres(result.extrinsics)[0]
    assert angle_between_deg(along, np.broadcast_to(along[-1], along.shape)).max() < 1.5


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_rotation_only(moved: float) -> None:
    """No parallax: rotations are found, points go to infinity where the first guess had the cameras apart."""
    turns = np.stack([rotation([0.1, 1, 0], a) for a in (0, 6, -5, 9)])
    poses = with_centres(turns, np.zeros((4, 3)))
    points = cloud(60) * 2
    observations, depth = seen(points, poses, noise=0.3)
    start = shaken(poses, degrees=2, distance=moved)
    options = BundleOptions(focal="fixed", rounds=100)
    result = adjust_bundle(observations, start, lenses(4), points, options=options)
    assert rotation_angle_deg(result.extrinsics[..., :3] @ turns.swapaxes(1, 2)).max() < 0.3
    assert np.isfinite(result.extrinsics).all()
    assert np.isfinite(result.points).all()
    assert np.median(result.errors_px) < 0.5
    if moved:
        assert np.median(result.points[:, 3]) < 0.02  # 7 times as far as they are
    # Depth says how far they are, and with that how little the cameras moved.
    priors = Priors(depth=depth, depth_sigma=0.1, scale_sigma=0.1)
    result = adjust_bundle(observations, start, lenses(4), points, priors=priors, options=options)
    off = centres(result.extrinsics)[1:]
    assert np.abs(off).max() < 0.05
    assert (np.abs(off) < 4 * result.centre_sigma[1:]).all()


def test_a_start_behind_a_camera_breaks_nothing() -> None:
    poses, points = cameras(5), cloud(50)
    observations, _ = seen(points, poses)
    start = points.copy()
    start[:3] *= -1
    result = adjust_bundle(observations, shaken(poses), lenses(5), start, options=BundleOptions(rounds=100))
    assert worst(result, poses) < 0.1
    assert np.isinf(result.point_rms_px[:3]).all()
    assert result.point_rms_px[3:].max() < 0.1


# Algebra


@pytest.mark.parametrize("shift", [(0.0, 0.0), (-9.0, 16.0)])
def test_the_principal_point(shift: tuple[float, float]) -> None:
    """Found where cameras turn about all axes; where there is nothing to find, it stays."""
    turned = rotation_from_vector(np.array([0.0, 0.6, -0.9, 1.5, 0.3, -0.4])[:, None] * np.eye(3)[2])
    poses = turned @ cameras(6)
    observations, _ = seen(cloud(80), poses, noise=0.2)
    moved = replace(observations, xy=observations.xy + shift)
    priors = Priors(middle_px=np.tile(K[:2, 2], (6, 1)), middle_sigma=15.0)
    options = BundleOptions(middle=True, noise_px=0.2, cauchy_px=1.0)
    start = shaken(poses)
    result = adjust_bundle(moved, start, lenses(6, 1.05), cloud(80), priors=priors, options=options)
    np.testing.assert_allclose(result.intrinsics[:, :2, 2] - K[:2, 2], np.tile(shift, (6, 1)), atol=0.5)
    np.testing.assert_array_equal(adjust_bundle(moved, start, lenses(6), cloud(80)).intrinsics[0, :2, 2], K[:2, 2])


def test_a_principal_point_that_nothing_tells_stays_at_its_prior() -> None:
    """Without observations the N values count as one measurement."""
    none = np.zeros(0, np.int64)
    empty = Observations(point=none, view=none, xy=np.zeros((0, 2)), weight=np.zeros(0))
    said = np.array([[310.0, 250], [314, 246]])
    priors = Priors(middle_px=said, middle_sigma=10.0)
    result = adjust_bundle(
        empty, cameras(2), lenses(2), np.zeros((0, 3)), priors=priors, options=BundleOptions(middle=True)
    )
    np.testing.assert_allclose(result.intrinsics[:, :2, 2], np.tile([312.0, 248], (2, 1)), atol=1e-6)


def problem_of_everything() -> tuple[Problem, State]:
    """Every kind of term, with noise, not at the optimum."""
    poses, points = cameras(4), cloud(12)
    observations, depth = seen(points, poses, noise=0.5, share=0.8)
    depth[::5] = np.nan
    priors = Priors(
        rotation=disturbed(poses, 5, 10, 0)[:, :, :3],
        rotation_sigma=0.1,
        centre=centres(poses) + 0.1,
        centre_sigma=np.array([0.1, np.inf, 0.2, 0.3]),
        focal_px=np.array([480.0, 490, 500, 510]),
        focal_sigma=0.1,
        middle_px=np.array([[318.0, 243], [322, 239], [321, 240], [300, 250]]),
        middle_sigma=5.0,
        depth=depth,
        depth_sigma=0.1,
        scale_sigma=0.2,
    )
    pose, lens = disturbed(poses, 1, 1, 0.02), lenses(4, np.array([1, 1.05, 0.9, 1.1]))
    start = State(
        poses=pose,
        lenses=lens,
        distortion=0.1,
        points=homogeneous_points(points),
        log_scale=np.array([0, 0.1, -0.1, 0.05]),
    )
    options = BundleOptions(focal="per view", distortion=True, middle=True)
    return build_problem(observations, start, priors, options), start


def test_derivatives_of_observations_and_priors() -> None:
    problem, state = problem_of_everything()
    rows = problem.rows(state)
    np.testing.assert_allclose(rows.residual, problem.residuals(state), atol=1e-12)
    _, slope = problem.prior_rows(state)
    rng = np.random.default_rng(0)
    for _ in range(5):
        by_view, by_point = rng.normal(size=(4, PER_VIEW)), rng.normal(size=(12, 3))
        by_view[:, 7] = by_view[0, 7]
        ahead, back = (state.moved(h * by_view, h * by_point) for h in (1e-6, -1e-6))
        measured = (problem.residuals(ahead) - problem.residuals(back)) / 2e-6
        expected = (
            rows.by_view @ by_view[problem.view][..., None] + rows.by_point @ by_point[problem.point][..., None]
        )[..., 0]
        np.testing.assert_allclose(measured, expected, rtol=1e-5, atol=1e-4)
        measured = (problem.prior_rows(ahead)[0] - problem.prior_rows(back)[0]) / 2e-6
        np.testing.assert_allclose(measured, (slope @ by_view[..., None])[..., 0], rtol=1e-6, atol=1e-6)


def test_the_gradient_of_the_cost() -> None:
    """Reweighted rows have the gradient of the robust cost."""
    problem, state = problem_of_everything()
    equations = NormalEquations.of(problem, state)
    rng = np.random.default_rng(0)
    for _ in range(5):
        by_view, by_point = (equations.free @ rng.normal(size=equations.free.shape[1])), rng.normal(size=(12, 3))
        ahead, back = (state.moved(h * by_view.reshape(4, -1), h * by_point) for h in (1e-6, -1e-6))
        slope = equations.a @ by_view + (equations.b * by_point[equations.seen]).sum()
        assert (problem.cost(ahead) - problem.cost(back)) / 2e-6 == pytest.approx(slope, rel=1e-5)


def dense(problem: Problem, state: State) -> tuple[np.ndarray, np.ndarray, NormalEquations]:
    """Normal matrix and gradient over free parameters and points, from the whole Jacobian."""
    rows, equations = problem.rows(state), NormalEquations.of(problem, state)
    weight = np.sqrt(problem.robust(rows.residual)[1])[:, [0, 0, 1]]
    views, points = len(state.poses), len(state.points)
    jacobian = np.zeros((len(problem.view), 3, views * PER_VIEW + 3 * points))
    for o, (view, point) in enumerate(zip(problem.view, problem.point, strict=True)):
        jacobian[o, :, view * PER_VIEW : (view + 1) * PER_VIEW] = weight[o, :, None] * rows.by_view[o]
        begin = views * PER_VIEW + 3 * point
        jacobian[o, :, begin : begin + 3] = weight[o, :, None] * rows.by_point[o]
    prior, slope = problem.prior_rows(state)
    below = np.zeros((views, prior.shape[1], jacobian.shape[2]))
    for view in range(views):
        below[view, :, view * PER_VIEW : (view + 1) * PER_VIEW] = slope[view]
    whole = np.concatenate([jacobian.reshape(-1, jacobian.shape[2]), below.reshape(-1, jacobian.shape[2])])
    residual = np.concatenate([(weight * rows.residual).ravel(), prior.ravel()])
    free = problem.free_directions(state)
    columns = np.zeros((whole.shape[1], free.shape[1] + 3 * points))
    columns[: views * PER_VIEW, : free.shape[1]] = free
    columns[views * PER_VIEW :, free.shape[1] :] = np.eye(3 * points)
    reduced = whole @ columns
    return reduced.T @ reduced, reduced.T @ residual, equations


@pytest.mark.parametrize("kept", [False, True])
def test_the_schur_complement_solves_the_whole_system(kept: bool) -> None:
    problem, state = problem_of_everything()
    if kept:  # without depths and centres a distance is kept
        gauge = replace(problem.gauge, kept=(3,))
        nothing = np.full(len(problem.view), np.nan)
        problem = replace(problem, gauge=gauge, log_depth=nothing, free_scale=np.zeros(4, bool))
    normal, gradient, equations = dense(problem, state)
    columns = problem.free_directions(state)
    free = columns.shape[1]
    assert free == 3 * 6 + 4 + 1 + 2 + (-1 if kept else 4)
    damped = normal.copy()
    damped[:free, :free] += 1e-3 * np.diag(np.diagonal(normal)[:free])
    damped[free:, free:] *= 1 + 1e-3
    expected = np.linalg.solve(damped, -gradient)
    by_view, by_point, promise = equations.step(1e-3)
    assert promise == pytest.approx(-gradient @ expected, rel=1e-6)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(by_view.ravel(), columns @ expected[:free], atol=1e-6 * scale)
    np.testing.assert_allclose(by_point.ravel(), expected[free:], atol=1e-6 * scale)
    covariance = columns @ np.linalg.inv(normal)[:free, :free] @ columns.T
    blocks = covariance.reshape(4, PER_VIEW, 4, PER_VIEW)
    expected_blocks = np.stack([blocks[v, :, v] for v in range(4)])
    np.testing.assert_allclose(equations.covariance_by_view(), expected_blocks, rtol=1e-4, atol=1e-9)


def test_scipy_finds_the_same_minimum() -> None:
    """An independent cost on places instead of 4-vectors, minimised without our derivatives."""
    optimize = pytest.importorskip("scipy.optimize")
    poses, points = cameras(3), cloud(8)
    observations, depth = seen(points, poses, noise=1.0)
    xy = observations.xy.copy()
    xy[3] += 25
    observations = replace(observations, xy=xy)
    said = disturbed(poses, 5, 2, 0)[:, :, :3]
    priors = Priors(rotation=said, rotation_sigma=0.02, depth=depth * 1.1, depth_sigma=0.1, scale_sigma=0.1)
    priors = replace(priors, focal_px=np.full(3, 520.0), focal_sigma=0.05)
    options = BundleOptions(tolerance=1e-14, rounds=300)
    result = adjust_bundle(observations, shaken(poses), lenses(3, 1.05), points, priors=priors, options=options)

    def shrunk(ratio: np.ndarray) -> np.ndarray:
        return np.sqrt(np.log1p(ratio) / np.where(ratio > 0, ratio, 1)) + (ratio == 0)

    def terms(x: np.ndarray) -> np.ndarray:
        turn = np.concatenate([poses[:1, :, :3], rotation_from_vector(x[:6].reshape(2, 3)) @ poses[1:, :, :3]])
        shift = np.concatenate([poses[:1, :, 3], x[6:12].reshape(2, 3)])
        places, factor, scale = x[16:].reshape(-1, 3), np.exp(x[12]), x[13:16]
        view = observations.view
        camera = (turn[view] @ places[observations.point][..., None])[..., 0] + shift[view]
        pixel = factor * np.diagonal(K)[:2] * camera[:, :2] / camera[:, 2:] + K[:2, 2]
        off = pixel - observations.xy
        deep = (np.log(camera[:, 2] / (1.1 * depth)) - scale[view]) / 0.1
        away = vector_from_rotation(turn @ said.swapaxes(1, 2)).ravel() / 0.02
        # Vectors as long as the root of their robust cost, in their own direction: smooth at zero.
        off = off * shrunk((off**2).sum(1) / 4)[:, None]
        return np.concatenate(
            [off.ravel(), deep * shrunk(deep**2 / 9), away, [np.log(factor * 500 / 520) / 0.05], scale / 0.1]
        )

    begin = np.concatenate([np.zeros(6), poses[1:, :, 3].ravel(), np.zeros(4), points.ravel()])
    found = optimize.least_squares(terms, begin, xtol=1e-12, ftol=1e-12, gtol=1e-12, x_scale="jac", max_nfev=150)
    assert result.report.cost_after == pytest.approx(found.cost, rel=1e-5)
    turn = rotation_from_vector(found.x[:6].reshape(2, 3)) @ poses[1:, :, :3]
    np.testing.assert_allclose(result.extrinsics[1:, :, :3], turn, atol=2e-4)
    np.testing.assert_allclose(result.places, found.x[16:].reshape(-1, 3), atol=5e-3)
    assert np.log(result.intrinsics[0, 0, 0] / 500) == pytest.approx(found.x[12], abs=1e-3)


def test_it_is_deterministic_and_edits_nothing() -> None:
    poses, points = cameras(4), cloud()
    observations, depth = seen(points, poses, noise=0.5)
    given = [poses, lenses(4), points, observations.xy, depth]
    copies = [value.copy() for value in given]
    priors = Priors(depth=depth, depth_sigma=0.1)
    first, second = (adjust_bundle(observations, poses, given[1], points, priors=priors) for _ in range(2))
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)
    np.testing.assert_array_equal(first.points, second.points)
    assert first.report == second.report
    for value, copy in zip(given, copies, strict=True):
        np.testing.assert_array_equal(value, copy)


def test_the_order_of_observations_does_not_matter() -> None:
    poses, points = cameras(4), cloud()
    observations, _ = seen(points, poses, noise=0.5, share=0.7)
    order = np.random.default_rng(0).permutation(len(observations.view))
    here = adjust_bundle(observations, shaken(poses), lenses(4), points)
    there = adjust_bundle(observations.where(order), shaken(poses), lenses(4), points)
    np.testing.assert_allclose(there.extrinsics, here.extrinsics, atol=1e-9)
    np.testing.assert_allclose(there.errors_px, here.errors_px[order], atol=1e-6)


def test_pycolmap_finds_the_same_minimum() -> None:
    pycolmap = pytest.importorskip("pycolmap")
    poses, points = cameras(4), cloud(30)
    observations, _ = seen(points, poses, noise=0.5)  # every point in every view
    start = shaken(poses, degrees=1, distance=0.03)
    theirs = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        camera_id=1, model="PINHOLE", width=640, height=480, params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]]
    )
    theirs.add_camera_with_trivial_rig(camera)
    for view in range(4):
        keypoints = observations.xy[observations.view == view]
        image = pycolmap.Image(name=str(view), keypoints=keypoints, camera_id=1, image_id=view + 1)
        theirs.add_image_with_trivial_frame(image, pycolmap.Rigid3d(start[view]))
    for point in range(30):
        track = pycolmap.Track([pycolmap.TrackElement(view + 1, point) for view in range(4)])
        theirs.add_point3D(points[point], track)
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = options.refine_extra_params = options.print_summary = False
    options.ceres.solver_options.function_tolerance = options.ceres.solver_options.gradient_tolerance = 1e-15
    pycolmap.bundle_adjustment(theirs, options)
    found = np.stack([theirs.images[view + 1].cam_from_world().matrix() for view in range(4)])
    ours = adjust_bundle(observations, start, lenses(4), points, options=replace(LEAST_SQUARES, focal="fixed"))
    assert pair_errors(ours.extrinsics, found).pair_deg.max() < 0.01
    assert worst(ours, poses) > 0.05  # the noise is not nothing


# Bad input


def test_bad_input() -> None:
    poses, points = cameras(3), cloud(5)
    observations, depth = seen(points, poses)

    def run(**changes: object) -> BundleResult:
        priors = Priors(**changes)  # type: ignore[arg-type]
        return adjust_bundle(observations, poses, lenses(3), points, priors=priors)

    with pytest.raises(InputError, match="depth: got shape"):
        run(depth=depth[:-1])
    with pytest.raises(InputError, match="depth_sigma"):
        run(depth=depth, depth_sigma=-1.0)
    with pytest.raises(InputError, match="depth_sigma: got 0"):
        run(depth=depth, depth_sigma=0.0)
    with pytest.raises(InputError, match="rotation_sigma"):
        run(rotation=poses[:, :, :3], rotation_sigma=np.array([0.1, np.nan, 1]))
    with pytest.raises(InputError, match="centre: got shape"):
        run(centre=np.zeros((2, 3)), centre_sigma=1.0)
    with pytest.raises(InputError, match="focal_px"):
        run(focal_px=np.zeros(3), focal_sigma=1.0)
    with pytest.raises(InputError, match="scale_sigma"):
        run(depth=depth, scale_sigma=np.ones(4))
    with pytest.raises(InputError, match=r"observations\.point"):
        adjust_bundle(observations, poses, lenses(3), points[:-1])
    with pytest.raises(InputError, match="points"):
        adjust_bundle(observations, poses, lenses(3), points[:, :2])
    with pytest.raises(InputError, match="extrinsics"):
        adjust_bundle(observations, poses * np.nan, lenses(3), points)
    with pytest.raises(InputError, match="extrinsics"):
        adjust_bundle(observations.where(np.zeros(len(depth), bool)), poses[:0], lenses(0), points)
    with pytest.raises(InputError, match="log_scale"):
        adjust_bundle(observations, poses, lenses(3), points, log_scale=np.zeros(2))
    twice = observations.where(np.r_[0, 0, 1])
    with pytest.raises(InputError, match="twice in view 0"):
        adjust_bundle(twice, poses, lenses(3), points)
    for name, value in (("focal", "some"), ("noise_px", 0), ("cauchy_px", -1), ("rounds", -1)):
        with pytest.raises(InputError, match=name):
            BundleOptions(**{name: value})  # type: ignore[arg-type]
