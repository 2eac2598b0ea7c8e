"""Which pixels become points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.export._selection import background, confidence_threshold, pixels_to_keep, spread_indices

PUBLISHED = {"conf_thresh": 1.05, "conf_thresh_percentile": 40.0, "ensure_thresh_percentile": 90.0}


@given(
    conf=st.lists(st.floats(1, 10), min_size=1, max_size=50),
    percentile=st.floats(0, 100),
    ensure=st.floats(0, 100),
)
def test_threshold_formula(conf: list[float], percentile: float, ensure: float) -> None:
    values = np.array(conf, np.float64).astype(np.float32)
    expected = min(max(1.05, float(np.percentile(values, percentile))), float(np.percentile(values, ensure)))
    result = confidence_threshold(values, lowest=1.05, percentile=percentile, ensure_percentile=ensure)
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_threshold_in_numbers() -> None:
    def threshold(conf: list[float]) -> float:
        values = np.array(conf, np.float32)
        return confidence_threshold(values, lowest=1.05, percentile=40, ensure_percentile=90)

    assert threshold([*range(1, 12)]) == 5.0  # the 40th percentile
    assert threshold([1.0] * 80 + [3.0] * 20) == pytest.approx(1.05)  # the floor
    assert threshold([1.0] * 89 + [1.02] * 12) == pytest.approx(1.02)  # the ceiling: some points get through
    assert threshold([np.nan, 2.0, np.inf, 2.0]) == 2.0
    assert threshold([np.nan]) == np.inf


def test_background() -> None:
    pixels = np.array([[0, 0, 0], [15, 15, 15], [15, 16, 0], [240, 240, 240], [255, 239, 255]], np.uint8)
    assert background(pixels, black=True, white=False).tolist() == [True, True, False, False, False]
    assert background(pixels, black=False, white=True).tolist() == [False, False, False, True, False]
    assert not background(pixels, black=False, white=False).any()


def test_sky_holes_and_backdrop_are_never_kept(make_prediction: Any) -> None:
    depth = make_prediction().depth.copy()
    depth[0, 0, :4] = np.nan, np.inf, 0, -1
    sky = np.zeros(depth.shape, np.bool_)
    sky[1] = True
    backdrop = np.zeros(depth.shape, np.bool_)
    backdrop[2, :5] = True
    without_conf = make_prediction(depth=depth, sky=sky, conf=None)
    keep = pixels_to_keep(without_conf, backdrop=backdrop, **PUBLISHED)
    expected = np.ones(depth.shape, np.bool_)
    expected[0, 0, :4], expected[1], expected[2, :5] = False, False, False
    np.testing.assert_array_equal(keep, expected)

    unsure = np.ones(depth.shape, np.float32)  # nothing is confident: the published rule lets everything through
    keep = pixels_to_keep(make_prediction(depth=depth, sky=sky, conf=unsure), backdrop=backdrop, **PUBLISHED)
    np.testing.assert_array_equal(keep, expected)


def test_confidence_decides(make_prediction: Any) -> None:
    conf = np.linspace(1, 3, 3 * 20 * 30, dtype=np.float32).reshape(3, 20, 30)
    conf[0, 0, 0] = np.nan
    keep = pixels_to_keep(make_prediction(conf=conf), backdrop=np.zeros(conf.shape, np.bool_), **PUBLISHED)
    np.testing.assert_array_equal(keep, conf >= np.percentile(conf[np.isfinite(conf)], 40))


def test_backdrop_counts_as_unsure_in_the_percentiles(make_prediction: Any) -> None:
    conf = np.linspace(2, 3, 3 * 20 * 30, dtype=np.float32).reshape(3, 20, 30)
    backdrop = np.zeros(conf.shape, np.bool_)
    backdrop[2] = True
    keep = pixels_to_keep(make_prediction(conf=conf), backdrop=backdrop, **PUBLISHED)
    np.testing.assert_array_equal(keep, ~backdrop & (conf >= np.percentile(np.where(backdrop, 1, conf), 40)))


@given(count=st.integers(0, 5000), limit=st.integers(1, 300))
def test_thinning_law(count: int, limit: int) -> None:
    indices = spread_indices(count, limit)
    assert len(indices) == min(count, limit)
    assert (np.diff(indices) > 0).all()
    assert not len(indices) or (indices[0] >= 0 and indices[-1] < count)
    if count > limit:  # one in every stretch, so that no region is left out
        assert (np.abs(indices - (np.arange(limit) + 0.5) * count / limit) <= count / limit / 2 + 1).all()
    np.testing.assert_array_equal(indices, spread_indices(count, limit))


def test_thinning_has_no_grid_and_no_global_state() -> None:
    np.random.seed(1)
    state = np.random.get_state()[1].tobytes()  # type: ignore[index]
    columns = spread_indices(100 * 100, 1000) % 100
    assert np.random.get_state()[1].tobytes() == state  # type: ignore[index]
    assert len(np.unique(columns)) > 90
