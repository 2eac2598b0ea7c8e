"""Exposure, blur, noise and JPEG do what they say, with no hidden randomness."""

from __future__ import annotations

import pytest
import torch

from depth_anything_3.errors import InputError
from depth_anything_3.synth.photo import add_noise, blur, expose, jpeg


def picture() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 60), indexing="ij")
    return torch.stack((x, y, 0.5 + 0.4 * torch.sin(40 * x)), -1)[None].repeat(2, 1, 1, 1)


def test_exposure_doubles_the_light() -> None:
    grey = torch.full((1, 2, 2, 3), 0.5)
    assert float((expose(grey, 1.0) ** 2.2 / grey**2.2).mean()) == pytest.approx(2, rel=1e-5)
    assert expose(grey, 9.0).max() == 1
    torch.testing.assert_close(expose(picture(), 0.0), picture())


def test_blur_keeps_the_mean_and_spreads_a_point() -> None:
    point = torch.zeros(1, 31, 31, 3)
    point[0, 15, 15] = 1
    soft = blur(point, 2.0)
    assert float(soft.sum()) == pytest.approx(3, rel=1e-4)
    x = torch.arange(31.0) - 15
    assert float((soft[0, :, :, 0].sum(0) * x * x).sum()) == pytest.approx(4, rel=0.03)
    torch.testing.assert_close(blur(torch.full((4, 5, 3), 0.3), 1.5), torch.full((4, 5, 3), 0.3))
    assert torch.equal(blur(picture(), 0), picture())


def test_noise_comes_from_the_generator() -> None:
    one, same, other = (
        add_noise(picture(), shot=0.05, read=0.02, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    grey = torch.full((1, 200, 200, 3), 0.5)
    noisy = add_noise(grey, shot=0.04, read=0.01, generator=torch.Generator().manual_seed(0))
    assert float(noisy.std()) == pytest.approx((0.04**2 * 0.5 + 0.01**2) ** 0.5, rel=0.03)


def test_jpeg_loses_more_with_less_quality() -> None:
    losses = [float((jpeg(picture(), quality) - picture()).abs().mean()) for quality in (95, 50, 10)]
    assert 0 < losses[0] < losses[1] < losses[2] < 0.1
    assert jpeg(picture(), 90).shape == picture().shape


def test_arguments_are_left_alone_and_checked() -> None:
    given = picture()
    for result in (expose(given, 1), blur(given, 1), jpeg(given, 50)):
        assert not torch.equal(result, given)
    assert torch.equal(given, picture())
    for wrong in (lambda: blur(given, -1), lambda: jpeg(given, 0)):
        with pytest.raises(InputError):
            wrong()
    with pytest.raises(InputError, match="read"):
        add_noise(given, shot=-1, read=0, generator=torch.Generator())
