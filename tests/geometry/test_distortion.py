"""Lenses against COLMAP and OpenCV, their inverse, and pictures without distortion."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.errors import InputError
from depth_anything_3.geometry.distortion import (
    distort,
    pinhole_intrinsics,
    rays_through,
    through_lens,
    turned_lens,
    undistort,
    undistort_image,
)
from depth_anything_3.types.cameras import LENS_MODELS, Lens

LENSES = {
    "OPENCV": (-0.2, 0.05, 0.001, -0.002),
    "FULL_OPENCV": (0.3, -0.1, 0.001, -0.002, 0.02, 0.4, -0.05, 0.01),
    "FOV": (0.9,),
    "DIVISION": (-0.15,),
    "EUCM": (0.6, 1.1),
    "OPENCV_FISHEYE": (0.02, -0.01, 0.003, -0.001),
    "THIN_PRISM_FISHEYE": (0.02, -0.01, 0.001, -0.002, 0.003, -0.001, 0.002, -0.001),
    "RAD_TAN_THIN_PRISM_FISHEYE": (
        *(0.02, -0.01, 0.003, -0.001, 0.0005, -0.0001),
        *(0.001, -0.002, 0.001, -0.0005, 0.0007, 0.0002),
    ),
}
ALL = [Lens(), *(Lens(model, coefficients) for model, coefficients in LENSES.items())]
XY = np.stack(np.meshgrid(np.linspace(-0.8, 0.8, 9), np.linspace(-0.5, 0.5, 7)), -1)
RAYS = np.dstack((XY, np.ones(XY.shape[:2])))
K = np.array([[100.0, 0, 66], [0, 105, 45], [0, 0, 1]])
REFERENCE = Path(__file__).with_name("lenses.json")


def name(lens: Lens) -> str:
    return lens.model


def unit(rays: np.ndarray) -> np.ndarray:
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def test_every_model_is_here() -> None:
    assert {lens.model for lens in ALL} == LENS_MODELS.keys()


@pytest.mark.parametrize("lens", ALL, ids=name)
def test_it_is_that_of_colmap(lens: Lens) -> None:
    """The numbers in the file were computed by COLMAP 4.2 (its ``Camera.img_from_cam``)."""
    reference = json.loads(REFERENCE.read_text())
    assert reference["coefficients"][lens.model] == list(lens.coefficients)
    found = distort(np.array(reference["rays"]), lens)
    np.testing.assert_allclose(found, reference["seen"][lens.model], atol=1e-12)


@pytest.mark.parametrize("lens", [lens for lens in ALL if lens.model in ("PINHOLE", "OPENCV", "FULL_OPENCV")], ids=name)
def test_it_is_that_of_opencv(lens: Lens) -> None:
    points = RAYS.reshape(-1, 3)
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), np.array(lens.coefficients or 4 * (0,)))
    np.testing.assert_allclose(distort(points, lens), expected[0][:, 0], atol=1e-12)


def test_fisheye_is_that_of_opencv() -> None:
    lens = Lens("OPENCV_FISHEYE", LENSES["OPENCV_FISHEYE"])
    points = RAYS.reshape(-1, 1, 3)
    expected, _ = cv2.fisheye.projectPoints(
        points, np.zeros(3), np.zeros(3), np.eye(3), np.array(lens.coefficients, np.float64)
    )
    np.testing.assert_allclose(distort(points, lens), expected, atol=1e-12)


@pytest.mark.parametrize("lens", ALL, ids=name)
def test_inverse(lens: Lens) -> None:
    np.testing.assert_allclose(undistort(distort(RAYS, lens), lens), unit(RAYS), atol=1e-8)
    np.testing.assert_allclose(distort(undistort(XY, lens), lens), XY, atol=1e-8)


def small(size: float) -> st.SearchStrategy[float]:
    return st.floats(-size, size, allow_nan=False, allow_subnormal=False)


COEFFICIENTS = {
    "PINHOLE": st.just(()),
    "OPENCV": st.tuples(small(0.4), small(0.1), small(0.01), small(0.01)),
    "FULL_OPENCV": st.tuples(*(small(size) for size in (0.4, 0.1, 0.01, 0.01, 0.02, 0.4, 0.1, 0.02))),
    "FOV": st.tuples(st.floats(0.05, 2.0)),
    "DIVISION": st.tuples(small(0.4)),
    "EUCM": st.tuples(st.floats(0.0, 0.9), st.floats(0.5, 2.0)),
    "OPENCV_FISHEYE": st.tuples(*(small(size) for size in (0.1, 0.05, 0.01, 0.005))),
    "THIN_PRISM_FISHEYE": st.tuples(*(small(size) for size in (0.1, 0.05, 0.005, 0.005, 0.01, 0.005, 0.01, 0.01))),
    "RAD_TAN_THIN_PRISM_FISHEYE": st.tuples(*(small(0.05 / 2**i) for i in range(6)), *(small(0.005),) * 6),
}


@given(data=st.data())
def test_round_trip_in_pixels(data: st.DataObject) -> None:
    """Whatever the lens does see comes back to the same pixel, and a straight line from the centre stays in order."""
    model = data.draw(st.sampled_from(sorted(COEFFICIENTS)))
    lens = Lens(model, data.draw(COEFFICIENTS[model]))
    intrinsics = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])
    angle, turn = data.draw(st.floats(0, 1.2)), data.draw(st.floats(0, 6.3))
    axis = np.array([np.cos(turn), np.sin(turn)])
    rays = np.stack([[*(np.sin(a) * axis), np.cos(a)] for a in np.linspace(0, angle, 9)])
    pixels = through_lens(rays, intrinsics, lens)
    seen = ~np.isnan(pixels[:, 0])
    assert seen[0] and (np.diff(seen.astype(int)) <= 0).all(), "what a lens sees is in one piece"
    if seen.sum() > 1 and angle > 1e-3:
        assert (np.diff((pixels[seen] - pixels[0]) @ axis) > 0).all()
    back = rays_through(pixels[seen], intrinsics, lens)
    again = through_lens(back, intrinsics, lens)
    assert np.abs(again - pixels[seen]).max() <= 0.05
    assert np.abs(back - rays[seen]).max() <= 0.05 / 700


def test_all_around() -> None:
    lens = Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0))
    angles = np.deg2rad([0.0, 45, 90, 120, 170])
    rays = np.stack((np.sin(angles), np.zeros(5), np.cos(angles)), -1)
    np.testing.assert_allclose(distort(rays, lens)[:, 0], angles)
    np.testing.assert_allclose(undistort(distort(rays, lens), lens), rays, atol=1e-12)
    assert np.isnan(distort(-RAYS, Lens())).all(), "behind the camera"


def test_beyond_the_turning_point_nothing_is_seen() -> None:
    folding = Lens("OPENCV", (-1.0, 0.0, 0.0, 0.0))  # x - x³ turns back at 0.577, where it is 0.385
    assert np.isnan(undistort(np.array([[0.9, 0.0]]), folding)).all()
    assert np.isnan(distort(np.array([[0.7, 0.0, 1.0]]), folding)).all()
    assert not np.isnan(distort(np.array([[0.57, 0.0, 1.0]]), folding)).any()
    assert np.isnan(pinhole_intrinsics(K, folding, 96, 128)[0, 0])


def test_lenses_are_checked() -> None:
    with pytest.raises(InputError, match="4 for OPENCV"):
        Lens("OPENCV", (0.1,))
    with pytest.raises(InputError, match="OPENCV_FISHEYE"):
        Lens("KB4")
    with pytest.raises(InputError, match="finite"):
        Lens("FOV", (np.nan,))


# --- pictures ----------------------------------------------------------------------------------------------------


def test_without_distortion_nothing_changes() -> None:
    none = Lens("OPENCV", (0.0, 0.0, 0.0, 0.0))
    assert none.is_pinhole
    np.testing.assert_allclose(pinhole_intrinsics(K, none, 96, 128), K, rtol=1e-12)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    np.testing.assert_array_equal(undistort_image(image, K, none, K), image)


MILD = [
    Lens("OPENCV", (-0.1, 0.02, 0.001, -0.002)),
    Lens("OPENCV", (0.05, 0.01, 0.0, 0.0)),
    Lens("OPENCV", (0.0, 0.0, 0.004, -0.003)),
    *(lens for lens in ALL if lens.model not in ("PINHOLE", "OPENCV")),
]


@pytest.mark.parametrize("lens", MILD, ids=name)
def test_no_pixel_comes_from_outside(lens: Lens) -> None:
    target = pinhole_intrinsics(K, lens, 96, 128)
    u, v = np.meshgrid(np.linspace(0, 128, 50), np.linspace(0, 96, 40))
    source = through_lens(rays_through(np.stack((u, v), -1), target), K, lens)
    assert (source > -0.02).all() and (source < [128.02, 96.02]).all()
    gap = [source[..., 0].min(), 128 - source[..., 0].max(), source[..., 1].min(), 96 - source[..., 1].max()]
    assert min(gap) < 0.05  # and one side is used to its edge


@pytest.mark.parametrize("lens", ALL, ids=name)
def test_a_picture_is_what_a_pinhole_would_have_taken(lens: Lens) -> None:
    """A smooth wall at infinity, painted by direction, seen through the lens and directly."""

    def paint(rays: np.ndarray) -> np.ndarray:
        x, y = np.moveaxis(rays[..., :2] / rays[..., 2:], -1, 0)
        waves = np.stack((np.sin(9 * x), np.cos(7 * y), np.sin(5 * x + 4 * y)), -1)
        return np.nan_to_num(127.5 + 100 * waves, nan=0.0).round().astype(np.uint8)

    y, x = np.mgrid[:300, :400] + 0.5
    pixels = np.stack((x, y), -1)
    camera = np.array([[350.0, 0, 205], [0, 340, 148], [0, 0, 1]])
    target = np.array([[420.0, 0, 150], [0, 400, 100], [0, 0, 1]])
    taken = paint(rays_through(pixels, camera, lens))
    found = undistort_image(taken, camera, lens, target, size=(200, 280))
    expected = paint(rays_through(pixels[:200, :280], target))
    difference = np.abs(found.astype(int) - expected)[4:-4, 4:-4]
    assert np.percentile(difference, 99) <= 3


def test_what_a_lens_does_not_see_is_black() -> None:
    image = np.full((50, 60, 3), 200, np.uint8)
    camera = np.array([[40.0, 0, 30], [0, 40, 25], [0, 0, 1]])
    wide = np.array([[15.0, 0, 30], [0, 15, 25], [0, 0, 1]])
    found = undistort_image(image, camera, Lens("OPENCV", (-0.35, 0.0, 0.0, 0.0)), wide)
    assert found[25, 30].tolist() == [200] * 3 and found[0, 0].tolist() == [0] * 3


def test_a_very_wide_fisheye_is_cut_at_sixty_degrees() -> None:
    camera = np.array([[300.0, 0, 500], [0, 300, 500], [0, 0, 1]])  # 95 degrees to each side
    target = pinhole_intrinsics(camera, Lens("OPENCV_FISHEYE", (0.0, 0.0, 0.0, 0.0)), 1000, 1000)
    assert np.rad2deg(np.arctan(500 / target[0, 0])) == pytest.approx(60, abs=0.1)


@pytest.mark.parametrize("quarter", [1, 2, 3])
@pytest.mark.parametrize("lens", ALL, ids=name)
def test_a_turned_camera(lens: Lens, quarter: int) -> None:
    rotation = np.linalg.matrix_power(np.array([[0.0, -1], [1, 0]]), quarter)
    turned_rays = np.concatenate((RAYS[..., :2] @ rotation.T, RAYS[..., 2:]), -1)
    found = distort(turned_rays, turned_lens(lens, rotation))
    np.testing.assert_allclose(found, distort(RAYS, lens) @ rotation.T, atol=1e-12)
