"""Depth of videos: one scale, no flicker, and motion left alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.flicker import along, flicker
from depth_anything_3.stream.video_depth import VideoDepthOptions, backward_flow, steady_depth
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.render import to_bytes
from depth_anything_3.synth.sample import film
from depth_anything_3.synth.scenes import make_scene
from depth_anything_3.types.prediction import Prediction

FRAMES, HEIGHT, WIDTH = 12, 56, 84


@functools.cache
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Pictures and true depth of a slow walk."""
    import torch

    scene = make_scene(3, "room")
    cameras = make_cameras(scene, 80, HEIGHT, WIDTH, seed=2, kind="walk", fov_deg=70.0)
    some = type(cameras)(intrinsics=cameras.intrinsics[:FRAMES], extrinsics=cameras.extrinsics[:FRAMES])
    sample = film(scene, (), some, HEIGHT, WIDTH)
    return to_bytes(torch.from_numpy(sample.rgb)).numpy(), sample.depth


def oracle(frames: Sequence[int], *, jitter: float) -> Prediction:
    """The truth in a unit of the window's own, with changes of scale and noise from frame to frame."""
    pictures, depth = clip()
    chosen = list(frames)
    rng = np.random.default_rng(chosen[0])
    unit = 2 ** rng.uniform(-1, 1)
    noisy = depth[chosen] * unit * np.exp(jitter * rng.normal(size=(len(chosen), 1, 1)))
    noisy = noisy * np.exp(jitter * rng.normal(size=noisy.shape))
    return Prediction(depth=noisy.astype(np.float32), is_metric=False, processed_images=pictures[chosen])


def errors(depth: np.ndarray) -> np.ndarray:
    """``|log|`` of the ratio to the truth after one factor for the clip."""
    truth = clip()[1]
    known = truth > 0
    log = np.log(depth[known] / truth[known])
    return np.abs(log - np.median(log))


def test_windows_become_one_clip() -> None:
    options = VideoDepthOptions(window=8, overlap=3, smoothing=0.0, steady_scale=False)
    found = steady_depth(lambda frames: oracle(frames, jitter=0.0), FRAMES, options)
    assert found.depth.shape == clip()[1].shape and errors(found.depth).max() < 1e-4


def test_flicker_goes_and_depth_does_not_suffer() -> None:
    plain = VideoDepthOptions(window=8, overlap=3, smoothing=0.0, steady_scale=False)
    before = steady_depth(lambda frames: oracle(frames, jitter=0.05), FRAMES, plain)
    after = steady_depth(lambda frames: oracle(frames, jitter=0.05), FRAMES, VideoDepthOptions(window=8, overlap=3))
    flow = backward_flow(clip()[0])
    assert flicker(after.depth, flow) < 0.4 * flicker(before.depth, flow)
    assert np.median(errors(after.depth)) < np.median(errors(before.depth))
    still = steady_depth(lambda frames: oracle(frames, jitter=0.0), FRAMES)
    assert np.median(errors(still.depth)) < 0.01, "what was right stays right"


def test_the_flow_points_back() -> None:
    pictures = clip()[0]
    flow = backward_flow(pictures)
    moved = np.stack([along(p[..., 1].astype(np.float64), f) for p, f in zip(pictures, flow, strict=False)])
    now = pictures[1:, ..., 1].astype(np.float64)
    assert np.nanmean(np.abs(moved - now)) < 0.7 * np.abs(pictures[:-1, ..., 1].astype(np.float64) - now).mean()


def test_flicker_is_what_comes_and_goes() -> None:
    still = np.zeros((4, 8, 10, 2))
    steady = np.exp(0.1 * np.arange(5))[:, None, None] * np.ones((5, 8, 10))
    assert flicker(steady, still) == pytest.approx(0, abs=1e-12)
    restless = np.where(np.arange(5) % 2, 1.1, 1.0)[:, None, None] * np.ones((5, 8, 10))
    assert flicker(restless, still) == pytest.approx(2 * np.log(1.1))
    with pytest.raises(InputError, match="three frames"):
        flicker(steady[:2], still[:1])


def test_options_are_checked() -> None:
    with pytest.raises(InputError, match="overlap"):
        VideoDepthOptions(window=4, overlap=4)
    with pytest.raises(InputError, match="smoothing"):
        VideoDepthOptions(smoothing=1.0)
