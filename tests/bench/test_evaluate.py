"""The protocol rewards the truth, does not see the gauge, and survives predictors that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.poses import disturbed, in_another_world
from support.scenes import wall

from depth_anything_3.bench.evaluate import Estimate, Run, evaluate, run_once, score
from depth_anything_3.bench.report import COLUMNS
from depth_anything_3.bench.scenes import EvalScene, evenly_spaced, select_views
from depth_anything_3.bench.trivial import trivial_predictors
from depth_anything_3.errors import Cancelled, InputError
from depth_anything_3.metrics.pose import relative_poses

DEPTH_SCORES = {"absrel", "delta_1.25", "f_score"}
POSE_SCORES = {"pose_auc_5", "pose_auc_15", "pose_auc_30", "rotation_auc_30", "median_rotation_deg"}


def truth(scene: EvalScene, *, scale: float = 1.0, seed: int = 0) -> Estimate:
    """The answers, in another world and unit."""
    return Estimate(
        depth=scene.depth * scale,
        extrinsics=in_another_world(scene.extrinsics, seed, scale),
        intrinsics=scene.intrinsics,
    )


def oracle(scene: EvalScene) -> Callable[..., Estimate]:
    """A predictor that knows the scene and finds the views it was shown by their pixels."""

    def predict(images: list[npt.NDArray[np.uint8]], **_: Any) -> Estimate:
        indices = [next(i for i, known in enumerate(scene.images) if (known == image).all()) for image in images]
        return truth(select_views(scene, indices), scale=3.0)

    return predict


def cameras_only(scene: EvalScene) -> EvalScene:
    return EvalScene(**{**vars(scene), "depth": np.zeros_like(scene.depth)})


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_the_truth_is_perfect_in_any_world_and_unit(views: int) -> None:
    scene = select_views(wall(), evenly_spaced(8, views))
    scores = score(truth(scene, scale=7.0), scene, given_cameras=False)
    assert set(scores) == DEPTH_SCORES | {"focal_error"} | (POSE_SCORES if views > 1 else set())
    assert set(scores) <= set(COLUMNS)
    for name, value in scores.items():
        best = 0 if name in ("absrel", "focal_error", "median_rotation_deg") else 1
        assert value == pytest.approx(best, abs=1e-6), name


def test_worlds_of_the_prediction_do_not_matter() -> None:
    scene = wall()
    predicted = disturbed(scene.extrinsics, 1, 2, 0.02)
    depth = scene.depth * np.exp(np.random.default_rng(0).normal(size=scene.depth.shape) * 0.01).astype(np.float32)
    scores = [
        score(
            Estimate(
                depth=depth * scale, extrinsics=in_another_world(predicted, seed, scale), intrinsics=scene.intrinsics
            ),
            scene,
            given_cameras=False,
        )
        for seed, scale in ((0, 1.0), (1, 5.0))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)
    assert 0.05 < scores[0]["f_score"] < 0.99
    assert scores[0]["absrel"] > 1e-3


def test_given_cameras_are_not_scored_and_place_the_points() -> None:
    scene = wall()
    wrong = Estimate(depth=scene.depth * 2, extrinsics=np.zeros((8, 3, 4)), intrinsics=np.ones((8, 3, 3)))
    scores = score(wrong, scene, given_cameras=True)
    assert set(scores) == DEPTH_SCORES
    assert scores["f_score"] == pytest.approx(1)


def test_depth_and_cameras_must_agree_in_scale() -> None:
    scene = wall()
    good = truth(scene)
    assert good.extrinsics is not None
    apart = Estimate(
        depth=good.depth, extrinsics=in_another_world(scene.extrinsics, 0, 1.5), intrinsics=good.intrinsics
    )
    scores = score(apart, scene, given_cameras=False)
    assert scores["pose_auc_30"] == pytest.approx(1)
    assert scores["absrel"] == pytest.approx(0, abs=1e-6)
    assert scores["f_score"] < 0.9


def test_one_scale_for_all_views() -> None:
    scene = wall()
    factors = np.where(np.arange(8) < 5, 1.0, 1.1)[:, None, None]
    scores = score(Estimate(depth=scene.depth * factors), scene, given_cameras=False)
    assert scores == {"absrel": pytest.approx(0.1 * 3 / 8), "delta_1.25": 1}


def test_views_count_the_same_however_much_of_them_is_known() -> None:
    scene = wall(views=2)
    depth = scene.depth.copy()
    depth[1, :-1] = 0
    scene = EvalScene(**{**vars(scene), "depth": depth})
    scores = score(Estimate(depth=depth * np.array([1, 2.0])[:, None, None]), scene, given_cameras=False)
    assert scores["absrel"] == pytest.approx(0.5)
    depth = np.where(np.arange(2)[:, None, None] == 0, scene.depth, 0)
    scene = EvalScene(**{**vars(scene), "depth": depth})
    assert score(Estimate(depth=np.ones_like(depth)), scene, given_cameras=False)["delta_1.25"] > 0


@pytest.mark.parametrize("factor", [0.5, 2])
def test_an_estimate_of_another_size(factor: float) -> None:
    scene = wall()
    h, w = (int(s * factor) for s in scene.depth.shape[1:])
    rows, columns = (((np.arange(n) + 0.5) / factor).astype(int) for n in (h, w))
    k = scene.intrinsics * np.array([[factor], [factor], [1]])
    estimate = Estimate(depth=scene.depth[:, rows[:, None], columns], extrinsics=scene.extrinsics, intrinsics=k)
    scores = score(estimate, scene, given_cameras=False)
    assert scores["focal_error"] == pytest.approx(0, abs=1e-9)
    assert scores["absrel"] < 0.02
    assert scores["f_score"] > 0.9


def test_a_scene_of_cameras_alone() -> None:
    scene = cameras_only(wall())
    scores = score(Estimate(**vars(truth(wall()))), scene, given_cameras=False)
    assert set(scores) == POSE_SCORES | {"focal_error"}
    runs = evaluate({"truth": oracle(scene)}, [scene], view_counts=[2])
    assert [run.given_cameras for run in runs] == [False]


def test_pairs_of_views_without_a_common_world() -> None:
    scene = wall(views=3)
    pairs = relative_poses(in_another_world(scene.extrinsics, 0, 1.0))
    pairs[:, :, 3] *= np.array([[2.0], [5], [0.1]])  # lengths of baselines say nothing
    scores = score(Estimate(pair_poses=pairs, intrinsics=scene.intrinsics), scene, given_cameras=False)
    assert set(scores) == POSE_SCORES | {"focal_error"}
    assert scores["pose_auc_5"] == pytest.approx(1)
    assert scores["focal_error"] == pytest.approx(0)  # in pixels of the images
    pairs[:2] = np.nan
    scores = score(Estimate(pair_poses=pairs), scene, given_cameras=False)
    assert set(scores) == POSE_SCORES
    assert scores["pose_auc_30"] == scores["rotation_auc_30"] == pytest.approx(1 / 3)
    assert scores["median_rotation_deg"] == 180


def test_small_baselines_count_by_rotation() -> None:
    scene = wall(views=2)
    extrinsics = scene.extrinsics.copy()
    extrinsics[:, :, 3] = [[0, 0, 0], [0.03, 0, 0]]  # 1.5 % of the distance
    scene = EvalScene(**{**vars(scene), "extrinsics": extrinsics})
    back = extrinsics.copy()
    back[1, 0, 3] *= -1
    assert score(Estimate(depth=scene.depth, extrinsics=back), scene, given_cameras=False)["pose_auc_5"] == 1
    extrinsics[1, 0, 3], back[1, 0, 3] = 0.06, -0.06
    scene = EvalScene(**{**vars(scene), "extrinsics": extrinsics})
    assert score(Estimate(depth=scene.depth, extrinsics=back), scene, given_cameras=False)["pose_auc_5"] == 0


def test_missing_pixels_cost() -> None:
    scene = wall()
    depth = scene.depth.copy()
    depth[:, :, 24:] = np.nan
    scores = score(Estimate(depth=depth), scene, given_cameras=True)
    assert scores["absrel"] == pytest.approx(0.5)
    assert scores["delta_1.25"] == pytest.approx(0.5)
    assert scores["f_score"] < 0.95


def test_what_predictors_are_shown() -> None:
    calls: list[tuple[int, Any, Any]] = []
    scene = wall()

    def predict(images: list[npt.NDArray[np.uint8]], *, extrinsics: Any, intrinsics: Any) -> Estimate:
        calls.append((len(images), extrinsics, intrinsics))
        images[0][:] = 0  # a rude one
        return Estimate(depth=np.ones((len(images), 4, 4)))

    runs = evaluate({"rude": predict}, [scene])
    assert [(r.views, r.given_cameras) for r in runs] == [(n, g) for n in (1, 2, 4, 8) for g in (False, True)]
    assert [r.error for r in runs] == [None] * 8
    for count, extrinsics, intrinsics in calls[::2]:
        assert (extrinsics, intrinsics) == (None, None)
        assert count in (1, 2, 4, 8)
    np.testing.assert_allclose(calls[3][1], scene.extrinsics[[0, 7]], atol=1e-6)
    assert calls[3][1].dtype == np.float32
    assert scene.images[0].any()


def test_views_that_a_scene_does_not_have_are_left_out() -> None:
    scenes = [wall("many"), wall("few", views=3)]
    runs = evaluate(trivial_predictors(scenes), scenes, given_cameras=[False])
    assert sorted({run.views for run in runs if run.scene == "few"}) == [1, 2]
    assert sorted({run.views for run in runs if run.scene == "many"}) == [1, 2, 4, 8]


def nothing(images: list[Any], **_: Any) -> Estimate:
    return Estimate(depth=np.full((len(images), 4, 4), np.nan))


def crash(images: list[Any], **_: Any) -> Estimate:
    raise RuntimeError("out of memory")


def one_view(images: list[Any], **_: Any) -> Estimate:
    return Estimate(depth=np.ones((1, 4, 4)))


def lost(images: list[Any], **_: Any) -> Estimate:
    return Estimate(depth=np.ones((len(images), 4, 4)), extrinsics=np.full((len(images), 3, 4), np.nan))


@pytest.mark.parametrize(
    ("predictor", "message"),
    [(nothing, "no pixel to compare"), (crash, "out of memory"), (one_view, "one per image"), (lost, "not finite")],
)
def test_failures_are_results(predictor: Callable[..., Estimate], message: str) -> None:
    heard: list[Run] = []
    scenes = [wall("a"), wall("b")]
    runs = evaluate(
        {"bad": predictor, "good": oracle(scenes[0])},
        scenes,
        view_counts=[2],
        given_cameras=[False],
        on_run=heard.append,
    )
    assert heard == runs
    assert all(run.seconds >= 0 for run in runs)
    assert [run.error is None for run in runs] == [False, True, False, True]
    assert message in (runs[0].error or "")
    assert runs[0].scores == {}


def test_cancelling_ends_the_evaluation() -> None:
    def cancelled(images: list[Any], **_: Any) -> Estimate:
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        run_once("it", cancelled, wall(), given_cameras=False)


def test_trivial_predictors_are_far_from_perfect_and_near_each_other() -> None:
    scenes = [wall("near"), wall("far", distance=9)]
    runs = evaluate(trivial_predictors(scenes), scenes, view_counts=[4], given_cameras=[False, True])
    assert all(run.error is None for run in runs)
    free = [run.scores for run in runs if not run.given_cameras]
    for scores in free:
        assert scores["pose_auc_30"] == 0
        assert scores["rotation_auc_30"] == pytest.approx(0.6, abs=0.3)
        assert scores["focal_error"] == pytest.approx(0)
        assert scores["absrel"] > 0.01
    # The scenes differ in their unit alone: so do not the guesses.
    assert free[0] == pytest.approx(free[3], abs=0.02)
    # The map knows which side of the wall is farther.
    assert free[0]["absrel"] < free[2]["absrel"]


def test_trivial_predictors_hand_given_cameras_back() -> None:
    scene = wall()
    for predictor in trivial_predictors([scene]).values():
        estimate = predictor(list(scene.images), extrinsics=scene.extrinsics, intrinsics=scene.intrinsics)
        assert estimate.extrinsics is scene.extrinsics
        assert estimate.intrinsics is scene.intrinsics


def test_errors() -> None:
    with pytest.raises(InputError, match="two scenes"):
        evaluate({}, [wall(), wall()])
    with pytest.raises(InputError, match="view_counts"):
        evaluate({}, [wall()], view_counts=[0])
    for fields in (
        {"depth": np.ones((4, 4))},
        {"depth": np.ones((2, 4, 4)), "extrinsics": np.zeros((2, 4, 4))},
        {"depth": np.ones((2, 4, 4)), "conf": np.zeros((2, 4, 5))},
        {"depth": np.ones((3, 4, 4)), "pair_poses": np.zeros((2, 3, 4))},
        {"extrinsics": np.zeros((2, 3, 4)), "pair_poses": np.zeros((1, 3, 4))},
    ):
        with pytest.raises(InputError, match=list(fields)[-1]):
            Estimate(**fields)
    with pytest.raises(InputError, match="depth"):
        trivial_predictors([])


def test_patch_matches_are_scored_where_patches_have_counterparts() -> None:
    """Two equal views: every patch with a depth has itself as its counterpart."""
    depth = np.full((2, 28, 42), 2.0, np.float32)
    depth[:, :14] = 0
    lens = np.array([[30.0, 0, 21], [0, 30, 14], [0, 0, 1]])
    scene = EvalScene(
        name="equal",
        slices=(),
        images=np.zeros((2, 28, 42, 3), np.uint8),
        depth=depth,
        intrinsics=np.stack([lens, lens]),
        extrinsics=np.tile(np.eye(3, 4), (2, 1, 1)),
    )
    best = np.tile(np.arange(6), (2, 2, 1))
    best[0, 1, 5] = 0
    scores = score(Estimate(depth=depth + 1, patch_matches=best), scene, given_cameras=False)
    assert scores["matching_top1"] == pytest.approx((2 / 3 + 1) / 2)
