"""Inverse depth and its shifted copies."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.geometry.pinhole import pixel_centres
from depth_anything_3.refine.inverse_depth import inverse_depth, shifted


def test_what_is_no_depth_is_nan() -> None:
    depth = np.array([[[2.0, 0.0, -1.0, np.nan, np.inf, 4.0]]], np.float32)
    keep = np.array([[[True, True, True, True, True, False]]])
    np.testing.assert_array_equal(inverse_depth(depth, keep), [[[0.5] + [np.nan] * 5]])
    np.testing.assert_array_equal(inverse_depth(depth)[0, 0, -1], np.float32(0.25))


@given(st.integers(-6, 6), st.integers(-6, 6))
def test_shifted_reads_where_it_says(down: int, right: int) -> None:
    image = np.arange(20).reshape(1, 4, 5)
    out = shifted(image, down, right, -1)
    for y in range(4):
        for x in range(5):
            inside = 0 <= y + down < 4 and 0 <= x + right < 5
            assert out[0, y, x] == (image[0, y + down, x + right] if inside else -1)


def test_planes_are_affine_in_inverse_depth() -> None:
    k = np.array([[200.0, 0, 40], [0, 210, 30], [0, 0, 1]])
    rays = (pixel_centres(60, 80) - k[:2, 2]) / k[[0, 1], [0, 1]]
    normal = np.array([0.9, -0.2, 0.5])
    depth = 1 / (rays @ normal[:2] + normal[2])
    inverse = inverse_depth(depth[None])[0]
    assert np.abs(np.diff(inverse, n=2, axis=0)).max() < 1e-6
    assert np.abs(np.diff(inverse, n=2, axis=1)).max() < 1e-6
