"""Agreement of point clouds: by hand, and the fast search against the slow one."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.errors import InputError, MissingExtraError
from depth_anything_3.metrics import reconstruction
from depth_anything_3.metrics.reconstruction import cloud_scores, f_score, nearest_distances, voxel_downsample

PREDICTED = np.array([[0.0, 0, 0], [1, 0, 0], [5, 0, 0], [0.2, 0, 0]])
TRUE = np.array([[0.0, 0, 0], [1, 0, 0.1], [9, 0, 0]])


def test_by_hand() -> None:
    scores = cloud_scores(PREDICTED, TRUE, threshold=0.2)
    assert scores.accuracy == pytest.approx((0 + 0.1 + 4 + 0.2) / 4, rel=1e-3)
    assert scores.completeness == pytest.approx((0 + 0.1 + 4) / 3)
    assert scores.chamfer == pytest.approx((scores.accuracy + scores.completeness) / 2)
    # 0.2 is not below 0.2.
    assert scores.precision == pytest.approx(2 / 4)
    assert scores.recall == pytest.approx(2 / 3)
    assert scores.f_score == pytest.approx(2 * 0.5 * (2 / 3) / (0.5 + 2 / 3))


@pytest.mark.parametrize("sizes", [(1, 1), (200, 300), (300, 1)])
def test_the_tree_and_brute_force_agree(sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "_CELLS", 1000)  # several blocks, and one row where the others are many
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, 3)) + 1e3 for n in sizes)
    slow = np.array([min(np.linalg.norm(p - q) for q in b) for p in a])
    for search in ("tree", "brute force", "fastest"):
        np.testing.assert_allclose(nearest_distances(a, b, search=search), slow, atol=1e-9)  # type: ignore[arg-type]
        near = nearest_distances(a, b, within=0.3, search=search)  # type: ignore[arg-type]
        np.testing.assert_allclose(near, np.where(slow < 0.3, slow, np.inf), atol=1e-9)


def test_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    np.testing.assert_allclose(nearest_distances(PREDICTED, TRUE), [0, 0.1, 4, 0.2])
    with pytest.raises(MissingExtraError, match="bench"):
        nearest_distances(PREDICTED, TRUE, search="tree")


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_scale_changes_lengths_alone(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(40, 3))
    before, after = cloud_scores(a, b, threshold=0.5), cloud_scores(factor * a, factor * b, threshold=0.5 * factor)
    assert after.chamfer == pytest.approx(factor * before.chamfer)
    assert after.f_score == pytest.approx(before.f_score, abs=0.05)  # a distance may lie on the threshold
    swapped = cloud_scores(b, a, threshold=0.5)
    assert (swapped.precision, swapped.accuracy) == (before.recall, before.completeness)


def test_perfect_and_worse() -> None:
    cloud = np.random.default_rng(1).normal(size=(500, 3))
    noise = np.random.default_rng(2).normal(size=cloud.shape)
    levels = [cloud_scores(cloud + s * noise, cloud, threshold=0.05) for s in (0, 0.02, 0.1, 0.5)]
    assert (levels[0].f_score, levels[0].chamfer) == (1, 0)
    assert [s.f_score for s in levels] == sorted((s.f_score for s in levels), reverse=True)
    assert [s.chamfer for s in levels] == sorted(s.chamfer for s in levels)


@given(st.integers(0, 1000), st.floats(0.01, 3), st.none() | st.floats(0.1, 1))
def test_the_f_score_alone_is_the_same(seed: int, threshold: float, voxel: float | None) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(30, 3)), rng.normal(size=(40, 3))
    expected = cloud_scores(a, b, threshold=threshold, voxel=voxel, search="brute force").f_score
    for search in ("tree", "brute force"):
        found = f_score(a, b, threshold=threshold, voxel=voxel, search=search)  # type: ignore[arg-type]
        assert found == pytest.approx(expected)


def test_nothing_predicted() -> None:
    assert f_score(np.zeros((0, 3)), TRUE, threshold=1) == 0
    scores = cloud_scores(np.zeros((0, 3)), TRUE, threshold=1)
    assert (scores.accuracy, scores.precision, scores.recall, scores.f_score) == (np.inf, 0, 0, 0)
    assert len(nearest_distances(np.zeros((0, 3)), TRUE, search="brute force")) == 0


def test_voxels_by_hand() -> None:
    points = np.array([[0.1, 0.1, 0.1], [0.3, 0.5, 0.9], [-0.1, 0, 0], [2.5, 0, 0]])
    np.testing.assert_allclose(voxel_downsample(points, 1.0), [[-0.1, 0, 0], [0.2, 0.3, 0.5], [2.5, 0, 0]])
    assert voxel_downsample(np.zeros((0, 3)), 1.0).shape == (0, 3)


@given(st.integers(0, 1000), st.floats(0.05, 5))
def test_voxels_against_a_dictionary(seed: int, voxel: float) -> None:
    points = np.random.default_rng(seed).normal(size=(50, 3)) * 3
    cubes: dict[tuple[float, ...], list[np.ndarray]] = {}
    for point in points:
        cubes.setdefault(tuple(np.floor(point / voxel)), []).append(point)
    expected = [np.mean(cubes[cube], 0) for cube in sorted(cubes)]
    np.testing.assert_allclose(voxel_downsample(points, voxel), expected, atol=1e-12)


def test_voxels_even_out_density() -> None:
    crowd = np.concatenate([np.zeros((1000, 3)), [[10.0, 0, 0]]])
    scores = cloud_scores(crowd, np.zeros((1, 3)), threshold=1, voxel=1.0)
    assert scores.precision == 0.5
    assert cloud_scores(crowd, np.zeros((1, 3)), threshold=1).precision > 0.99


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors() -> None:
    with pytest.raises(InputError, match="true: got no point"):
        cloud_scores(PREDICTED, TRUE[:0], threshold=1)
    with pytest.raises(InputError, match="threshold"):
        cloud_scores(PREDICTED, TRUE, threshold=0)
    with pytest.raises(InputError, match="predicted: got points that are not finite"):
        cloud_scores(PREDICTED * np.nan, TRUE, threshold=1)
    with pytest.raises(InputError, match="voxel"):
        voxel_downsample(TRUE, 0)
    with pytest.raises(InputError, match="62 bits"):
        voxel_downsample(np.array([[0.0, 0, 0], [1e9, 1e9, 1e9]]), 1e-6)
    with pytest.raises(InputError, match="search"):
        nearest_distances(PREDICTED, TRUE, search="octree")  # type: ignore[arg-type]
