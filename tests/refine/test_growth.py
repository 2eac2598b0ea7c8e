"""What views are placed by, while they are added one after the other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from depth_anything_3.refine.growth import Scene
from depth_anything_3.refine.tracks import Tracks
from depth_anything_3.types.observations import Observations


def scene_of(seen_in: list[tuple[int, ...]], views: int) -> Scene:
    """A scene without pairs: track i is seen in the views ``seen_in[i]``."""
    point = np.repeat(np.arange(len(seen_in)), [len(where) for where in seen_in])
    view = np.concatenate([np.array(where, np.int64) for where in seen_in])
    observations = Observations(
        point=point, view=view, xy=np.stack([view, point], 1).astype(np.float64), weight=np.ones(len(view))
    )
    tracks = Tracks(count=len(seen_in), observations=observations, refused=np.zeros(0, bool))
    return Scene(pairs=(), tracks=tracks, lenses=np.tile(np.eye(3), (views, 1, 1)), pixel=1.0, focal="shared")


def kept(scene: Scene) -> npt.NDArray[np.int64]:
    return np.unique(scene.seen.point)


def test_the_longest_tracks_stay() -> None:
    scene = scene_of([(0, 1)] * 50 + [(0, 1, 2)] * 20, 3)
    np.testing.assert_array_equal(kept(scene.thinned(20)), np.arange(50, 70))


def test_a_view_with_few_tracks_keeps_them_all() -> None:
    scene = scene_of([(0, 1, 2)] * 100 + [(2, 3)] * 7, 4)
    few = scene.thinned(10)
    np.testing.assert_array_equal(kept(few), [*range(10), *range(100, 107)])
    assert (np.bincount(few.seen.view, minlength=4) == [10, 10, 17, 7]).all()


def test_tracks_stay_whole_and_keep_their_numbers() -> None:
    scene = scene_of([(0, 1), (1, 2), (0, 1, 2, 3), (2, 3)], 4)
    few = scene.thinned(1)
    np.testing.assert_array_equal(few.seen.point, [2, 2, 2, 2])
    np.testing.assert_array_equal(few.seen.view, [0, 1, 2, 3])
    np.testing.assert_array_equal(few.seen.xy[:, 1], [2, 2, 2, 2])
    assert few.tracks.count == 4 and scene.seen.point.size == 10


def test_nothing_is_left_out_where_there_is_little() -> None:
    scene = scene_of([(0, 1), (1, 2)], 3)
    np.testing.assert_array_equal(scene.thinned(600).seen.view, scene.seen.view)
