"""Losses of drawn pictures, and the head that begins as plain splats."""

from __future__ import annotations

import pytest
import torch

from depth_anything_3.cfg import create_object, load_config
from depth_anything_3.geometry.harmonics import C0
from depth_anything_3.infer.preprocess import IMAGE_MEAN, IMAGE_STD
from depth_anything_3.registry import MODEL_REGISTRY
from depth_anything_3.train.gaussian_losses import free_depth_loss, median_ratio, picture_loss, structure_loss
from depth_anything_3.train.initialise import from_scratch
from depth_anything_3.train.objectives import _split


def pictures(seed: int) -> torch.Tensor:
    coarse = torch.rand(2, 3, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    return (
        torch.nn.functional.interpolate(coarse.flatten(0, 1), (36, 48), mode="bicubic").clamp(0, 1).unflatten(0, (2, 3))
    )


def test_equal_pictures_cost_nothing_and_samples_are_apart() -> None:
    a = pictures(0)
    b = a.clone()
    b[1] = pictures(1)[1]
    for loss in (picture_loss, structure_loss):
        value = loss(a, b)
        assert value.shape == (2,) and value[0].abs() < 1e-6 and value[1] > 0.01


def test_structure_sees_a_blur_more_than_a_tint() -> None:
    a = pictures(0)
    tinted = a * 0.95 + 0.02
    blurred = torch.nn.functional.avg_pool2d(a.flatten(0, 1), 9, 1, 4).unflatten(0, (2, 3))
    scale = picture_loss(tinted, a) / picture_loss(blurred, a)
    assert (structure_loss(tinted, a) < structure_loss(blurred, a) * scale.sqrt()).all()


def test_depth_up_to_scale_and_shift() -> None:
    truth = 1 + torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    valid = torch.ones_like(truth, dtype=torch.bool)
    valid[0, 0] = False
    assert free_depth_loss(0.3 * truth + 0.5, truth, valid).max() < 1e-3
    assert free_depth_loss(truth + 0.2 * torch.rand_like(truth), truth, valid).min() > 0.01
    assert median_ratio(3 * truth, truth, valid).tolist() == pytest.approx([3.0, 3.0])
    assert median_ratio(truth, truth, torch.zeros_like(valid)).tolist() == [1.0, 1.0]


def test_views_are_split_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    splits = [_split(4, 2, generator) for _ in range(50)]
    assert all(sorted(seen + drawn) == [0, 1, 2, 3] for seen, drawn in splits)
    assert {len(drawn) for _, drawn in splits} == {1, 2} and {drawn[0] for _, drawn in splits} == {0, 1, 2, 3}
    assert all(len(_split(2, 5, generator)[1]) == 1 for _ in range(5)), "one view at least is seen"


@torch.no_grad()
def test_a_head_begins_as_plain_splats() -> None:
    network = create_object(load_config(MODEL_REGISTRY["da3-gs-tiny"]))
    from_scratch(network, 0)
    rgb = torch.rand(1, 2, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.from_numpy(v).float()[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    encoded = network.encode((rgb - mean) / std, gaussians=True)
    k = torch.tensor([[30.0, 0, 21], [0, 30, 14], [0, 0, 1]]).expand(1, 2, 3, 3)
    pose = torch.eye(3, 4).expand(1, 2, 3, 4)
    made = network.gs_adapter(encoded.raw_gaussians, encoded.opacity, encoded.depth, pose, k)
    colour = 0.5 + C0 * made.harmonics[0, :, :, 0]
    expected = rgb[0].movedim(1, -1).reshape(-1, 3)
    assert (colour - expected).abs().mean() < 0.03
    z = encoded.depth[0].reshape(-1)
    assert (made.means[0, :, 2] / z - 1).abs().mean() < 0.1
    assert (made.scales[0].mean(-1) / (0.6 * z / 30) - 1).abs().mean() < 0.15
    assert (made.opacities - 0.9).abs().mean() < 0.03
