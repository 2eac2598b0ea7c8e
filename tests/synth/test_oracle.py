"""The oracle is right about the truth, wrong by as much as it is told, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.pinhole import camera_centres, project, unproject
from depth_anything_3.metrics.trajectory import trajectory_errors
from depth_anything_3.synth.oracle import Oracle, OracleErrors, make_oracle_world

EXACT = OracleErrors(scale_drift=0, rotation_drift_deg=0, translation_drift=0, focal=0, depth=0, outliers=0)


def test_depth_and_cameras_are_of_one_world() -> None:
    world = make_oracle_world(4, path="line", height=96, width=128, moving=0.0)
    points = unproject(world.depth[0], world.intrinsics, world.extrinsics[0])
    points = points[np.isfinite(points).all(-1)]
    xy, z = project(points, world.intrinsics, world.extrinsics[1])
    inside = (z > 0) & (xy >= 0).all(-1) & (xy < (128, 96)).all(-1)
    column, row = np.floor(xy[inside]).astype(int).T
    seen = world.depth[1, row, column]
    assert (np.abs(seen / z[inside] - 1) < 0.03).mean() > 0.9


def test_paths_come_back() -> None:
    for path in ("ring", "eight"):
        world = make_oracle_world(200, path=path, laps=2)
        assert Oracle(world=world).shares_place(10, 110)
        assert world.path_length == pytest.approx(100, rel=0.1)
    assert not Oracle(world=make_oracle_world(200, path="line")).shares_place(10, 110)


def test_an_exact_oracle_is_exact_up_to_its_gauge() -> None:
    world = make_oracle_world(12, path="line")
    found = Oracle(world=world, errors=EXACT).predict(range(12))
    errors = trajectory_errors(found.extrinsics, world.extrinsics)
    assert errors.rmse < 1e-3
    known = ~found.sky
    scale = np.median(world.depth[known] / found.depth[known])
    assert scale == pytest.approx(errors.similarity.scale, rel=1e-3)
    assert not np.allclose(scale, 1)


def test_errors_are_as_large_as_asked_for() -> None:
    world = make_oracle_world(60, path="line")
    growth = []
    for seed in range(40):
        found = Oracle(world=world, seed=seed).predict(range(60))
        ratio = [np.median((found.depth[k] / world.depth[k])[~found.sky[k]]) for k in (0, 59)]
        growth.append(np.log(ratio[1] / ratio[0]))
    assert 0.01 < np.std(growth) < 0.035


def test_answers_repeat_and_differ_by_seed() -> None:
    world = make_oracle_world(30, path="line")
    one, two, other = (Oracle(world=world, seed=s).predict(range(5, 20)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.depth, two.depth)
    np.testing.assert_array_equal(one.extrinsics, two.extrinsics)
    assert not np.allclose(one.extrinsics, other.extrinsics)


def test_frames_that_share_nothing_are_put_near_each_other() -> None:
    world = make_oracle_world(300, path="line")
    errors = OracleErrors(gauge=1.0)
    found = Oracle(world=world, errors=errors).predict([*range(8), *range(250, 258)])
    centres = camera_centres(found.extrinsics)
    assert np.linalg.norm(centres[0] - centres[8]) < 10


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input() -> None:
    with pytest.raises(InputError, match="ring"):
        make_oracle_world(5, path="square")  # type: ignore[arg-type]
    with pytest.raises(InputError):
        make_oracle_world(0)
