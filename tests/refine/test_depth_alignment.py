"""Alignment of depth maps to points of known depth."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.refine.depth_alignment import AlignedDepth, AlignmentOptions, SeenPoints, align_depth

SIZE = (240, 320)
SMALL = (60, 80)


def true_depth(size: tuple[int, int] = SMALL) -> np.ndarray:
    """A slanted surface with bumps, 2 to 6 metres away."""
    y, x = ((np.arange(n) + 0.5) / n for n in size)
    return 3 + 2 * y[:, None] + np.sin(7 * x)[None] * (1 - 0.5 * y[:, None])


def smooth_field(size: tuple[int, int] = SMALL) -> np.ndarray:
    """Within 15 % of 1."""
    y, x = ((np.arange(n) + 0.5) / n for n in size)
    return np.exp(0.14 * np.sin(3 * x + 1)[None] * np.cos(2.5 * y)[:, None])


def points_on(
    depth: np.ndarray, count: int, *, wrong: float = 0.0, noise: float = 0.003, seed: int = 0, right: float = 1.0
) -> SeenPoints:
    """Points at random pixels of view 0, up to the part ``right`` of the width; some at a depth that has no meaning."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 1, (count, 2)) * [right, 1]
    row, column = ((place[:, 1 - i] * depth.shape[i]).astype(int) for i in (0, 1))
    z = depth[row, column] * np.exp(noise * rng.standard_normal(count))
    bad = rng.permutation(count)[: round(wrong * count)]
    z[bad] *= rng.uniform(1.3, 3.0, len(bad))
    return SeenPoints(view=np.zeros(count, int), xy=place * [SIZE[1], SIZE[0]], depth=z, sigma=np.full(count, 0.003))


def one_view(depth: np.ndarray, points: SeenPoints, **keywords: object) -> AlignedDepth:
    return align_depth(depth[None], points, SIZE, **keywords)  # type: ignore[arg-type]


def test_few_points_give_the_scale_in_spite_of_outliers() -> None:
    truth = true_depth()
    found = one_view(truth / 2.5, points_on(truth, 40, wrong=0.2), fallback_scale=1.3)
    assert found.method == ("scale",)
    assert found.points[0] == 40
    np.testing.assert_allclose(found.scale, 2.5, rtol=0.01)
    np.testing.assert_allclose(found.depth[0], truth, rtol=0.01)
    assert found.residual_before[0] > 0.5 > 0.02 > found.residual_scaled[0]
    assert found.residual_after[0] == found.residual_scaled[0]


def test_a_smooth_field_is_undone_in_spite_of_outliers() -> None:
    truth = true_depth()
    found = one_view(truth * smooth_field() / 2.5, points_on(truth, 250, wrong=0.2))
    assert found.method == ("field",)
    error = np.abs(np.log(found.depth[0] / truth))
    assert np.median(error) < 0.01
    assert error.max() < 0.06
    assert found.residual_after[0] < 0.4 * found.residual_scaled[0]
    assert found.spread[0] < 0.03
    assert found.band[0] == 0.4


def test_contrast_of_depth_is_corrected() -> None:
    truth = true_depth()
    found = one_view(np.sqrt(truth), points_on(truth, 200))
    assert np.abs(np.log(found.depth[0] / truth)).max() < 0.1
    # One scale alone leaves more than that.
    assert np.abs(np.log(np.sqrt(truth) * found.scale[0] / truth)).max() > 0.2


def test_a_map_that_is_right_but_for_its_scale_gets_no_field() -> None:
    truth = true_depth()
    for seed in range(5):
        found = one_view(truth / 3, points_on(truth, 120, noise=0.05, seed=seed))
        assert found.method == ("scale",)
        np.testing.assert_allclose(found.scale, 3, rtol=0.02)


def test_no_field_goes_wild_where_there_are_no_points() -> None:
    truth = true_depth()
    steep = np.exp(np.linspace(0, 0.6, SMALL[1]))[None]
    found = one_view(truth * steep, points_on(truth, 200, right=0.5))
    assert found.method == ("field",)
    correction = np.log(found.depth[0] / (truth * steep))
    assert np.abs(np.log(found.depth[0] / truth))[:, :35].max() < 0.05
    # The points ask for corrections from -0.3 to 0.
    assert correction.min() > -0.5
    assert correction.max() < 0.15


def test_points_in_one_corner_give_a_scale_only() -> None:
    truth = true_depth()
    corner = points_on(truth[:15, :20], 200)
    corner = SeenPoints(view=corner.view, xy=corner.xy / 4, depth=corner.depth, sigma=corner.sigma)
    assert one_view(truth * smooth_field(), corner).method == ("scale",)


def test_a_view_without_support_keeps_the_callers_scale() -> None:
    truth = true_depth()
    points = points_on(truth, 5)
    found = align_depth(np.stack([truth, truth]), points, SIZE, fallback_scale=np.array([2.0, 3.0]))
    assert found.method == ("none", "none")
    np.testing.assert_array_equal(found.points, [5, 0])
    np.testing.assert_allclose(found.depth, [2 * truth, 3 * truth], rtol=1e-6)
    np.testing.assert_array_equal(found.scale, [2, 3])
    np.testing.assert_allclose(found.residual_before[0], np.log(2), atol=0.02)
    assert np.isnan(found.residual_before[1])
    np.testing.assert_allclose(found.band, 0.6)


def test_masked_and_unknown_pixels_have_no_say() -> None:
    truth = true_depth()
    given = truth / 2
    given[:30] *= 5
    given[30:33] = np.nan
    given[33:36] = 0
    mask = np.ones(SMALL, bool)
    mask[:30] = False
    before = given.copy()
    points = points_on(truth, 200)
    found = one_view(given, points, masks=mask[None])
    np.testing.assert_array_equal(given, before)
    assert found.points[0] < 120
    np.testing.assert_allclose(found.depth[0, 36:], truth[36:], rtol=0.01)
    assert np.isnan(found.depth[0, 30:33]).all()
    assert (found.depth[0, 33:36] == 0).all()
    # Masked depth stays in line with the rest.
    np.testing.assert_allclose(found.depth[0, :30], given[:30] * 2, rtol=0.03)


def test_points_that_are_known_better_count_more() -> None:
    truth = true_depth()
    good, bad = points_on(truth, 10), points_on(truth * 1.05, 30, seed=1)
    points = SeenPoints(
        view=np.zeros(40, int),
        xy=np.concatenate([good.xy, bad.xy]),
        depth=np.concatenate([good.depth, bad.depth]),
        sigma=np.concatenate([good.sigma, np.full(30, 0.5)]),
    )
    assert one_view(truth, points).scale[0] < 1.02


def test_deterministic() -> None:
    truth = true_depth()
    a, b = (one_view(truth * smooth_field(), points_on(truth, 250, wrong=0.2)) for _ in range(2))
    np.testing.assert_array_equal(a.depth, b.depth)


def test_errors() -> None:
    truth = true_depth()
    points = points_on(truth, 20)
    with pytest.raises(InputError, match="depth"):
        align_depth(truth, points, SIZE)
    with pytest.raises(InputError, match="masks"):
        one_view(truth, points, masks=np.ones((1, 3, 3), bool))
    with pytest.raises(InputError, match="fallback_scale"):
        one_view(truth, points, fallback_scale=0.0)
    with pytest.raises(InputError, match=r"points\.view"):
        align_depth(truth[None][:0], points, SIZE)
    with pytest.raises(InputError, match="size"):
        align_depth(truth[None], points, (0, 320))
    with pytest.raises(InputError, match=r"points\.depth"):
        SeenPoints(view=points.view, xy=points.xy, depth=-points.depth, sigma=points.sigma)
    with pytest.raises(InputError, match=r"points\.xy"):
        SeenPoints(view=points.view, xy=points.xy[:3], depth=points.depth, sigma=points.sigma)
    with pytest.raises(InputError, match="field_cells"):
        AlignmentOptions(field_cells=0)
