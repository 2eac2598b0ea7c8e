"""The normalisation in front of the camera decoder, and how it disappears again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from depth_anything_3.model.cam_dec import CameraDec
from depth_anything_3.train.camera_norm import FoldableNorm, fold, unfold

CHANNELS = 24


def tokens(seed: int, count: int = 64) -> Tensor:
    """As the backbone gives them: far from zero, channels of different sizes."""
    g = torch.Generator().manual_seed(seed)
    spread = torch.linspace(1, 20, CHANNELS)
    return 30 * torch.linspace(-1, 1, CHANNELS) + spread * torch.randn(4, count // 4, CHANNELS, generator=g)


@pytest.fixture
def decoder() -> CameraDec:
    """In double precision, like the norm and the tokens beside it: rounding is not what is tested here."""
    decoder = CameraDec(CHANNELS).double()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=g))
    return decoder


@pytest.fixture
def norm() -> FoldableNorm:
    norm = FoldableNorm(CHANNELS)
    norm.start_at(tokens(1).flatten(0, 1))
    return norm.double().eval()


def test_folding_in_changes_no_output(decoder: CameraDec, norm: FoldableNorm) -> None:
    x = tokens(2).double()
    expected = decoder(norm(x))
    raw = decoder(x)
    fold(decoder, norm)
    torch.testing.assert_close(decoder(x), expected, rtol=1e-5, atol=1e-5)
    assert (raw - expected).abs().max() > 1  # so that the comparison says something


def test_taking_out_changes_no_output(decoder: CameraDec, norm: FoldableNorm) -> None:
    x = tokens(2).double()
    expected = decoder(x)
    unfold(decoder, norm)
    torch.testing.assert_close(decoder(norm(x)), expected, rtol=1e-5, atol=1e-5)


def test_folding_goes_there_and_back(decoder: CameraDec, norm: FoldableNorm) -> None:
    before = copy.deepcopy(decoder.state_dict())
    fold(decoder, norm)
    changed = [n for n, v in decoder.state_dict().items() if not torch.equal(v, before[n])]
    assert changed == ["backbone.0.weight", "backbone.0.bias"]
    unfold(decoder, norm)
    for name, value in decoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=1e-5, atol=1e-5)


def test_the_first_batch_is_taken_as_it_is() -> None:
    norm, x = FoldableNorm(CHANNELS), tokens(0)
    flat = norm(x).flatten(0, 1)
    torch.testing.assert_close(norm.mean, x.flatten(0, 1).mean(0))
    torch.testing.assert_close(flat.mean(0), torch.zeros(CHANNELS), rtol=0, atol=1e-4)
    torch.testing.assert_close(flat.var(0, correction=0), torch.ones(CHANNELS), rtol=0.02, atol=0)


def test_a_token_that_hardly_varies_is_not_blown_up() -> None:
    norm = FoldableNorm(CHANNELS)
    assert float(norm(30 + 1e-4 * tokens(0)).detach().abs().max()) < 0.1
    assert float(norm.scale().min()) > 0.05


def test_the_first_batches_are_averaged_and_later_ones_followed_slowly() -> None:
    norm = FoldableNorm(CHANNELS, momentum=0.25)
    batches = [tokens(i) for i in range(3)]
    for x in batches:
        norm(x)
    means = [x.flatten(0, 1).mean(0) for x in batches]
    variances = [x.flatten(0, 1).var(0, correction=0) for x in batches]
    torch.testing.assert_close(norm.mean, sum(means) / 3)
    torch.testing.assert_close(norm.variance, sum(variances) / 3)
    for i in (3, 4):
        before = norm.mean.clone()
        norm(tokens(i))
        torch.testing.assert_close(norm.mean, 0.75 * before + 0.25 * tokens(i).flatten(0, 1).mean(0))


def test_statistics_stay_in_evaluation_and_without_gradients() -> None:
    norm = FoldableNorm(CHANNELS)
    norm(tokens(0))
    before = copy.deepcopy(norm.state_dict())
    with torch.no_grad():
        norm(tokens(1))
    norm.eval()(tokens(2))
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name
    norm.train()(tokens(3))
    assert not torch.equal(norm.mean, before["mean"])


def test_statistics_are_constants_for_the_gradient() -> None:
    norm, x = FoldableNorm(CHANNELS), tokens(0).requires_grad_()
    norm(x).sum().backward()
    expected = (1 / norm.scale()).expand_as(x)
    torch.testing.assert_close(x.grad, expected)


def test_after_start_at_a_batch_moves_little() -> None:
    norm = FoldableNorm(CHANNELS, momentum=0.02)
    start = tokens(1).flatten(0, 1)
    norm.start_at(start)
    torch.testing.assert_close(norm.mean, start.mean(0))
    norm(tokens(2) + 1000)
    torch.testing.assert_close(
        norm.mean, start.mean(0) + 0.02 * (tokens(2).flatten(0, 1).mean(0) + 1000 - start.mean(0))
    )


def test_moving_to_the_tokens_of_another_network_leaves_what_the_decoder_reads() -> None:
    generator = torch.Generator().manual_seed(0)
    norm = FoldableNorm(CHANNELS)
    tokens = 100 + 3 * torch.randn(500, CHANNELS, generator=generator)
    norm.start_at(tokens + 1)  # behind by a third of a deviation
    expected = norm.eval()(tokens)
    shift, stretch = torch.randn(2, CHANNELS, generator=generator)
    others = (tokens - 100) * (1 + 0.3 * stretch.abs()) + 100 + 20 * shift
    norm.move(tokens, others)
    torch.testing.assert_close(norm(others), expected, rtol=1e-2, atol=1e-2)
