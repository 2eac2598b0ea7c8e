"""The scale of depth from given cameras, where the predicted places say nothing."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from support.poses import centres, with_centres

from depth_anything_3.infer.depth_ratios import scale_from_depth_ratios
from depth_anything_3.infer.postprocess import to_prediction
from depth_anything_3.infer.preprocess import preprocess
from depth_anything_3.synth.cameras import make_cameras
from depth_anything_3.synth.sample import Sample, film
from depth_anything_3.synth.scenes import make_scene
from depth_anything_3.types.options import InferOptions, PreprocessOptions
from depth_anything_3.types.output import NetOutput

UNIT = 0.2  # of the oracle in metres


@functools.cache
def orbit() -> Sample:
    scene = make_scene(11, "room")
    return film(scene, (), make_cameras(scene, 4, 84, 112, seed=4, kind="orbit"), 84, 112)


def oracle_depth() -> np.ndarray:
    sample = orbit()
    noise = np.exp(0.02 * np.random.default_rng(0).normal(size=sample.depth.shape))
    return sample.depth * noise / UNIT


def test_it_is_found() -> None:
    sample = orbit()
    found = scale_from_depth_ratios(oracle_depth(), sample.intrinsics, sample.extrinsics.astype(np.float64), sample.sky)
    assert found is not None and found.error < 0.05
    assert found.scale == pytest.approx(UNIT, rel=0.03)


def test_nothing_is_made_up() -> None:
    sample = orbit()
    still = with_centres(sample.extrinsics[:, :, :3].astype(np.float64), np.zeros((4, 3)))
    assert scale_from_depth_ratios(oracle_depth(), sample.intrinsics, still) is None
    guess = np.exp(np.random.default_rng(0).normal(size=sample.depth.shape))
    assert scale_from_depth_ratios(guess, sample.intrinsics, sample.extrinsics.astype(np.float64)) is None


@pytest.mark.parametrize("places", ["collapsed", "guessed"])
def test_predicted_places_that_say_nothing(places: str) -> None:
    """Right depth and orientations with useless positions: the result is in the caller's unit all the same."""
    import torch

    sample = orbit()
    given, K = sample.extrinsics.astype(np.float64), sample.intrinsics.astype(np.float64)
    inputs = preprocess(
        [np.zeros((84, 112, 3), np.uint8)] * 4,
        extrinsics=given,
        intrinsics=K,
        options=PreprocessOptions(process_res=112),
    )
    guess = {"collapsed": np.zeros((4, 3)), "guessed": np.random.default_rng(3).normal(size=(4, 3))}[places]
    output = NetOutput(
        depth=torch.from_numpy(oracle_depth())[None],
        extrinsics=torch.from_numpy(with_centres(given[:, :, :3], guess))[None],
        intrinsics=torch.from_numpy(K)[None],
    )
    found = to_prediction(output, inputs, InferOptions(), "any")
    assert found.alignment is not None and found.alignment.rule == "depth ratios"
    assert found.alignment.scale == pytest.approx(UNIT, rel=0.03)
    known = sample.depth > 0
    assert np.median(found.depth[known] / sample.depth[known]) == pytest.approx(1, rel=0.03)
    assert found.extrinsics is not None
    np.testing.assert_allclose(centres(found.extrinsics), centres(given), atol=1e-5)
