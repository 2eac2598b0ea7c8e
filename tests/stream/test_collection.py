"""Photos in no order."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.collection import anchors_of, collect, groups, reading_order
from depth_anything_3.stream.frames import StreamFrame
from depth_anything_3.stream.loops import LoopOptions
from depth_anything_3.stream.mapper import MapperOptions
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import Oracle, OracleModel, frame_picture, make_oracle_world
from depth_anything_3.types.options import StreamOptions

pytest.importorskip("scipy.sparse")

FRAMES = 120
WORLD = make_oracle_world(FRAMES, laps=1)
OPTIONS = StreamOptions(window=30, overlap=6)
MAPPER = MapperOptions(loops=LoopOptions(least_gap=30, apart=10, share=0.2, least_similarity=0.3))


def _open(seed: int) -> StreamingReconstructor:
    return StreamingReconstructor(OracleModel(Oracle(world=WORLD, seed=seed)), OPTIONS, mapper=MAPPER)


def _error(stream: StreamingReconstructor, order: list[int]) -> float:
    return trajectory_errors(stream.trajectory(), WORLD.extrinsics[order]).rmse


def test_a_shuffled_sequence_comes_out_about_as_well_as_the_ordered_one() -> None:
    ordered, shuffled = [], []
    for seed in range(3):
        with _open(seed) as stream:
            for frame in range(FRAMES):
                stream.push(frame_picture(frame))
            stream.finalize()
            ordered.append(_error(stream, list(range(FRAMES))))
        mixed = np.random.default_rng(seed).permutation(FRAMES)
        frames = [StreamFrame(image=frame_picture(int(i)), name=str(i)) for i in mixed]
        with _open(seed) as stream:
            list(collect(stream, frames))
            stream.finalize()
            order = [int(name) for name in stream.names()]
            assert sorted(order) == list(range(FRAMES))
            shuffled.append(_error(stream, order))
    assert np.mean(shuffled) <= 1.2 * np.mean(ordered), (ordered, shuffled)


def test_neighbours_in_the_order_are_alike() -> None:
    place = np.random.default_rng(0).permutation(40)
    likeness = -np.abs(place[:, None] - place).astype(float)
    found = place[reading_order(likeness)]
    assert np.abs(np.diff(found)).max() == 1
    assert reading_order(np.ones((1, 1))) == [0]


def test_anchors_are_the_placed_photos_most_like_the_group() -> None:
    place = np.arange(20)
    likeness = np.exp(-np.abs(place[:, None] - place) / 2)
    assert anchors_of(likeness, [10, 11, 12], [0, 9, 5, 8, 19], 4) == [3, 1]
    assert anchors_of(likeness, [3], [], 4) == []


@pytest.mark.parametrize("count", [1, 2, 29, 30, 31, 54, 55, 300])
def test_groups_cover_all_photos_once(count: int) -> None:
    found = groups(count, 30, 6)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])] and found[-1][1] == count
    assert found[0][1] <= 30 and all(1 <= b - a <= 24 for a, b in found[1:])


def test_no_photo() -> None:
    with _open(0) as stream, pytest.raises(InputError, match="frames"):
        list(collect(stream, []))
