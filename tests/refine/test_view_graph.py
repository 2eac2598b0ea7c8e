"""Pairs of views, and the focal length that they agree on."""

from __future__ import annotations

import numpy as np
import pytest
from support.synthetic_views import SIZE, random_views

from depth_anything_3.refine.features import Features
from depth_anything_3.refine.reconstruct import expected_pixels
from depth_anything_3.refine.view_graph import common_focal, connect_more, connect_views, rotation_error, with_poses


@pytest.mark.parametrize("wrong", [0.5, 0.75, 1.4, 2.2])
def test_the_pairs_find_the_focal_length_whatever_the_prior_says(wrong: float) -> None:
    views = random_views(0)
    lenses = views.intrinsics.copy()
    lenses[:, [0, 1], [0, 1]] *= wrong
    factor = common_focal(connect_views(views.features), lenses, 640, sigma=0.5)
    assert factor * wrong == pytest.approx(1.0, abs=0.06)


def test_without_pairs_a_sure_prior_stands_and_an_unsure_one_moves_to_ordinary_lenses() -> None:
    lenses = np.tile(np.array([[1800.0, 0, 320], [0, 1800, 240], [0, 0, 1]]), (2, 1, 1))
    assert common_focal([], lenses, 640, sigma=0.01) == pytest.approx(1.0, abs=0.03)
    assert 640 < 1800 * common_focal([], lenses, 640, sigma=2.0) < 900


def test_expectations_find_matches_that_alikeness_alone_does_not() -> None:
    """Every keypoint has a double elsewhere in the picture, so that no match is clearly the best."""
    views = random_views(1, count=2, points=300)
    doubled = []
    for k, one in enumerate(views.features):
        shifted = (one.xy + np.array([250 + 60 * k, 200])) % np.array(SIZE[::-1])
        doubled.append(
            Features(xy=np.r_[one.xy, shifted], descriptors=np.r_[one.descriptors, one.descriptors].astype(np.float32))
        )
    prior = views.prior(np.random.default_rng(0))
    freely = connect_views(doubled)
    more = connect_more(
        freely, doubled, [SIZE] * 2, lambda i, j: expected_pixels(doubled[i].xy, i, j, prior, [SIZE] * 2), radius=160
    )
    assert sum(pair.support for pair in freely) < 30
    assert len(more) == 1 and more[0].support > 100


def test_how_far_off_a_prior_is() -> None:
    views = random_views(2)
    pairs = with_poses(
        connect_views(views.features), views.features, views.intrinsics, views.extrinsics[:, :, :3], rotation_sigma=0.3
    )
    assert rotation_error(pairs, views.extrinsics[:, :, :3]) < np.radians(0.5)
    off = views.prior(np.random.default_rng(0), turn=0.3).extrinsics[:, :, :3]
    assert rotation_error(pairs, off) == pytest.approx(0.35, abs=0.2)
    assert rotation_error([], off) is None


def test_strangers_are_not_connected() -> None:
    features = [random_views(seed).features[2] for seed in range(3)]
    assert connect_views(features) == []


def test_keypoints_that_all_lie_in_one_place_connect_nothing() -> None:
    """OpenCV's estimator ends in an assertion of its own there."""
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(40, 64))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    for xy in (np.full((40, 2), 50.0), np.c_[np.arange(40.0), np.zeros(40)]):
        same = Features(xy=xy, descriptors=descriptors.astype(np.float32))
        assert all(pair.support <= 40 for pair in connect_views([same, same]))
