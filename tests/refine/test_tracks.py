"""Tracks from matches, on cases that can be followed by hand and against a brute-force search of components."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.refine.tracks import KeypointMatches, Observations, build_tracks, pairwise


def matches(*rows: tuple[int, int, int, int, float]) -> KeypointMatches:
    """(view, keypoint, view, keypoint, weight); keypoint k of view v is at (10 k + v, v)."""
    table = np.array(rows, np.float64).reshape(-1, 5)
    views, keypoints = table[:, [0, 2]].astype(int), table[:, [1, 3]].astype(int)
    xy = np.stack([10.0 * keypoints + views, views.astype(float)], -1)
    return KeypointMatches(views=views, keypoints=keypoints, xy=xy, weight=table[:, 4])


def as_sets(observations: Observations) -> set[frozenset[tuple[int, float]]]:
    """Every track as the set of its views and columns."""
    found: dict[int, set[tuple[int, float]]] = {}
    for point, view, xy in zip(observations.point, observations.view, observations.xy, strict=True):
        found.setdefault(int(point), set()).add((int(view), float(xy[0])))
    return {frozenset(track) for track in found.values()}


def test_matches_join_to_tracks() -> None:
    tracks = build_tracks(matches((0, 0, 1, 5, 1.0), (1, 5, 2, 7, 0.5), (2, 1, 0, 3, 0.25)))
    assert tracks.count == 2
    assert as_sets(tracks.observations) == {frozenset({(0, 0), (1, 51), (2, 72)}), frozenset({(0, 30), (2, 12)})}
    assert tracks.observations.point.tolist() == [0, 0, 0, 1, 1]
    assert tracks.observations.view.tolist() == [0, 1, 2, 0, 2]
    assert tracks.observations.weight.tolist() == [1, 1, 0.5, 0.25, 0.25]
    assert not tracks.refused.any()


def test_the_weakest_match_of_a_contaminated_track_is_refused() -> None:
    """Two tracks of three views, and one wrong match between them: both survive whole."""
    good = [(0, 0, 1, 0, 0.9), (1, 0, 2, 0, 0.8), (0, 1, 1, 1, 0.9), (1, 1, 2, 1, 0.8)]
    tracks = build_tracks(matches((0, 0, 2, 1, 0.3), *good))
    assert as_sets(tracks.observations) == {
        frozenset({(0, 10.0 * k), (1, 10.0 * k + 1), (2, 10.0 * k + 2)}) for k in (0, 1)
    }
    assert tracks.refused.tolist() == [True, False, False, False, False]


def test_no_track_has_two_keypoints_of_a_view_whatever_the_matches() -> None:
    rng = np.random.default_rng(0)
    views = np.array([rng.choice(6, 2, replace=False) for _ in range(400)])
    keypoints = rng.integers(0, 30, (400, 2))
    wild = replace(
        matches(),
        views=views,
        keypoints=keypoints,
        xy=np.stack([10.0 * keypoints + views, 1.0 * views], -1),
        weight=rng.uniform(size=400),
    )
    observations = build_tracks(wild).observations
    pairs = np.stack([observations.point, observations.view], 1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert len(pairs) > 100
    assert np.bincount(observations.point).min() >= 2


def test_without_conflicts_tracks_are_the_connected_components() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for track in range(40):  # keypoint number = track number in every view: no conflict
        for _ in range(4):
            i, j = rng.choice(6, 2, replace=False)
            rows.append((int(i), track, int(j), track, float(rng.uniform(0.1, 1))))
    order = rng.permutation(len(rows))
    tracks = build_tracks(matches(*[rows[k] for k in order]))
    components: list[set[tuple[int, int]]] = []
    for i, a, j, b, _ in rows:
        touched = [c for c in components if c & {(i, a), (j, b)}]
        components = [c for c in components if c not in touched] + [{(i, a), (j, b)}.union(*touched)]
    assert as_sets(tracks.observations) == {frozenset((v, 10.0 * k + v) for v, k in c) for c in components}
    assert not tracks.refused.any()


def test_two_orientations_of_one_keypoint_are_one() -> None:
    both = matches((0, 0, 1, 0, 1.0), (0, 1, 2, 0, 1.0))
    xy = both.xy.copy()
    xy[1, 0] = xy[0, 0]
    assert build_tracks(replace(both, xy=xy)).count == 1
    assert build_tracks(both).count == 2


def test_a_keypoint_is_where_its_matches_say_on_average() -> None:
    both = matches((0, 0, 1, 0, 1.0), (0, 0, 2, 0, 0.5))
    xy = both.xy.copy()
    xy[:, 0] = [[4.0, 1.0], [7.0, 4.0]]
    observations = build_tracks(replace(both, xy=xy)).observations
    np.testing.assert_allclose(observations.xy[0], [5.0, 2.0], rtol=1e-15)
    same = build_tracks(replace(both, weight=np.array([0.3, 0.7]))).observations
    assert (same.xy[0] == both.xy[0, 0]).all()  # equal pixels stay to the last digit


def test_short_tracks_and_matches_of_no_weight_are_left_out() -> None:
    some = matches((0, 0, 1, 0, 1.0), (1, 0, 2, 0, 1.0), (0, 4, 1, 4, 1.0), (0, 9, 1, 9, 0.0))
    assert build_tracks(some).count == 2
    assert build_tracks(some, least_views=3).count == 1
    nothing = build_tracks(matches())
    assert nothing.count == 0
    assert nothing.observations.xy.shape == (0, 2)


def test_pairwise_puts_lists_together() -> None:
    keypoints = [np.array([[1.5, 2.5], [3.0, 4.0]]), np.array([[5.0, 6.0]]), np.zeros((0, 2))]
    flat = pairwise([(0, 1), (0, 2)], keypoints, [np.array([[1, 0]]), np.zeros((0, 2), int)], [np.ones(1), np.ones(0)])
    assert flat.views.tolist() == [[0, 1]]
    assert flat.keypoints.tolist() == [[1, 0]]
    assert flat.xy.tolist() == [[[3.0, 4.0], [5.0, 6.0]]]
    assert len(pairwise([], keypoints, []).views) == 0


def test_bad_input() -> None:
    with pytest.raises(InputError, match="least_views"):
        build_tracks(matches(), least_views=1)
    with pytest.raises(InputError, match="itself"):
        matches((1, 0, 1, 2, 1.0))
    with pytest.raises(InputError, match="not finite"):
        matches((1, 0, 0, 2, np.nan))
    with pytest.raises(InputError, match="xy"):
        replace(matches((1, 0, 0, 2, 1.0)), xy=np.zeros((1, 2)))
    with pytest.raises(InputError, match="keypoint that view 1 lacks"):
        pairwise([(0, 1)], [np.zeros((2, 2))] * 2, [np.array([[0, 2]])])
    with pytest.raises(InputError, match="view 2"):
        pairwise([(0, 2)], [np.zeros((2, 2))] * 2, [np.array([[0, 0]])])
    with pytest.raises(InputError, match="one per pair"):
        pairwise([(0, 1)], [np.zeros((2, 2))] * 2, [])
    one = Observations(point=np.array([3]), view=np.array([0]), xy=np.zeros((1, 2)), weight=np.ones(1))
    with pytest.raises(InputError, match=r"observations\.point"):
        one.check(3, 1)
    with pytest.raises(InputError, match="weights of at least 0"):
        replace(one, weight=-np.ones(1))
