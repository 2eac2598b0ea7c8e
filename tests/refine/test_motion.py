"""What moves is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from depth_anything_3.errors import CapabilityError, InputError
from depth_anything_3.refine.motion import still_pixels
from depth_anything_3.synth.sample import build, cameras_for, film
from depth_anything_3.types.prediction import Prediction

H, W, FOCAL = 48, 64, 60.0


def iou(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / max((found | truth).sum(), 1))


def noisy(depth: np.ndarray, extrinsics: np.ndarray, intrinsics: np.ndarray, **fields: np.ndarray) -> Prediction:
    """Truth with 1 % of noise in the depth and 0.2 % of the depth in the places of the cameras."""
    rng = np.random.default_rng(0)
    poses = extrinsics[:, :3].astype(np.float32)
    poses[:, :, 3] += 0.002 * np.median(depth) * rng.normal(size=(len(depth), 3))
    seen = (depth * np.exp(0.01 * rng.normal(size=depth.shape))).astype(np.float32)
    lenses = intrinsics.astype(np.float32)
    return Prediction(depth=seen, is_metric=True, extrinsics=poses, intrinsics=lenses, **fields)


def card_before_a_wall(speed: float) -> tuple[Prediction, np.ndarray]:
    """A card 2.5 m away slides past a wall at 4 m; five cameras side by side, one instant each."""
    K = np.array([[FOCAL, 0, W / 2], [0, FOCAL, H / 2], [0, 0, 1]])
    x, y = np.meshgrid((np.arange(W) + 0.5 - W / 2) / FOCAL, (np.arange(H) + 0.5 - H / 2) / FOCAL)
    poses = np.tile(np.eye(3, 4), (5, 1, 1))
    depth, card = np.full((5, H, W), 4.0), np.zeros((5, H, W), bool)
    for i in range(5):
        place = 0.1 * (i - 2)
        poses[i, 0, 3] = -place
        card[i] = (np.abs(2.5 * x + place - speed * (i - 2)) < 0.3) & (np.abs(2.5 * y) < 0.4)
        depth[i][card[i]] = 2.5
    return noisy(depth, poses, np.stack([K] * 5)), card


def test_a_card_that_moves_and_one_that_does_not() -> None:
    prediction, card = card_before_a_wall(0.45)
    assert iou(~still_pixels(prediction), card) > 0.8
    standing, _ = card_before_a_wall(0.0)
    assert still_pixels(standing).all(), "parallax is no motion"
    masked = still_pixels(replace(prediction, valid=~card))
    assert masked.all(), "of what is masked out nothing is known"


def test_a_moving_thing_of_the_procedural_world() -> None:
    times = np.linspace(0, 3, 6).tolist()
    scene, motions = build(9106, moving=2)
    sample = film(scene, motions, cameras_for(scene, motions, times, H, W, seed=9106), H, W, times=times)
    assert sample.moving.mean() > 0.01
    prediction = noisy(sample.depth, sample.extrinsics, sample.intrinsics, sky=sample.sky)
    assert iou(~still_pixels(prediction), sample.moving) > 0.5


def test_refusals() -> None:
    prediction, _ = card_before_a_wall(0.3)
    with pytest.raises(InputError, match="tolerance"):
        still_pixels(prediction, tolerance=0.0)
    with pytest.raises(CapabilityError):
        still_pixels(replace(prediction, extrinsics=None))
    assert still_pixels(replace(prediction, depth=prediction.depth[:1], extrinsics=prediction.extrinsics[:1],
                                intrinsics=prediction.intrinsics[:1])).all()  # fmt: skip
