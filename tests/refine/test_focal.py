"""The focal length that pairs of views and a prior agree on."""

from __future__ import annotations

import numpy as np
import pytest
from support.synthetic_views import SIZE, random_views

from depth_anything_3.refine import focal
from depth_anything_3.refine.features import Features
from depth_anything_3.refine.focal import common_focal
from depth_anything_3.refine.view_graph import ViewPair, connect_views


def _moved(points: np.ndarray, turn: float, shift: tuple[float, float, float], noise: float) -> list[Features]:
    """Two pictures of points, by cameras of 500 pixels, the second turned about the vertical and moved."""
    rng = np.random.default_rng(5)
    rotation = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    descriptors = rng.normal(size=(len(points), 64))
    descriptors = (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)).astype(np.float32)
    seen = []
    for local in (points, points @ rotation.T + shift):
        xy = 500 * local[:, :2] / local[:, 2:] + (320, 240) + rng.normal(0, noise, (len(points), 2))
        seen.append(Features(xy=xy, descriptors=descriptors))
    return seen


def _lenses(focal: float, count: int = 2) -> np.ndarray:
    return np.tile(np.array([[focal, 0, 320], [0, focal, 240], [0, 0, 1.0]]), (count, 1, 1))


@pytest.mark.parametrize("wrong", [0.5, 0.75, 1.4, 2.2])
def test_the_pairs_find_the_focal_length_whatever_the_prior_says(wrong: float) -> None:
    views = random_views(0)
    lenses = views.intrinsics.copy()
    lenses[:, [0, 1], [0, 1]] *= wrong
    pairs = connect_views(views.features, [SIZE] * len(views.features))
    assert common_focal(pairs, views.features, lenses, 640, 0.5) * wrong == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_pictures_taken_without_moving_and_none_leave_the_prior_as_it_is(noise: float) -> None:
    rng = np.random.default_rng(4)
    views = _moved(rng.uniform((-2, -1.5, 3), (2, 1.5, 9), (300, 3)), 0.0, (0.0, 0.0, 0.0), noise)
    fundamental = np.cross(np.eye(3), [1.0, 2.0, 3.0])
    still = ViewPair(views=(0, 1), indices=np.tile(np.arange(300)[:, None], 2), fundamental=fundamental)
    for pairs in ([], [still]):
        assert common_focal(pairs, views, _lenses(400.0), 640, 0.5) == 1.0


def test_where_a_pair_says_nothing_an_unsure_prior_moves_to_ordinary_lenses(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a rectified stereo pair does; a sure one stands."""
    monkeypatch.setattr(focal, "_cost", lambda pair, features, lenses, factors: np.zeros(len(factors)))
    points = np.random.default_rng(4).uniform((-2, -1.5, 3), (2, 1.5, 9), (30, 3))
    views = _moved(points, 0.0, (-0.5, 0.0, 0.0), 0.0)
    pair = ViewPair(views=(0, 1), indices=np.tile(np.arange(30)[:, None], 2), fundamental=np.eye(3))
    assert common_focal([pair], views, _lenses(1800.0), 640, 0.01) == pytest.approx(1.0, abs=0.03)
    assert 640 < 1800 * common_focal([pair], views, _lenses(1800.0), 640, 2.0) < 900


@pytest.mark.parametrize("prior", [450.0, 600.0])
def test_a_pair_that_says_little_is_outvoted(prior: float) -> None:
    """A dozen and a half noisy matches after a step to the side; the fundamental matrix alone is anywhere."""
    rng = np.random.default_rng(1)
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 6), (18, 3))
    views = _moved(points, 0.03, (-0.4, 0.0, 0.0), noise=0.5)
    factor = common_focal(connect_views(views, [SIZE] * 2), views, _lenses(prior), 640, 0.1)
    assert factor == pytest.approx(1.0, abs=0.12)


def test_a_plane_leaves_the_focal_length_to_the_prior() -> None:
    rng = np.random.default_rng(2)
    flat = np.c_[rng.uniform((-2, -1.5), (2, 1.5), (300, 2)), np.full(300, 5.0)]
    views = _moved(flat, 0.2, (-1.0, 0.0, 0.0), noise=0.3)
    factor = common_focal(connect_views(views, [SIZE] * 2), views, _lenses(560.0), 640, 0.1)
    assert factor == pytest.approx(1.0, abs=0.15)


def test_one_pair_with_many_matches_outvotes_a_vague_prior() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform((-2, -1.5, 3), (2, 1.5, 9), (400, 3))
    views = _moved(points, 0.5, (-2.2, 0.3, 0.5), noise=0.3)
    pairs = connect_views(views, [SIZE] * 2)
    for prior in (380.0, 700.0):
        assert prior * common_focal(pairs, views, _lenses(prior), 640, 0.5) == pytest.approx(500, rel=0.08)
