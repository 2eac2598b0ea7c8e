"""The same picture at several sizes: the same metres."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.api import DepthAnything3
from depth_anything_3.metrics.depth import resized_nearest
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import Sample, film
from depth_anything_3.synth.scenes import make_scene


@pytest.fixture(scope="module")
def model() -> DepthAnything3:
    return DepthAnything3.from_pretrained("bundled/da3metric-tiny", device="cpu")


def filmed(seed: int) -> Sample:
    scene = make_scene(seed, "room")
    return film(scene, (), make_cameras(scene, 2, 84, 112, seed=seed, kind="handheld"), 84, 112)


def pictures(sample: Sample) -> list[np.ndarray]:
    return list(to_bytes(torch.from_numpy(sample.rgb)).numpy())


def apart(depth: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Median over the pixels of the difference of log depth, with its sign and without."""
    off = np.log(resized_nearest(other, *depth.shape[1:]) / depth)
    return float(np.median(off)), float(np.median(np.abs(off)))


def test_metres_at_several_sizes(model: DepthAnything3) -> None:
    """Half of the pixels are said to be farther, half nearer; docs/scale.md says by how much."""
    changes = []
    for seed in (1, 2):
        sample = filmed(seed)
        views, lenses = pictures(sample)[:1], sample.intrinsics[:1]
        own = model.inference(views, intrinsics=lenses).depth
        found = model.inference(views, intrinsics=lenses, process_res=224).depth
        alone = model.inference(views, intrinsics=lenses, process_res=224, metric_res=224).depth
        assert abs(apart(found, own)[0]) < 0.02 < abs(apart(alone, own)[0])
        changes.append((apart(found, own)[1], apart(alone, own)[1]))
    after, before = np.mean(changes, 0)
    assert after < 0.1 and after < 0.7 * before


def test_both_verbs_and_every_scale_agree(model: DepthAnything3) -> None:
    """Views of a network without cameras have a unit each; a nested one has one for depth and cameras alike."""
    sample = filmed(3)
    views, lenses = pictures(sample), sample.intrinsics
    together = model.inference(views, intrinsics=lenses, process_res=140)
    singles = model.depth(views, intrinsics=lenses, process_res=140)
    for one, other in zip(singles, together.depth, strict=True):  # but for sky: as far as the farthest seen together
        assert np.isclose(one.depth[0], other, rtol=1e-5).mean() > 0.95
    nested = DepthAnything3.from_pretrained("bundled/da3nested-tiny", device="cpu")
    assert nested.metric_res == model.metric_res == 168
    plain, found = (nested.inference(views, process_res=140, metric_res=size) for size in (140, None))
    factor = found.depth / plain.depth
    np.testing.assert_allclose(factor, factor[0, 0, 0], rtol=1e-5)
    assert plain.extrinsics is not None and found.extrinsics is not None and factor[0, 0, 0] != 1
    np.testing.assert_allclose(found.extrinsics[:, :, 3], factor[0, 0, 0] * plain.extrinsics[:, :, 3], rtol=1e-5)


def test_no_metres_no_effect(model: DepthAnything3) -> None:
    with pytest.warns(UserWarning, match="metric_res has no effect"):
        model.inference(pictures(filmed(1))[:1], process_res=56, metric_res=112)
