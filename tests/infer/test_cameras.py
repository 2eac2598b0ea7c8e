"""Given cameras against predicted ones: an oracle with noise in the place of the network."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
from support.poses import Array, centres, disturbed, in_another_world, random_poses, with_centres

from depth_anything_3.bench.real_mini import load_views
from depth_anything_3.bench.scenes import REAL_SCENES, EvalScene, evenly_spaced
from depth_anything_3.infer.cameras import align_to_given, poor_scale, warn_if_inverted

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NOISE = 0.02
SCALE = 0.37  # of the network's unit in the caller's

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not there")


@functools.cache
def largest_set(name: str) -> EvalScene:
    return load_views(DATA, name)[-1]


def oracle(poses: Array, seed: int) -> Array:
    """Predicted poses in a world and unit of their own.

    Rotations are off by 2 % of a radian, and centres by 2 % of the mean distance from their middle.
    """
    places = centres(poses)
    size = np.linalg.norm(places - places.mean(0), axis=1).mean()
    noisy = disturbed(poses, seed, degrees=np.degrees(NOISE), distance=NOISE * size)
    return in_another_world(noisy, seed + 1, 1 / SCALE)


def straightest(poses: Array, count: int) -> list[int]:
    """The views nearest to the line through the first and the last."""
    places = centres(poses) - centres(poses)[0]
    line = places[-1] / max(float(np.linalg.norm(places[-1])), 1e-12)
    off = np.linalg.norm(places - (places @ line)[:, None] * line, axis=1)
    return sorted(np.argsort(off)[:count].tolist())


def subsets(scene: EvalScene) -> list[list[int]]:
    count = len(scene.images)
    spaced = [evenly_spaced(count, n) for n in (2, 3, 8) if n <= count]
    return spaced + ([straightest(scene.extrinsics, 4)] if count >= 4 else [])


@needs_data
@pytest.mark.parametrize("name", REAL_SCENES)
def test_the_scale_of_real_scenes(name: str) -> None:
    scene = largest_set(name)
    for chosen in subsets(scene):
        poses = scene.extrinsics[chosen]
        places = centres(poses)
        baseline = np.linalg.norm(places[:, None] - places[None], axis=2).max()
        if scene.has_depth and baseline < 0.05 * np.median(scene.depth[chosen][scene.depth[chosen] > 0]):
            continue
        for seed in range(5):
            predicted = oracle(poses, seed)
            found, report = align_to_given(poses, predicted)
            assert abs(report.scale / SCALE - 1) < 0.02, (chosen, seed, report.rule, report.scale / SCALE)
            assert report.rule in ("centres", "distances") and found.scale == pytest.approx(1 / report.scale)


@needs_data
@pytest.mark.parametrize("name", REAL_SCENES)
def test_inverted_poses_of_real_scenes(name: str) -> None:
    scene = largest_set(name)
    for chosen in subsets(scene):
        poses = scene.extrinsics[chosen]
        turn = poses[:, :, :3] @ poses[0, :, :3].T
        largest = np.degrees(np.arccos(((np.trace(turn, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))).max()
        predicted = oracle(poses, 0)
        assert not says_inverted(poses, predicted)
        assert says_inverted(inverted(poses), predicted) == (largest >= 10), chosen


def inverted(poses: Array) -> Array:
    return with_centres(poses[:, :, :3].swapaxes(1, 2), poses[:, :, 3])


def says_inverted(given: Array, predicted: Array) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_inverted(given, predicted)
    return any("after inversion" in str(warning.message) for warning in caught)


def test_no_false_alarm() -> None:
    """Small rotations, a network that sees none, and one that guesses."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        views = int(rng.integers(2, 9))
        given = random_poses(seed, views)
        still = with_centres(np.tile(np.eye(3), (views, 1, 1)), centres(given))
        gentle = disturbed(still, seed, degrees=4, distance=0)
        assert not says_inverted(gentle, inverted(gentle))
        assert not says_inverted(given, still)
        alarms += says_inverted(given, random_poses(seed + 1000, views))
    assert alarms <= 2


# --- paths that leave something open -----------------------------------------------------------------------------


def test_wrong_views_are_named_and_have_no_say() -> None:
    given = random_poses(3, 10)
    predicted = in_another_world(given, 4, 1 / SCALE)
    predicted[[2, 7]] = random_poses(5, 2)
    _, report = align_to_given(given, predicted)
    assert report.rule == "centres" and report.scale == pytest.approx(SCALE)
    assert [i for i, used in enumerate(report.used) if not used] == [2, 7]
    off = np.array(report.distance, float)
    assert off[[0, 1, 3]].max() < 1e-9 < off[[2, 7]].min()


def test_views_without_a_pose_have_no_residual() -> None:
    given = random_poses(3, 6)
    predicted = in_another_world(given, 4, 1 / SCALE)
    given[[1, 4]] = np.nan
    _, report = align_to_given(given, predicted)
    assert report.scale == pytest.approx(SCALE)
    assert report.distance[1] is None and report.angle_deg[4] is None and report.used[1] is False


@pytest.mark.parametrize("views", [1, 4])
def test_cameras_in_one_place_cannot_tell_the_scale(views: int) -> None:
    given = random_poses(3, views)
    given = with_centres(given[:, :, :3], np.ones((views, 3)))
    _, report = align_to_given(given, in_another_world(given, 4, 2.0))
    assert report.rule == "unknown" and report.scale == 1
    assert max(a for a in report.angle_deg if a is not None) < 1e-6
    assert "cannot tell the scale" in str(poor_scale(report, given))


def test_positions_that_do_not_fit_are_named() -> None:
    given, predicted = random_poses(3, 4), random_poses(9, 4)
    _, report = align_to_given(given, predicted)
    assert "hardly fit" in str(poor_scale(report, given))
