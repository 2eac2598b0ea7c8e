"""Windows of a known world, brought back together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.sim3 import Sim3, sim3_exp, sim3_log
from depth_anything_3.stream.alignment import SampledViews, align_views, sample_views
from depth_anything_3.types.prediction import Prediction


def _views(seed: int = 0, frames: int = 10, samples: int = 600) -> SampledViews:
    rng = np.random.default_rng(seed)
    cameras = sim3_exp(
        np.concatenate([rng.normal(size=(frames, 3)), 0.1 * rng.normal(size=(frames, 3)), np.zeros((frames, 1))], 1)
    )
    return SampledViews(cameras=cameras, depth=np.exp(rng.normal(1.5, 0.6, (frames, samples))))


def _elsewhere(views: SampledViews, target_from_source: Sim3, seed: int, *, noise: float, wrong: float) -> SampledViews:
    """The same views in a world from which ``target_from_source`` leads back, with errors of pixels."""
    rng = np.random.default_rng(seed)
    placed = target_from_source.inverse() @ views.cameras
    depth = views.depth / target_from_source.scale * np.exp(noise * rng.normal(size=views.depth.shape))
    bad = rng.random(depth.shape) < wrong
    depth = np.where(bad, depth * np.exp(rng.uniform(-1, 2, depth.shape)), depth)
    return SampledViews(cameras=Sim3(placed.rotation, placed.translation, np.ones(len(views))), depth=depth)


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.0, 10.0])
def test_scale_rotation_and_place_despite_outliers(scale: float) -> None:
    for seed in range(5):
        true = sim3_exp(np.random.default_rng(seed).normal(size=7))
        true = Sim3(true.rotation, true.translation, np.asarray(scale))
        target = _views(seed)
        found = align_views(target, _elsewhere(target, true, seed, noise=0.03, wrong=0.3))
        error = sim3_log(found.similarity.inverse() @ true)
        assert abs(error[6]) < 2e-3
        assert np.degrees(np.linalg.norm(error[3:6])) < 0.05
        assert np.linalg.norm(found.similarity.translation - true.translation) < 0.01 * max(scale, 1)
        assert 0.65 < found.agreeing < 0.9
        assert found.frames == len(target)


def test_a_frame_that_went_astray_changes_little() -> None:
    target = _views()
    source = _elsewhere(target, sim3_exp(np.full(7, 0.3)), 1, noise=0.01, wrong=0.0)
    push = np.zeros((10, 7))
    push[3] = [0.5, 0, 0, 0.3, 0, 0, 0]
    astray = source.cameras @ sim3_exp(push)
    depth = source.depth.copy()
    depth[3] *= 2
    found = align_views(target, SampledViews(cameras=astray, depth=depth))
    clean = align_views(target, source)
    change = sim3_log(found.similarity.inverse() @ clean.similarity)
    assert np.abs(change).max() < 0.01
    assert np.trace(found.covariance) > np.trace(clean.covariance)


def test_covariance_grows_with_disagreement() -> None:
    target = _views()
    source = _elsewhere(target, sim3_exp(np.full(7, 0.3)), 1, noise=0.03, wrong=0.1)
    shaken = source.cameras @ sim3_exp(0.02 * np.random.default_rng(2).normal(size=(10, 7)) * [1, 1, 1, 1, 1, 1, 0])
    rough = align_views(target, SampledViews(cameras=shaken, depth=source.depth)).covariance
    smooth = align_views(target, source).covariance
    assert (np.linalg.eigvalsh(smooth) > 0).all()
    assert np.diagonal(rough)[:6].sum() > 5 * np.diagonal(smooth)[:6].sum()


def test_one_shared_frame_is_enough() -> None:
    true = sim3_exp(np.array([1, 2, 3, 0.1, 0.2, 0.3, 0.4]))
    target = _views(frames=1)
    error = sim3_log(
        align_views(target, _elsewhere(target, true, 0, noise=0.03, wrong=0.1)).similarity.inverse() @ true
    )
    assert np.abs(error).max() < 0.02


def test_without_depth_the_cameras_tell_the_scale() -> None:
    true = sim3_exp(np.array([1, 2, 3, 0.1, 0.2, 0.3, 0.4]))
    target = _views()
    source = _elsewhere(target, true, 0, noise=0.0, wrong=0.0)
    blind = SampledViews(cameras=source.cameras, depth=np.full_like(source.depth, np.nan))
    found = align_views(target, blind)
    assert found.frames == 0
    assert found.agreeing == 0
    np.testing.assert_allclose(float(found.similarity.scale), float(true.scale), rtol=1e-6)


def test_metric_windows_keep_their_scale() -> None:
    target = _views()
    source = _elsewhere(target, sim3_exp(np.array([1, 2, 3, 0.1, 0.2, 0.3, 0.02])), 0, noise=0.03, wrong=0.1)
    assert float(align_views(target, source, fixed_scale=True).similarity.scale) == 1.0


def test_what_is_not_sampled() -> None:
    depth = np.full((1, 40, 40), 2.0, np.float32)
    depth[:, :, 20:] = 4.0
    depth[:, 5:8, 5:8] = np.nan
    sky = np.zeros(depth.shape, bool)
    sky[:, 30:] = True
    pose = np.eye(4, dtype=np.float32)[None, :3]
    prediction = Prediction(depth=depth, is_metric=False, sky=sky, extrinsics=pose)
    sampled = sample_views(prediction).depth
    kept = np.isfinite(sampled[0]).reshape(38, 38)  # the border is one pixel
    assert not kept[29:].any()
    assert not kept[:, 18:20].any()
    assert not kept[4:7, 4:7].any()
    assert kept[10:25, 5:15].all()
    with pytest.raises(InputError, match="cameras"):
        sample_views(replace(prediction, extrinsics=None))


@pytest.mark.usefixtures("unchecked_shapes")
def test_other_numbers_of_frames() -> None:
    with pytest.raises(InputError, match="source"):
        align_views(_views(frames=3), _views(frames=4))
