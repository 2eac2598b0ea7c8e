"""Scores against libraries of others and against their formulas, at the optimum and disturbed; laws they keep."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from support.poses import random_rotation

from depth_anything_3.metrics.images import PSNR_LIMIT, psnr, ssim
from depth_anything_3.metrics.reconstruction import CloudScores, cloud_scores

NOISE = (0.02, 0.1, 0.4)


def pictures(noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:34, :45] / 9
    truth = np.stack([np.sin(x + y), np.cos(x * y), np.sin(3 * x)], -1) * 0.4 + 0.5
    return (truth + noise * rng.normal(size=truth.shape)).clip(0, 1), truth


def clouds(noise: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    true = rng.normal(size=(600, 3))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    return np.concatenate([true[:400] + noise * rng.normal(size=(400, 3)), rng.normal(size=(20, 3))]), true


def ssim_by_windows(a: np.ndarray, b: np.ndarray) -> float:
    """Equation 13 of Wang et al. (2004), a window of 11 x 11 at a time."""
    along = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = np.outer(along, along) / along.sum() ** 2
    found = []
    for channel in range(3):
        for p, q in zip(
            sliding_window_view(a[..., channel], (11, 11)).reshape(-1, 11, 11),
            sliding_window_view(b[..., channel], (11, 11)).reshape(-1, 11, 11),
            strict=True,
        ):
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
            vpq = (weight * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + 1e-4) * (2 * vpq + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return float(np.mean(found))


@pytest.mark.parametrize("noise", NOISE)
def test_pictures_by_their_formulas(noise: float) -> None:
    made, truth = pictures(noise)
    errors = [(float(p) - float(q)) ** 2 for p, q in zip(made.ravel(), truth.ravel(), strict=True)]
    assert psnr(made, truth) == pytest.approx(10 * np.log10(1 / (sum(errors) / len(errors))))
    assert ssim(made, truth) == pytest.approx(ssim_by_windows(made, truth), abs=1e-9)


def test_pictures_as_torchmetrics_has_them() -> None:
    """It also scores windows that reach over the border, into a mirror; we do not, so these are cut off."""
    image = pytest.importorskip("torchmetrics.functional.image")
    import torch

    for noise in NOISE:
        made, truth = pictures(noise)
        a, b = (torch.tensor(p).movedim(-1, 0)[None] for p in (made, truth))
        assert psnr(made, truth) == pytest.approx(float(image.peak_signal_noise_ratio(a, b, data_range=1.0)), abs=1e-4)
        _, every = image.structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
        assert every.shape == a.shape
        assert ssim(made, truth) == pytest.approx(float(every[..., 5:-5, 5:-5].mean()), abs=1e-5)


def test_pictures_at_the_optimum_and_their_laws() -> None:
    made, truth = pictures(0.1)
    assert psnr(truth, truth) == PSNR_LIMIT and ssim(truth, truth) == pytest.approx(1)
    for score in (psnr, ssim):
        values = [score(*pictures(noise)) for noise in NOISE]
        assert values == sorted(values, reverse=True)
        same = score(made, truth)
        for moved in (lambda p: p[::-1], lambda p: p[..., [2, 0, 1]], lambda p: p.transpose(1, 0, 2)):
            assert score(moved(made), moved(truth)) == pytest.approx(same), "both alike: nothing changes"
        assert score(truth, made) == pytest.approx(same), "either way round"


def by_scipy(predicted: np.ndarray, true: np.ndarray, threshold: float) -> CloudScores:
    tree = pytest.importorskip("scipy.spatial").cKDTree
    there, back = tree(true).query(predicted)[0], tree(predicted).query(true)[0]
    return CloudScores(
        accuracy=there.mean(),
        completeness=back.mean(),
        precision=(there < threshold).mean(),
        recall=(back < threshold).mean(),
    )


def check_same(ours: CloudScores, theirs: CloudScores) -> None:
    for name in ("accuracy", "completeness", "chamfer", "precision", "recall", "f_score"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-3), name


@pytest.mark.parametrize("noise", NOISE)
def test_clouds_as_scipy_has_them(noise: float) -> None:
    predicted, true = clouds(noise)
    for search in ("tree", "brute force"):
        check_same(cloud_scores(predicted, true, threshold=0.1, search=search), by_scipy(predicted, true, 0.1))  # type: ignore[arg-type]


@pytest.mark.peers
@pytest.mark.parametrize("noise", NOISE)
def test_clouds_as_open3d_has_them(noise: float) -> None:
    o3d = pytest.importorskip("open3d", exc_type=ImportError)
    predicted, true = clouds(noise)
    a, b = (o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points)) for points in (predicted, true))
    there, back = np.asarray(a.compute_point_cloud_distance(b)), np.asarray(b.compute_point_cloud_distance(a))
    theirs = CloudScores(
        accuracy=there.mean(),
        completeness=back.mean(),
        precision=(there < 0.1).mean(),
        recall=(back < 0.1).mean(),
    )
    check_same(cloud_scores(predicted, true, threshold=0.1), theirs)


def test_clouds_do_not_see_the_world_nor_the_order() -> None:
    predicted, true = clouds(0.1)
    before = cloud_scores(predicted, true, threshold=0.1)
    rng = np.random.default_rng(5)
    turn, shift = random_rotation(rng), rng.normal(size=3)
    shuffled = predicted[rng.permutation(len(predicted))] @ turn.T + shift
    check_same(cloud_scores(shuffled, true[::-1] @ turn.T + shift, threshold=0.1), before)
