"""Matchers by name, and more than one of them."""

from __future__ import annotations

import numpy as np
import pytest
from support.synthetic_views import SIZE, random_views

from depth_anything_3.errors import CapabilityError, UnknownNameError
from depth_anything_3.refine import scene
from depth_anything_3.refine.features import Features, PairMatches, detect_all, match_features
from depth_anything_3.refine.matchers import MATCHERS, Matched, ViewsToMatch, joined, matcher_names, of_views
from depth_anything_3.refine.reconstruct import WELL_SEEN, Reconstruction
from depth_anything_3.refine.tracks import Observations
from depth_anything_3.refine.view_graph import connect_views


def test_sift_gives_what_it_detects() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 80, 100, 3), np.uint8)
    found, expected = MATCHERS["sift"](ViewsToMatch(images=images, most=50)), detect_all(list(images), most=50)
    assert found.pairs == {}
    for one, other in zip(found.features, expected, strict=True):
        assert np.array_equal(one.xy, other.xy) and np.array_equal(one.descriptors, other.descriptors)


def test_an_unknown_name_lists_the_known_ones() -> None:
    assert matcher_names("sift+attention") == ["sift", "attention"]
    for wrong in ("swift", "sift+", ""):
        with pytest.raises(UnknownNameError, match="attention, sift"):
            matcher_names(wrong)


def test_attention_needs_a_network() -> None:
    with pytest.raises(CapabilityError, match="sift"):
        MATCHERS["attention"](ViewsToMatch(images=np.zeros((2, 40, 40, 3), np.uint8)))


def of_pairs(views: list[Features]) -> Matched:
    """The same keypoints without descriptors; what is alike is told per pair."""
    pairs = {(i, j): match_features(views[i], views[j]) for i in range(len(views)) for j in range(i + 1, len(views))}
    bare = [Features(xy=one.xy, descriptors=np.zeros((len(one.xy), 0), np.float32)) for one in views]
    return Matched(features=bare, pairs=pairs)


def test_matches_of_pairs_connect_views_as_those_of_descriptors_do() -> None:
    views = random_views(0, count=3).features
    told = of_pairs(views)
    by_descriptors = connect_views(views, [SIZE] * 3)
    by_pairs = connect_views(told.features, [SIZE] * 3, also=told.pairs)
    assert [pair.views for pair in by_pairs] == [pair.views for pair in by_descriptors]
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(by_pairs, by_descriptors, strict=True))


def test_joined_matchers_do_not_match_each_other() -> None:
    views = random_views(0, count=3).features
    told = of_pairs(views)
    both = joined(Matched(features=views), told)
    count = len(views[0].xy)
    assert np.array_equal(both.features[0].xy, np.concatenate([views[0].xy, views[0].xy]))
    assert np.array_equal(match_features(both.features[0], both.features[1]), match_features(views[0], views[1]))
    assert np.array_equal(both.pairs[0, 1] - [count, len(views[1].xy)], told.pairs[0, 1])
    assert set(of_views(both.pairs, [2])) == {(0, 2), (1, 2)}
    twice = joined(both, told)
    assert len(twice.pairs[0, 1]) == 2 * len(told.pairs[0, 1])
    assert match_features(joined(told, told).features[0], told.features[1]).shape == (0, 2)


def test_the_second_is_asked_where_the_first_finds_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a reconstruction that makes one point of every match that it is told, each seen by two views."""
    prior = random_views(0, count=3).prior(np.random.default_rng(0))
    told: list[PairMatches] = []

    def reconstruct(features: object, sizes: object, prior: object, *, also: PairMatches) -> Reconstruction:
        told.append(also)
        view = np.concatenate([np.repeat(pair, len(indices)) for pair, indices in also.items()]).astype(np.int64)
        seen = Observations(point=view, view=view, xy=np.zeros((len(view), 2)), weight=np.ones(len(view)))
        empty = np.zeros(0)
        return Reconstruction(
            extrinsics=np.zeros((3, 3, 4)), intrinsics=np.zeros((3, 3, 3)), source=("matches",) * 3, observations=seen,
            places=np.zeros((0, 3)), angle=empty, rms_px=np.zeros(3), pairs=(),
        )  # fmt: skip

    def matcher(name: str, **counts: int) -> None:
        pairs = {(int(p[1]), int(p[2])): np.zeros((count, 2), np.int64) for p, count in counts.items()}
        bare = Features(xy=np.zeros((1, 2)), descriptors=np.zeros((1, 0), np.float32))
        monkeypatch.setitem(MATCHERS._entries, name, lambda views: Matched(features=[bare] * 3, pairs=pairs))

    monkeypatch.setattr(scene, "reconstruct", reconstruct)
    matcher("few", p01=WELL_SEEN, p12=10)  # view 2 is weak
    matcher("much", p01=500, p02=500)
    matcher("nothing", p02=0)
    views = ViewsToMatch(images=np.zeros((3, 8, 8, 3), np.uint8))

    def found(*names: str) -> tuple[str, list[int]]:
        told.clear()
        result, used = scene._reconstructed(views, prior, list(names), given=False)
        return used, result.seen.tolist()

    assert found("few", "nothing") == ("few", [150, 160, 10]) and len(told) == 2
    assert found("few", "much") == ("few+much", [650, 160, 510]), "only the pairs of the weak view"
    matcher("few", p01=200, p12=200)
    assert found("few", "much") == ("few", [200, 400, 200]) and len(told) == 1
