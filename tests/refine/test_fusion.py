"""Fusion of measured and predicted depth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from depth_anything_3.refine import fusion
from depth_anything_3.refine.fusion import fuse


def maps(seed: int, height: int, width: int) -> list[torch.Tensor]:
    """Network, measured, confidence, picture."""
    generator = torch.Generator().manual_seed(seed)
    network, measured, confidence, picture = torch.rand(4, 1, height, width, generator=generator, dtype=torch.float64)
    return [network, network + 0.1 * measured, confidence * (confidence > 0.6), picture]


def test_against_a_dense_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    height, width = 9, 12
    network, measured, confidence, picture = maps(0, height, width)
    residual = torch.where(confidence > 0, measured - network, 0.0)
    down, right = fusion._edges(residual, confidence, picture)
    matrix = np.diag((confidence + fusion._PULL).numpy().ravel())
    index = np.arange(height * width).reshape(height, width)
    pairs = ((index[:-1], index[1:], down), (index[:, :-1], index[:, 1:], right))
    for first, second, weight in pairs:
        for a, b, w in zip(first.ravel(), second.ravel(), weight.numpy().ravel(), strict=True):
            matrix[[a, b], [a, b]] += w
            matrix[[a, b], [b, a]] -= w
    expected = np.linalg.solve(matrix, (confidence * residual).numpy().ravel()).reshape(height, width)
    np.testing.assert_allclose((fuse(network, measured, confidence, picture) - network)[0], expected, atol=0.01)
    monkeypatch.setattr(fusion, "_ROUNDS", 300)
    np.testing.assert_allclose((fuse(network, measured, confidence, picture) - network)[0], expected, atol=1e-9)


def test_without_measurements_the_network_stands() -> None:
    network, measured, confidence, picture = maps(1, 40, 50)
    assert torch.equal(fuse(network, measured, 0 * confidence, picture), network)


def test_a_shift_that_is_measured_here_and_there_holds_between_without_seams() -> None:
    network, _, _, picture = maps(2, 40, 50)
    confidence = torch.zeros_like(network)
    confidence[:, ::4, ::4] = 1
    fused = fuse(network, network + 0.2, confidence, torch.full_like(picture, 0.5))
    correction = fused - network
    assert correction.min() > 0.15
    assert correction.diff(dim=1).abs().max() < 0.005


def test_a_measured_step_stays_a_step() -> None:
    network = torch.zeros(1, 40, 50, dtype=torch.float64)
    measured = network.clone()
    measured[:, :, 25:] = 0.4
    fused = fuse(network, measured, torch.ones_like(network), torch.full_like(network, 0.5))
    assert (fused[:, :, :23].abs() < 0.02).all()
    assert ((fused[:, :, 27:] - 0.4).abs() < 0.02).all()


def test_the_correction_ends_far_from_all_measurements() -> None:
    network = torch.zeros(1, 200, 8, dtype=torch.float64)
    confidence = torch.zeros_like(network)
    confidence[:, 0] = 1
    fused = fuse(network, network + 0.3, confidence, torch.full_like(network, 0.5))[0, :, 4]
    assert fused[0] > 0.2
    assert fused[-1].abs() < 0.05
    assert (fused.diff() < 1e-3).all()


def test_views_do_not_mix() -> None:
    one, other = maps(3, 20, 30), maps(4, 20, 30)
    together = fuse(*(torch.cat(pair) for pair in zip(one, other, strict=True)))
    torch.testing.assert_close(together[:1], fuse(*one))
