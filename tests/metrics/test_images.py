"""Scores of pictures against an independent implementation, and their simple cases."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.metrics.images import PSNR_LIMIT, find_lpips, psnr, ssim


def pair(noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=(40, 50, 3))
    return (truth + noise * rng.normal(size=truth.shape)).clip(0, 1), truth


def test_psnr() -> None:
    truth = np.full((4, 5, 3), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20)
    assert psnr(truth, truth) == PSNR_LIMIT


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_is_that_of_scikit_image(noise: float) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a, b = pair(noise)
    reference = metrics.structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=-1
    )
    assert ssim(a, b) == pytest.approx(reference, abs=1e-6)
    assert ssim(b, b) == pytest.approx(1)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("score", [psnr, ssim])
def test_other_sizes_are_refused(score: Any) -> None:
    a, b = pair(0.1)
    with pytest.raises(InputError, match=r"shape \(39, 50, 3\)"):
        score(a[1:], b)


def test_no_window_fits() -> None:
    a, b = pair(0.1)
    with pytest.raises(InputError, match="at least 11"):
        ssim(a[:10], b[:10])


def test_lpips_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert find_lpips() == (None, "not scored: the package lpips is not installed")
    monkeypatch.setitem(sys.modules, "lpips", sys)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found, text = find_lpips()
    assert found is None and "vgg16" in text
