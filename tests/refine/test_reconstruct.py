"""Cameras from matches with a prior: accuracy, outvoting a wrong prior, and scenes that leave something open."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.synthetic_views import SIZE, Views, random_views

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.rotation_vectors import rotation_from_vector
from depth_anything_3.metrics.pose import pair_errors
from depth_anything_3.refine import growth
from depth_anything_3.refine import reconstruct as module
from depth_anything_3.refine.bundle import BundleOptions, BundleResult
from depth_anything_3.refine.depth_alignment import SeenPoints
from depth_anything_3.refine.features import Features, strongest
from depth_anything_3.refine.reconstruct import (
    Prior,
    Reconstruction,
    _at_one_size,
    reconstruct,
    triangulate_matches,
)
from depth_anything_3.refine.two_view import relative_pose
from depth_anything_3.refine.view_graph import ViewPair


def _errors(found: Reconstruction, views: Views) -> tuple[float, float, float]:
    """Median rotation and direction error in degrees, and the largest error of a focal length."""
    pairs = pair_errors(found.extrinsics, views.extrinsics)
    focal = np.abs(found.intrinsics[:, 0, 0] / views.intrinsics[:, 0, 0] - 1).max()
    return float(np.median(pairs.rotation_deg)), float(np.median(pairs.translation_deg)), float(focal)


@pytest.mark.parametrize("seed", range(3))
def test_a_prior_with_known_errors_is_corrected(seed: int) -> None:
    views = random_views(seed)
    prior = views.prior(np.random.default_rng(seed), turn=np.radians(5), focal=0.15, depth=0.1)
    found = reconstruct(views.features, [SIZE] * 6, prior)
    rotation, direction, focal = _errors(found, views)
    assert found.source == ("matches",) * 6
    assert rotation < 0.3 and direction < 1.0 and focal < 0.01
    assert np.nanmax(found.rms_px) < 1.0
    np.testing.assert_array_equal(found.intrinsics[:, :2, 2], views.intrinsics[:, :2, 2])  # nothing speaks against it


@pytest.mark.parametrize(("points", "off", "placed"), [(50, 0.0, 6), (50, 0.35, 0), (90, 0.35, 6)])
def test_few_points_do_not_outvote_a_lens_by_far(points: int, off: float, placed: int) -> None:
    """Three and a half standard deviations of the prior: more is needed than a few matches, which may all be wrong."""
    views = random_views(0)
    prior = replace(views.prior(np.random.default_rng(0), turn=np.radians(3), focal=off), focal_sigma=0.1)
    found = reconstruct([strongest(one, points) for one in views.features], [SIZE] * 6, prior)
    assert found.source.count("matches") == placed


@pytest.mark.parametrize(
    ("way", "matches", "ambiguous", "turned"),
    [(-1.0, 30, True, True), (1.0, 30, True, False), (-1.0, 90, True, False), (-1.0, 30, False, False)],
    ids=["on something that moves", "as the prior has it", "many", "no choice of poses"],
)
def test_few_matches_on_a_plane_do_not_turn_the_translation_round(
    way: float, matches: int, ambiguous: bool, turned: bool
) -> None:
    views = random_views(0)
    prior = views.prior(np.random.default_rng(0))
    first, second = prior.extrinsics[:2]
    turn = second[:, :3] @ first[:, :3].T
    direction = second[:, 3] - turn @ first[:, 3]
    pose = replace(
        relative_pose(np.ones((3, 2)), np.ones((3, 2)), views.intrinsics[0], views.intrinsics[1]),
        kind="planar",
        rotation=turn,
        direction=way * direction / np.linalg.norm(direction),
        inliers=np.ones(matches, bool),
        ambiguous=ambiguous,
    )
    pair = ViewPair(views=(0, 1), indices=np.zeros((matches, 2), np.int64), fundamental=np.eye(3), pose=pose)
    assert module._turned_round(pair, prior) == turned


def test_pairs_that_turn_the_translation_round_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    views = random_views(0)
    prior = views.prior(np.random.default_rng(0), turn=np.radians(3))
    monkeypatch.setattr(module, "_turned_round", lambda pair, prior: True)
    assert reconstruct(views.features, [SIZE] * 6, prior).source == ("network",) * 6


def test_a_principal_point_off_the_middle_is_found() -> None:
    """Where cameras roll, it cannot pass for another rotation."""
    views = random_views(1)
    middle, off = np.array([320.0, 240.0]), np.array([312.0, 258.0])
    rolls = rotation_from_vector(np.array([0.0, 0.6, -0.9, 1.5, 0.3, -0.4])[:, None] * np.eye(3)[2])
    features = [
        replace(one, xy=(one.xy - middle) @ roll[:2, :2].T + off)
        for one, roll in zip(views.features, rolls, strict=True)
    ]
    rolled = replace(views, extrinsics=rolls @ views.extrinsics, features=features)
    prior = rolled.prior(np.random.default_rng(1), turn=np.radians(5), focal=0.15)
    found = reconstruct(features, [SIZE] * 6, prior)
    rotation, direction, focal = _errors(found, rolled)
    assert rotation < 0.3 and direction < 1.0 and focal < 0.01
    np.testing.assert_allclose(found.intrinsics[:, :2, 2], np.tile(off, (6, 1)), atol=3)
    lenses = prior.intrinsics.copy()
    lenses[0, 0, 2] += 5  # a picture that was cut: no one shift suits all
    found = reconstruct(features, [SIZE] * 6, replace(prior, intrinsics=lenses))
    np.testing.assert_array_equal(found.intrinsics[:, :2, 2], lenses[:, :2, 2])


def test_a_free_principal_point_costs_one_adjustment(monkeypatch: pytest.MonkeyPatch) -> None:
    free: list[bool] = []
    adjust, finish = growth.adjust_bundle, growth.finished

    def counted(*arguments: Any, options: BundleOptions, **more: Any) -> BundleResult:
        free.append(options.middle)
        return adjust(*arguments, options=options, **more)

    def from_here(scene: growth.Scene, model: growth.Model) -> growth.Model:
        free.clear()
        return finish(scene, model)

    monkeypatch.setattr(growth, "adjust_bundle", counted)
    monkeypatch.setattr(module, "finished", from_here)
    views = random_views(0, 3)
    reconstruct(views.features, [SIZE] * 3, views.prior(np.random.default_rng(0), turn=np.radians(5)))
    assert free == [False] * 3 + [True]


def test_a_plane_under_next_to_no_parallax_is_left_to_the_prior() -> None:
    """It could as well be turned about: its matches fit many poses."""
    views = random_views(0, 4, flat=True, step=0.004)
    prior = views.prior(np.random.default_rng(0), turn=np.radians(2))
    found = reconstruct(views.features, [SIZE] * 4, prior)
    assert "matches" not in found.source and len(found.places) == 0
    assert reconstruct(random_views(0, 4, flat=True).features, [SIZE] * 4, prior).source.count("matches") == 4


def test_wrong_matches_and_a_useless_prior_do_not_matter() -> None:
    views = random_views(5, wrong=0.3)
    prior = views.prior(np.random.default_rng(1), turn=1.5, focal=0.5)
    found = reconstruct(views.features, [SIZE] * 6, prior)
    rotation, direction, focal = _errors(found, views)
    assert rotation < 0.3 and direction < 1.0 and focal < 0.02


def test_a_quarter_that_moves_on_its_own_does_not_matter() -> None:
    views = random_views(10, moving=0.25)
    found = reconstruct(views.features, [SIZE] * 6, views.prior(np.random.default_rng(1), turn=0.1, focal=0.1))
    rotation, direction, focal = _errors(found, views)
    assert rotation < 0.3 and direction < 1.0 and focal < 0.02


def test_points_that_look_like_others_do_not_matter() -> None:
    views = random_views(11, doubles=0.5)
    found = reconstruct(views.features, [SIZE] * 6, views.prior(np.random.default_rng(1), turn=0.1, focal=0.1))
    rotation, direction, focal = _errors(found, views)
    assert rotation < 0.3 and direction < 1.0 and focal < 0.02


def test_the_frame_and_unit_are_those_of_the_prior() -> None:
    views = random_views(2)
    prior = views.prior(np.random.default_rng(0))
    turn, shift, scale = rotation_from_vector(np.array([0.3, -0.5, 0.2])), np.array([1.0, -2.0, 0.5]), 3.0
    poses = prior.extrinsics.copy()
    poses[:, :, 3] = scale * poses[:, :, 3] - poses[:, :, :3] @ turn.T @ shift
    poses[:, :, :3] = poses[:, :, :3] @ turn.T
    moved = Prior(extrinsics=poses, intrinsics=prior.intrinsics, depth=prior.depth * scale)
    found = reconstruct(views.features, [SIZE] * 6, moved)
    centre = -poses[:, :, :3].swapaxes(1, 2) @ poses[:, :, 3:]
    got = -found.extrinsics[:, :, :3].swapaxes(1, 2) @ found.extrinsics[:, :, 3:]
    # The depth of the prior is a plane per view: the unit can only be as good as its median.
    assert np.abs(got - centre).max() < 0.1 * scale * 4
    np.testing.assert_allclose(found.extrinsics[0], poses[0], atol=1e-6)


def test_two_views() -> None:
    views = random_views(3, count=2)
    found = reconstruct(views.features, [SIZE] * 2, views.prior(np.random.default_rng(0), turn=0.1))
    rotation, direction, _ = _errors(found, views)
    assert found.source == ("matches",) * 2 and rotation < 1 and direction < 4


def test_cameras_that_only_turn_stay_in_one_place() -> None:
    views = random_views(4, count=4, turn_only=True)
    prior = views.prior(np.random.default_rng(0), turn=0.1)
    found = reconstruct(views.features, [SIZE] * 4, prior)
    assert found.source == ("rotation",) * 4
    centres = -found.extrinsics[:, :, :3].swapaxes(1, 2) @ found.extrinsics[:, :, 3:]
    np.testing.assert_allclose(centres, np.broadcast_to(centres[:1], centres.shape), atol=1e-9)
    assert np.median(pair_errors(found.extrinsics, views.extrinsics).rotation_deg) < 0.5


def test_points_on_a_plane() -> None:
    views = random_views(6, flat=True)
    found = reconstruct(views.features, [SIZE] * 6, views.prior(np.random.default_rng(0), turn=0.05, focal=0.05))
    rotation, direction, _ = _errors(found, views)
    assert rotation < 1 and direction < 3


def test_a_view_that_nothing_connects_keeps_the_answer_of_the_network() -> None:
    views = random_views(7)
    stranger = random_views(99).features[0]
    features = [*views.features[:5], stranger]
    prior = views.prior(np.random.default_rng(0), turn=0.05)
    found = reconstruct(features, [SIZE] * 6, prior)
    assert found.source == (*["matches"] * 5, "network")
    # It stays where it was among the others, which moved by no more than the prior was off.
    np.testing.assert_allclose(found.extrinsics[5], prior.extrinsics[5], atol=0.3)
    assert not (found.observations.view == 5).any() and np.isnan(found.rms_px[5])


def test_without_keypoints_the_answer_is_the_priors() -> None:
    empty = [Features(xy=np.zeros((0, 2)), descriptors=np.zeros((0, 128), np.float32))] * 3
    views = random_views(0, count=3)
    prior = views.prior(np.random.default_rng(0))
    found = reconstruct(empty, [SIZE] * 3, prior)
    assert found.source == ("network",) * 3 and len(found.observations.point) == 0
    np.testing.assert_allclose(found.extrinsics, prior.extrinsics, atol=1e-6)


def test_the_same_answer_every_time() -> None:
    views = random_views(8, wrong=0.2)
    prior = views.prior(np.random.default_rng(0), turn=0.1)
    first, second = (reconstruct(views.features, [SIZE] * 6, prior) for _ in range(2))
    np.testing.assert_array_equal(first.extrinsics, second.extrinsics)
    np.testing.assert_array_equal(first.intrinsics, second.intrinsics)


def test_known_cameras_stay_and_give_points() -> None:
    views = random_views(9, wrong=0.2)
    found = triangulate_matches(views.features, [SIZE] * 6, views.prior(np.random.default_rng(0)))
    np.testing.assert_array_equal(found.extrinsics, views.extrinsics)
    assert found.source == ("given",) * 6
    assert len(np.unique(found.observations.point)) > 200 and np.nanmax(found.rms_px) < 1.5


def test_matches_tell_that_known_cameras_are_the_other_way_round() -> None:
    views = random_views(9, wrong=0.2)
    prior = views.prior(np.random.default_rng(0))
    poses = np.concatenate([prior.extrinsics, np.tile([[[0.0, 0, 0, 1]]], (6, 1, 1))], axis=1)
    inverted = replace(prior, extrinsics=np.linalg.inv(poses)[:, :3])
    with pytest.warns(UserWarning, match=r"degrees off what matches .* after inversion they are 0\.[0-9] degrees off"):
        triangulate_matches(views.features, [SIZE] * 6, inverted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        triangulate_matches(views.features, [SIZE] * 6, prior)


def test_views_and_prior_have_to_fit() -> None:
    views = random_views(0)
    with pytest.raises(InputError, match="prior"):
        reconstruct(views.features[:4], [SIZE] * 4, views.prior(np.random.default_rng(0)))


def test_points_in_pictures_of_several_sizes_fall_on_one_depth_map() -> None:
    points = SeenPoints(view=np.array([0, 1]), xy=np.array([[10.0, 20], [10, 20]]), depth=np.ones(2), sigma=np.ones(2))
    found = _at_one_size(points, [(100, 200), (50, 400)])
    np.testing.assert_allclose(found.xy, [[10, 20], [5, 40]])
