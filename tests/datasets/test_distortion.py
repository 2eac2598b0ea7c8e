"""Lens distortion against OpenCV, and its inverse."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_anything_3.datasets._distortion import Distortion, distort, pinhole_intrinsics, undistort, undistort_image

LENSES = [Distortion(), Distortion(-0.1, 0.02, 0.001, -0.002), Distortion(0.05, 0.01), Distortion(p1=0.004, p2=-0.003)]
XY = np.stack(np.meshgrid(np.linspace(-0.8, 0.8, 9), np.linspace(-0.5, 0.5, 7)), -1)
K = np.array([[100.0, 0, 66], [0, 105, 45], [0, 0, 1]])


@pytest.mark.parametrize("lens", LENSES)
def test_it_is_that_of_opencv(lens: Distortion) -> None:
    coefficients = np.array([lens.k1, lens.k2, lens.p1, lens.p2])
    points = np.dstack((XY, np.ones(XY.shape[:2]))).reshape(-1, 3)
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), coefficients)[0][:, 0]
    np.testing.assert_allclose(distort(XY, lens).reshape(-1, 2), expected, atol=1e-12)
    assert lens.is_zero == (not coefficients.any())


@pytest.mark.parametrize("lens", LENSES)
def test_inverse(lens: Distortion) -> None:
    np.testing.assert_allclose(undistort(distort(XY, lens), lens), XY, atol=1e-8)


def test_no_inverse() -> None:
    assert np.isnan(undistort(np.array([[0.9, 0.0]]), Distortion(k1=-1))).all()  # the lens shows nothing there
    assert np.isnan(pinhole_intrinsics(K, Distortion(k1=-1), 96, 128)[0, 0])


def test_without_distortion_nothing_changes() -> None:
    np.testing.assert_allclose(pinhole_intrinsics(K, Distortion(), 96, 128), K, rtol=1e-12)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    np.testing.assert_array_equal(undistort_image(image, K, Distortion(), K), image)


@pytest.mark.parametrize("lens", LENSES)
def test_no_pixel_comes_from_outside(lens: Distortion) -> None:
    target = pinhole_intrinsics(K, lens, 96, 128)
    u, v = np.meshgrid(np.linspace(0, 128, 50), np.linspace(0, 96, 40))
    rays = (np.stack((u, v), -1) - target[:2, 2]) / np.diag(target)[:2]
    source = distort(rays, lens) * np.diag(K)[:2] + K[:2, 2]
    assert (source > -0.02).all() and (source < [128.02, 96.02]).all()
    gap = [source[..., 0].min(), 128 - source[..., 0].max(), source[..., 1].min(), 96 - source[..., 1].max()]
    assert min(gap) < 0.02  # and one side is used to its edge
