"""Matching alone finds cameras where there is texture, and says so where it finds none."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from support.poses import rotation, with_centres

from depth_anything_3.bench import classical
from depth_anything_3.bench.classical import FOCAL_GUESS, Colmap, TwoViewSift
from depth_anything_3.bench.evaluate import Predictor, run_once
from depth_anything_3.bench.scenes import EvalScene, select_views
from depth_anything_3.metrics.pose import relative_poses
from depth_anything_3.refine.features import all_pairs
from depth_anything_3.refine.two_view import TwoView

HEIGHT, WIDTH = 240, 320


CARDS = (
    (8.0, -6.0, -5.0, 14.0, 10.0),
    (5.0, -1.8, -1.2, 1.6, 2.0),
    (6.0, 0.6, -1.5, 2.0, 2.6),
    (4.0, -0.3, 0.2, 1.2, 0.9),
)
"""Depth, left, top, width and height of textured cards, from back to front."""


@cache
def relief(views: int = 3) -> EvalScene:
    """Textured cards at four depths, before cameras that turn and move past them."""
    k = np.array([[FOCAL_GUESS * WIDTH, 0, WIDTH / 2], [0, FOCAL_GUESS * WIDTH, HEIGHT / 2], [0, 0, 1]])
    turns = np.stack([rotation([0.1, 1, 0], -4.0 * i) for i in range(views)])
    poses = with_centres(turns, np.array([[0.4 * i, 0.05 * i, 0] for i in range(views)]))
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV counts from the centre of the top-left pixel
    images = np.zeros((views, HEIGHT, WIDTH, 3), np.uint8)
    for seed, (z, left, top, width, height) in enumerate(CARDS):
        texture = blobs(seed, (round(height * 60), round(width * 60)))
        card = np.array([[1 / 60, 0, left], [0, 1 / 60, top], [0, 0, z]])
        for image, pose in zip(images, poses, strict=True):
            to_image = np.linalg.inv(half) @ k @ (pose[:, :3] @ card + pose[:, 3:] * [[0, 0, 1]]) @ half
            drawn = cv2.warpPerspective(texture, to_image, (WIDTH, HEIGHT))
            inside = cv2.warpPerspective(np.ones(texture.shape[:2], np.uint8), to_image, (WIDTH, HEIGHT)) > 0
            image[inside] = drawn[inside]
    return EvalScene(
        name="relief",
        slices=(),
        images=images,
        depth=np.zeros((views, HEIGHT, WIDTH), np.float32),
        intrinsics=np.repeat(k[None], views, 0),
        extrinsics=poses,
    )


def blobs(seed: int, size: tuple[int, int]) -> np.ndarray:
    """A texture with structure at all scales."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.uniform(0, 1, (size[0] // s + 1, size[1] // s + 1, 3)).astype(np.float32), size[::-1])
        for s in (4, 8, 16)
    ]
    return np.asarray(np.mean(layers, 0) * 255, np.uint8)


def plain(scene: EvalScene) -> EvalScene:
    return EvalScene(**{**vars(scene), "images": np.full_like(scene.images, 90)})


def colmap() -> Predictor:
    pytest.importorskip("pycolmap")
    return Colmap()


@pytest.mark.parametrize("make", [TwoViewSift, colmap])
def test_cameras_of_a_textured_scene(make: type[TwoViewSift]) -> None:
    run = run_once("it", make(), relief(), given_cameras=False)
    assert run.error is None
    assert run.scores["pose_auc_5"] > 0.95
    assert run.scores["focal_error"] < 0.01
    assert not {"absrel", "f_score"} & set(run.scores)
    assert run.seconds > 0


@pytest.mark.parametrize("make", [TwoViewSift, colmap])
def test_nothing_to_see(make: type[TwoViewSift]) -> None:
    run = run_once("it", make(), plain(relief()), given_cameras=False)
    assert run.error is None
    assert run.scores["rotation_auc_30"] == 0
    assert run.scores["median_rotation_deg"] == 180


@pytest.mark.parametrize("make", [TwoViewSift, colmap])
def test_the_same_every_time(make: type[TwoViewSift]) -> None:
    one, two = (make()(list(relief().images), extrinsics=None, intrinsics=None) for _ in range(2))
    np.testing.assert_array_equal(one.pair_poses, two.pair_poses)
    np.testing.assert_array_equal(one.intrinsics, two.intrinsics)


def test_a_view_that_is_not_registered_is_a_miss() -> None:
    scene = relief(4)
    images = scene.images.copy()
    images[3] = 90
    run = run_once("it", colmap(), EvalScene(**{**vars(scene), "images": images}), given_cameras=False)
    assert run.scores["rotation_auc_30"] == pytest.approx(1 / 2, abs=0.02)


def test_colmap_takes_two_views() -> None:
    run = run_once("it", colmap(), select_views(relief(), [0, 2]), given_cameras=False)
    assert run.scores["pose_auc_5"] > 0.8


def two_view(pose: np.ndarray | None, inliers: int) -> TwoView:
    """Of so many matches that agree; None where no pose was found."""
    return TwoView(
        kind="none" if pose is None else "general",
        rotation=None if pose is None else pose[:, :3],
        direction=np.zeros(3) if pose is None else pose[:, 3],
        rotation_sigma=0.0,
        direction_sigma=0.0,
        focal_factor=1.0,
        inliers=np.ones(inliers, np.bool_),
        errors_px=np.zeros(inliers),
        noise_px=0.0,
        parallax=0.0,
        log10_chance=-9.0,
        ambiguous=False,
        from_prior=False,
        reason="",
    )


def test_pairs_without_a_pose_get_that_of_the_best_supported_chain() -> None:
    """Cameras on a line, one apart: (0, 3) has no pose, the better chain 0-1-3 is exact, the other is not."""
    poses = with_centres(np.stack([rotation([0, 1, 0], 4.0 * i) for i in range(4)]), np.eye(4, 3, k=-1) * 0)
    poses = with_centres(poses[:, :, :3], np.array([[float(i), 0, 0] for i in (0, 1, 1.5, 2)]))
    true = dict(zip(all_pairs(4), relative_poses(poses), strict=True))
    wrong = np.concatenate([np.eye(3), [[0], [0], [1.0]]], 1)
    found = {(0, 1): two_view(true[0, 1], 90), (1, 3): two_view(true[1, 3], 80), (0, 2): two_view(wrong, 20)}
    found |= {(2, 3): two_view(wrong, 30), (0, 3): two_view(None, 0), (1, 2): two_view(None, 0)}
    got = dict(zip(all_pairs(4), classical._pair_poses(4, found), strict=True))
    np.testing.assert_allclose(got[0, 3], true[0, 3], atol=1e-12)
    np.testing.assert_array_equal(got[0, 2], wrong)
    # 0-1-3-2: the edge (2, 3) is better supported than (0, 2), and is walked backwards.
    expected = np.linalg.inv(np.vstack([wrong, [0, 0, 0, 1]])) @ np.vstack([true[1, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(got[1, 2], expected[:3], atol=1e-12)


def test_views_out_of_reach_have_no_pose() -> None:
    step = np.concatenate([np.eye(3), [[1.0], [0], [0]]], 1)
    found = {pair: two_view(None, 0) for pair in all_pairs(3)} | {(1, 2): two_view(step, 50)}
    got = dict(zip(all_pairs(3), classical._pair_poses(3, found), strict=True))
    assert np.isnan(got[0, 1]).all() and np.isnan(got[0, 2]).all()
    np.testing.assert_array_equal(got[1, 2], step)
