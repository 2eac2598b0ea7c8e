"""The protocol that scores refinement by itself."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.bench.refinement import (
    DEPTH,
    FOCAL,
    ROTATION_DEG,
    Outcome,
    Scores,
    markdown,
    oracle,
    render_scene,
    with_overlay,
)
from depth_anything_3.metrics.pose import pair_errors, rotation_angle_deg
from depth_anything_3.refine.features import detect_sift


def test_the_oracle_errs_as_stated() -> None:
    sample = render_scene("wide", 910_003)
    prediction, pictures = oracle(sample, 3)
    assert prediction.extrinsics is not None and prediction.intrinsics is not None
    turned = prediction.extrinsics[1:, :, :3].astype(np.float64) @ sample.extrinsics[1:, :, :3].swapaxes(1, 2)
    np.testing.assert_allclose(rotation_angle_deg(turned), ROTATION_DEG, atol=1e-3)
    np.testing.assert_allclose(prediction.extrinsics[0], sample.extrinsics[0], atol=1e-6)
    ratio = np.log(prediction.intrinsics[:, 0, 0] / sample.intrinsics[:, 0, 0])
    np.testing.assert_allclose(np.abs(ratio), FOCAL, atol=1e-4)
    known = sample.depth > 0
    assert np.log(prediction.depth[known] / sample.depth[known]).std() == pytest.approx(0.7 * DEPTH, rel=0.4)
    assert (pictures.pixels == prediction.processed_images).all()
    assert np.median(pair_errors(prediction.extrinsics.astype(np.float64), sample.extrinsics).rotation_deg) > 3


def test_neighbours_of_textured_scenes_look_alike() -> None:
    sample = render_scene("textured", 910_001)
    rotations = sample.extrinsics[:, :, :3].astype(np.float64)
    turned = rotation_angle_deg(rotations[:, None] @ rotations[None].swapaxes(-1, -2))
    reached, before = {0}, set[int]()
    while reached != before:
        before, reached = reached, reached | {j for i in reached for j in np.flatnonzero(turned[i] <= 40).tolist()}
    assert reached == set(range(6))
    wide = render_scene("wide", 910_001).extrinsics[:, :, :3].astype(np.float64)
    assert rotation_angle_deg(wide[:, None] @ wide[None].swapaxes(-1, -2)).max() > turned.max()
    assert min(len(detect_sift(picture).xy) for picture in sample.rgb) >= 200


def test_the_overlay_covers_a_quarter_and_moves() -> None:
    plain = np.zeros((4, 60, 80, 3), np.uint8)
    covered = with_overlay(plain, 0)
    share = (covered != plain).any(-1).mean((1, 2))
    np.testing.assert_allclose(share, 0.25, atol=0.01)
    places = [np.argwhere(picture.any(-1)).min(0).tolist() for picture in covered]
    assert len({tuple(place) for place in places}) > 1
    assert not plain.any()


def test_the_report_shows_medians_and_every_scene() -> None:
    def scores(value: float) -> Scores:
        return Scores(
            rotation_deg=value,
            direction_deg=value,
            auc_30=value,
            focal=value,
            depth_median=value,
            depth=value,
            delta=value,
        )

    outcomes = [
        Outcome(kind="textured", seed=seed, before=scores(5.0), after=scores(value), placed=placed)
        for seed, value, placed in ((1, 0.1, 6), (2, 0.3, 6), (3, 9.0, 3))
    ]
    text = markdown(outcomes)
    assert "| textured, after | 83% | 0.300 |" in text and "| textured, before |  | 5.000 |" in text
    assert "| textured 3 | 3 of 6 | 5.00 → 9.000 |" in text
