"""Optimising Gaussians on their views: pictures get better, twice the same, and what does not count is left alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from depth_anything_3.errors import CapabilityError
from depth_anything_3.splat.from_depth import plain_gaussians
from depth_anything_3.splat.refine import with_refined_gaussians
from depth_anything_3.types.gaussians import Gaussians
from depth_anything_3.types.prediction import Prediction

SIZE, VIEWS, STEPS = (16, 24), 3, 30
NAMES = [field.name for field in dataclasses.fields(Gaussians)]


def wall(*, depth_error: float = 0.0) -> Prediction:
    """A wall with a pattern, seen from three places side by side; the depth may be wrong, differently in every view."""
    lens = np.array([[24, 0, 12], [0, 24, 8], [0, 0, 1]], np.float32)
    poses = np.repeat(np.eye(3, 4, dtype=np.float32)[None], VIEWS, 0)
    poses[:, 0, 3] = [0.0, -0.3, 0.3]
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    across = ((x - 12) / 24 * 2)[None] - poses[:, 0, 3, None, None]
    down = np.broadcast_to((y - 8) / 24 * 2, across.shape)
    colour = 0.5 + 0.4 * np.stack((np.sin(9 * across), np.sin(7 * down), np.sin(6 * (across + down))), -1)
    factor = 1 + depth_error * np.array([-1, 0.5, 1], np.float32)
    return Prediction(
        depth=np.full((VIEWS, *SIZE), 2.0, np.float32) * factor[:, None, None],
        is_metric=False,
        extrinsics=poses,
        intrinsics=np.repeat(lens[None], VIEWS, 0),
        processed_images=np.round(255 * colour).astype(np.uint8),
    )


def with_plain(prediction: Prediction) -> Prediction:
    return dataclasses.replace(prediction, gaussians=plain_gaussians(prediction))


def test_the_views_are_met_better_and_every_time_alike() -> None:
    given = with_plain(wall(depth_error=0.08))
    assert given.gaussians is not None
    before = {name: getattr(given.gaussians, name).clone() for name in NAMES}
    told: list[tuple[int, int]] = []
    first = with_refined_gaussians(given, STEPS, on_step=lambda *at: told.append(at))
    report = first.gaussian_refinement
    assert report is not None and first.gaussians is not None
    assert report.psnr_before < 26 and report.psnr_after > report.psnr_before + 4
    assert told == [(i + 1, STEPS) for i in range(STEPS)]
    second = with_refined_gaussians(given, STEPS).gaussians
    for name in NAMES:
        assert torch.equal(getattr(first.gaussians, name), getattr(second, name)), name
        assert torch.equal(getattr(given.gaussians, name), before[name]), f"{name} of the argument was changed"
        assert not torch.equal(getattr(first.gaussians, name), before[name]), f"{name} was not optimised"
    torch.testing.assert_close(first.gaussians.rotations.norm(dim=-1), torch.ones(1, given.depth.size))
    assert report.summary().startswith("Gaussians: ") and f"after {STEPS} steps" in report.summary()


def test_tensors_of_an_inference_and_callers_without_gradients_do() -> None:
    with torch.inference_mode():
        given = with_plain(wall(depth_error=0.05))
        refined = with_refined_gaussians(given, 12)
    assert refined.gaussian_refinement is not None and refined.gaussians is not None
    assert refined.gaussian_refinement.psnr_after > refined.gaussian_refinement.psnr_before + 1
    assert not refined.gaussians.means.requires_grad


def test_masked_pixels_do_not_count_and_what_cannot_be_drawn_stays() -> None:
    given = with_plain(wall())
    assert given.gaussians is not None and given.processed_images is not None
    given.gaussians.means[0, 5] = torch.nan
    given.gaussians.opacities[0, 6] = 0.0
    left = np.zeros(given.depth.shape, bool)
    left[:, :, :12] = True
    spoiled = given.processed_images.copy()
    spoiled[~left] = 255 - spoiled[~left]
    masked = dataclasses.replace(given, valid=left)
    wrong = dataclasses.replace(masked, processed_images=spoiled)
    refined = with_refined_gaussians(masked, 6)
    other = with_refined_gaussians(wrong, 6)
    assert refined.gaussian_refinement == other.gaussian_refinement
    assert refined.gaussians is not None
    assert refined.gaussians.means[0, 5].isnan().all() and float(refined.gaussians.opacities[0, 6]) == 0
    assert refined.gaussians.means[0, :5].isfinite().all()


def test_it_takes_gaussians_with_cameras_and_pictures() -> None:
    for lacking in ("gaussians", "extrinsics", "processed_images"):
        with pytest.raises(CapabilityError, match="infer_gs=True"):
            with_refined_gaussians(dataclasses.replace(with_plain(wall()), **{lacking: None}), 1)
