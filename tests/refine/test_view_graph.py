"""Pairs of views, and the focal length that they agree on."""

from __future__ import annotations

import numpy as np
import pytest
from support.synthetic_views import SIZE, random_views

from depth_anything_3.refine.features import Features
from depth_anything_3.refine.reconstruct import expected_pixels
from depth_anything_3.refine.view_graph import (
    _best_partners,
    connect_more,
    connect_views,
    rotation_error,
    with_poses,
)


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
    freely = connect_views(doubled, [SIZE] * 2)
    more = connect_more(
        freely, doubled, [SIZE] * 2, lambda i, j: expected_pixels(doubled[i].xy, i, j, prior, [SIZE] * 2), radius=160
    )
    assert sum(pair.support for pair in freely) < 30
    assert len(more) == 1 and more[0].support > 100


def test_how_far_off_a_prior_is() -> None:
    views = random_views(2)
    pairs = with_poses(
        connect_views(views.features, [SIZE] * len(views.features)),
        views.features,
        views.intrinsics,
        views.extrinsics[:, :, :3],
        rotation_sigma=0.3,
    )
    assert rotation_error(pairs, views.extrinsics[:, :, :3]) < np.radians(0.5)
    off = views.prior(np.random.default_rng(0), turn=0.3).extrinsics[:, :, :3]
    assert rotation_error(pairs, off) == pytest.approx(0.35, abs=0.2)
    assert rotation_error([], off) is None


@pytest.mark.parametrize("moved", [(40.0, 25.0), (0.0, 0.0)])
def test_what_lies_over_the_pictures_does_not_connect_them(moved: tuple[float, float]) -> None:
    """A small pattern with more matches than all the rest, which moves by one vector in the picture."""
    views = random_views(3, count=2, points=150)
    rng = np.random.default_rng(3)
    own = rng.normal(size=(400, views.features[0].descriptors.shape[1]))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    place = rng.uniform((200, 150), (440, 330), (400, 2))
    covered = [
        Features(xy=np.r_[one.xy, place + shift], descriptors=np.r_[one.descriptors, own].astype(np.float32))
        for one, shift in zip(views.features, ((0.0, 0.0), moved), strict=True)
    ]
    without = connect_views(views.features, [SIZE] * 2)[0]
    (pair,) = connect_views(covered, [SIZE] * 2)
    first = [len(one.xy) for one in views.features]
    ours = (pair.indices < first).all(1)
    assert ours.mean() > 0.9 and ours.sum() > 0.9 * len(without.indices)


def test_a_wall_that_moves_by_one_vector_stays_where_the_rest_agrees() -> None:
    """As a rectified pair sees it."""
    rng = np.random.default_rng(4)
    depth = np.r_[np.full(150, 5.0), rng.uniform(2, 8, 150)]
    xy = np.r_[rng.uniform((0, 0), (300, 300), (150, 2)), rng.uniform((0, 0), SIZE[::-1], (150, 2))]
    descriptors = rng.normal(size=(300, 64))
    descriptors = (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
    views = [
        Features(xy=xy, descriptors=descriptors),
        Features(xy=xy - np.c_[200 / depth, 0 * depth], descriptors=descriptors),
    ]
    assert connect_views(views, [SIZE] * 2)[0].support > 280


def test_of_many_views_each_has_few_partners() -> None:
    """A ring, in which neighbours have most in common."""
    count = 70
    apart = {(i, j): min(j - i, count - j + i) for i in range(count) for j in range(i + 1, count)}
    scores = {pair: 1000.0 - away for pair, away in apart.items()}
    kept = _best_partners(scores, count)
    assert set(kept) >= {pair for pair, away in apart.items() if away <= 10}
    assert len(kept) <= 20 * count and kept == [pair for pair in scores if pair in set(kept)]
    few = {pair: score for pair, score in scores.items() if max(pair) < 60}
    assert _best_partners(few, 60) == list(few)


def test_strangers_are_not_connected() -> None:
    features = [random_views(seed).features[2] for seed in range(3)]
    assert connect_views(features, [SIZE] * 3) == []


def test_keypoints_that_all_lie_in_one_place_connect_nothing() -> None:
    """OpenCV's estimator ends in an assertion of its own there."""
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(40, 64))
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    for xy in (np.full((40, 2), 50.0), np.c_[np.arange(40.0), np.zeros(40)]):
        same = Features(xy=xy, descriptors=descriptors.astype(np.float32))
        assert all(pair.support <= 40 for pair in connect_views([same, same], [SIZE] * 2))
