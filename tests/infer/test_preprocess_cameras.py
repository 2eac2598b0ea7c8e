"""Given cameras: what is accepted, what is refused, and by which words."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depth_anything_3.errors import InputError
from depth_anything_3.infer import preprocess as module
from depth_anything_3.infer.preprocess import check_cameras, preprocess
from depth_anything_3.types.options import PreprocessOptions

Array = npt.NDArray[np.float64]


def poses(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    result = np.tile(np.eye(4), (count, 1, 1))
    for pose in result:
        Q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        pose[:3, :3] = Q * np.sign(np.linalg.det(Q))
        pose[:3, 3] = rng.normal(size=3) * 10
    return result


def calibrations(count: int) -> Array:
    return np.tile([[100.0, 0.5, 50.0], [0, 90, 40], [0, 0, 1]], (count, 1, 1))


def refused(extrinsics: Any, intrinsics: Any, count: int) -> InputError:
    with pytest.raises(InputError) as caught:
        check_cameras(extrinsics, intrinsics, count)
    return caught.value


# --- accepted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_become_4x4_float64_copies(rows: int, dtype: Any) -> None:
    given_poses, given_K = poses(3)[:, :rows].astype(dtype), calibrations(3).astype(dtype)
    extrinsics, intrinsics = check_cameras(given_poses, given_K, 3)
    assert extrinsics is not None and intrinsics is not None
    assert extrinsics.shape == (3, 4, 4) and extrinsics.dtype == np.float64
    assert intrinsics.shape == (3, 3, 3) and intrinsics.dtype == np.float64
    np.testing.assert_array_equal(extrinsics[:, :rows], given_poses)
    np.testing.assert_array_equal(extrinsics[:, 3], np.tile([0, 0, 0, 1.0], (3, 1)))
    np.testing.assert_array_equal(intrinsics, given_K)
    assert not np.shares_memory(extrinsics, given_poses) and not np.shares_memory(intrinsics, given_K)


def test_lists_of_arrays_and_nested_lists() -> None:
    expected = check_cameras(poses(2), calibrations(2), 2)
    for convert in (list, tuple, lambda array: array.tolist()):
        for got, wanted in zip(check_cameras(convert(poses(2)), convert(calibrations(2)), 2), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_integer_intrinsics() -> None:
    K = [[[100, 0, 50], [0, 90, 40], [0, 0, 1]]]
    whole = np.array(K)
    inputs = preprocess([np.zeros((80, 100, 3), np.uint8)], intrinsics=whole, options=PreprocessOptions(process_res=70))
    assert whole.tolist() == K
    np.testing.assert_allclose(inputs.intrinsics, [[[70, 0, 35], [0, 63, 28], [0, 0, 1]]])  # type: ignore[arg-type]


def test_none_and_intrinsics_alone() -> None:
    assert check_cameras(None, None, 5) == (None, None)
    extrinsics, intrinsics = check_cameras(None, calibrations(2), 2)
    assert extrinsics is None and intrinsics is not None


def test_extrinsics_pass_through_preprocessing() -> None:
    inputs = preprocess(
        [np.zeros((80, 100, 3), np.uint8)] * 2,
        extrinsics=poses(2)[:, :3],
        intrinsics=calibrations(2),
        options=PreprocessOptions(process_res=70),
    )
    np.testing.assert_array_equal(inputs.extrinsics, poses(2))


@given(st.floats(-4e-4, 4e-4), st.integers(0, 8))
def test_small_deviations_are_accepted(deviation: float, entry: int) -> None:
    given_poses = poses(2)
    given_poses[1, entry // 3, entry % 3] += deviation
    assert check_cameras(given_poses, calibrations(2), 2)[0] is not None


def test_last_rows_come_out_exact() -> None:
    given_poses, given_K = poses(2), calibrations(2)
    given_poses[:, 3, :3] += 1e-7
    given_K[:, 2, 2] -= 1e-7
    extrinsics, intrinsics = check_cameras(given_poses, given_K, 2)
    assert extrinsics is not None and extrinsics[:, 3].tolist() == [[0, 0, 0, 1]] * 2
    assert intrinsics is not None and intrinsics[:, 2].tolist() == [[0, 0, 1]] * 2


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 3), (2, 4, 3), (2, 16), (1, 2, 4, 4), (0,), ()])
def test_wrong_shape_of_extrinsics(shape: tuple[int, ...]) -> None:
    error = refused(np.zeros(shape), calibrations(2), 2)
    assert error.argument == "extrinsics"
    assert str(shape) in error.got and "(2, 3, 4) or (2, 4, 4)" in error.expected


@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4), (2, 3, 4), (2, 9), (2, 4), ()])
def test_wrong_shape_of_intrinsics(shape: tuple[int, ...]) -> None:
    error = refused(None, np.zeros(shape), 2)
    assert error.argument == "intrinsics"
    assert str(shape) in error.got and "(2, 3, 3)" in error.expected


def test_wrong_number_names_both() -> None:
    error = refused(poses(4), calibrations(5), 5)
    assert error.argument == "extrinsics" and error.got == "4 matrices for 5 images"
    error = refused(poses(5), calibrations(6), 5)
    assert error.argument == "intrinsics" and error.got == "6 matrices for 5 images"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float) -> None:
    bad = poses(3)
    bad[2, 0, 3] = value
    assert refused(bad, calibrations(3), 3).argument == "extrinsics"
    assert "view 2" in refused(bad, calibrations(3), 3).got
    bad = calibrations(3)
    bad[1, 0, 2] = value
    assert refused(None, bad, 3).argument == "intrinsics"
    assert "view 1" in refused(None, bad, 3).got


@pytest.mark.parametrize("factor", [1.001, 0.9, 2.0, 1e200])
def test_scaled_rotation_names_view_and_deviation(factor: float) -> None:
    bad = poses(3)
    bad[1, :3, :3] *= factor
    error = refused(bad, calibrations(3), 3)
    assert error.argument == "extrinsics" and "view 1" in error.got
    if factor < 10:
        assert f"{abs(factor**2 - 1):.3g}" in error.got
    assert "scaled or transposed" in error.expected


def test_overflow_is_no_rotation_either() -> None:
    bad = poses(2)
    bad[1, :2, :3] = [[1e200, 1e200, 0], [1e200, -1e200, 0]]  # R Rᵀ is NaN
    assert "view 1" in refused(bad, calibrations(2), 2).got


def test_sheared_and_zero_rotations() -> None:
    bad = poses(2)
    bad[0, 0, :3] += 0.01
    assert "view 0" in refused(bad, calibrations(2), 2).got
    assert "view 0" in refused(np.zeros((2, 3, 4)), calibrations(2), 2).got


def test_mirroring_rotation() -> None:
    bad = poses(3)
    bad[2, :3, 2] *= -1
    error = refused(bad, calibrations(3), 3)
    assert error.argument == "extrinsics" and "view 2" in error.got
    assert "determinant -1" in error.got and "right-handed" in error.expected


def test_last_row_of_extrinsics() -> None:
    error = refused(poses(2).swapaxes(1, 2), calibrations(2), 2)
    assert error.argument == "extrinsics" and "last row" in error.got and "transposed" in error.expected
    bad = poses(2)
    bad[1, 3, 3] = 2
    assert "(0, 0, 0, 2) in view 1" in refused(bad, calibrations(2), 2).got


def test_last_row_of_intrinsics() -> None:
    error = refused(None, calibrations(2).swapaxes(1, 2), 2)
    assert error.argument == "intrinsics" and "last row (50, 40, 1)" in error.got and "(0, 0, 1)" in error.expected


@pytest.mark.parametrize("entry", [0, 1])
@pytest.mark.parametrize("focal", [0.0, -100.0])
def test_focal_lengths_are_positive(entry: int, focal: float) -> None:
    bad = calibrations(3)
    bad[2, entry, entry] = focal
    error = refused(None, bad, 3)
    assert error.argument == "intrinsics" and "view 2" in error.got and "positive" in error.expected


def test_extrinsics_need_intrinsics() -> None:
    error = refused(poses(3), None, 3)
    assert error.argument == "intrinsics" and "(3, 3, 3)" in error.expected


@pytest.mark.parametrize(
    "value", ["poses.npy", [["a"]], {"pose": 1}, object(), [np.eye(3), np.eye(4)], 1j * np.ones((2, 3, 3)), [None] * 2]
)
def test_what_is_no_array_of_numbers(value: Any) -> None:
    assert refused(value, calibrations(2), 2).argument == "extrinsics"
    assert refused(None, value, 2).argument == "intrinsics"


def test_no_images() -> None:
    assert refused(None, None, 0).argument == "image"


def test_cameras_are_checked_before_any_image_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "decode_image", lambda *_, **__: pytest.fail("decoded before the check"))
    with pytest.raises(InputError) as caught:
        preprocess(["a.png", "b.png"], extrinsics=poses(2), options=PreprocessOptions())
    assert caught.value.argument == "intrinsics"


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_intrinsics_of_pictures_of_another_size(factor: float) -> None:
    image = np.zeros((60, 84, 3), np.uint8)
    K = np.array([[70.0, 0, 40], [0, 70, 31], [0, 0, 1]])
    shifted = np.array([[70.0, 0, 20], [0, 70, 31], [0, 0, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preprocess([image, image], intrinsics=[K, shifted], options=PreprocessOptions())
    scaled = np.diag([factor, factor, 1]) @ K
    with pytest.warns(UserWarning, match=f"image_0001 fits a picture of about {80 * factor:.0f}x{62 * factor:.0f}"):
        preprocess([image, image], intrinsics=[K, scaled], options=PreprocessOptions())
