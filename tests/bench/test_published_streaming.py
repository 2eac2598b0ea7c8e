"""The published scheme for long sequences, and ours beside it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from depth_anything_3.bench.published_streaming import half_overlapping, loop_pairs, published_path
from depth_anything_3.geometry.sim3 import Sim3
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.stream.loops import LoopOptions
from depth_anything_3.stream.mapper import MapperOptions
from depth_anything_3.stream.reconstructor import StreamingReconstructor
from depth_anything_3.synth.oracle import Oracle, OracleErrors, OracleModel, frame_picture, make_oracle_world
from depth_anything_3.types.options import StreamOptions

pytest.importorskip("scipy.sparse")

FRAMES, SIZE = 160, 40
EXACT = OracleErrors(scale_drift=0, rotation_drift_deg=0, translation_drift=0, focal=0, depth=0, outliers=0)


@pytest.mark.parametrize(("frames", "size"), [(1, 4), (4, 4), (5, 4), (160, 40), (163, 41)])
def test_windows_share_half(frames: int, size: int) -> None:
    found = half_overlapping(frames, size)
    assert found[0][0] == 0 and found[-1][1] == frames
    assert all(a[1] - b[0] == size // 2 for a, b in pairwise(found))


def test_exact_predictions_give_the_exact_path() -> None:
    world = make_oracle_world(60, laps=1)
    oracle = Oracle(world=world, errors=EXACT)
    poses, inferred = published_path(oracle.predict, 60, oracle.descriptors(), size=20, loops=False)
    assert trajectory_errors(poses, world.extrinsics).rmse < 1e-2 * world.path_length / 100
    assert inferred == 100


def test_loops_are_the_most_alike_and_apart() -> None:
    angle = np.concatenate([np.linspace(0, 3, 60), np.linspace(0, 3, 60)])
    waves = np.arange(1, 40)
    pairs = loop_pairs(np.concatenate([np.cos(angle[:, None] * waves), np.sin(angle[:, None] * waves)], 1))
    assert pairs and all(abs(b - a - 60) <= 1 for a, b in pairs)


def test_ours_is_not_worse() -> None:
    world = make_oracle_world(FRAMES, laps=2)
    loops = LoopOptions(least_gap=40, apart=10, share=0.2)
    ours, theirs = [], []
    for seed in range(3):
        oracle = Oracle(world=world, seed=seed)
        poses, _ = published_path(oracle.predict, FRAMES, oracle.descriptors(), size=SIZE)
        theirs.append(trajectory_errors(poses, world.extrinsics).rmse)
        options = StreamOptions(window=SIZE, overlap=6)
        with StreamingReconstructor(OracleModel(oracle), options, mapper=MapperOptions(loops=loops)) as stream:
            for frame in range(FRAMES):
                stream.push(frame_picture(frame))
            stream.finalize()
            ours.append(trajectory_errors(stream.trajectory(), world.extrinsics).rmse)
    assert max(np.array(ours) / theirs) <= 1 and np.mean(ours) < 0.8 * np.mean(theirs), (ours, theirs)
    assert isinstance(stream.mapper.nodes, Sim3)
