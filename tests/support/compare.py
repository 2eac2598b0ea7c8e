"""How closely numbers must agree with the published implementation's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RELATIVE, ABSOLUTE = 1e-4, 1e-5


def assert_close(actual: npt.ArrayLike, expected: npt.ArrayLike, what: str, leave_out: npt.ArrayLike = False) -> None:
    """Every value within 1e-4 of the largest one, and 1e-5.

    Args:
        leave_out: mask of values where a threshold decided on the last digit.
    """
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    assert np.isfinite(a).all(), f"{what}: not finite"
    error = np.where(leave_out, 0.0, np.abs(a - b))
    limit = RELATIVE * np.abs(b).max() + ABSOLUTE
    assert error.max() <= limit, f"{what}: off by {error.max():.3g} where {limit:.3g} is allowed"


def assert_same_fov(actual: npt.ArrayLike, expected: npt.ArrayLike, height: int, width: int, what: str) -> None:
    """Intrinsics by field of view (1e-4 rad) and principal point: focals diverge where the field of view vanishes."""
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    for axis, size in ((0, width), (1, height)):
        fov_a, fov_b = (2 * np.arctan(size / 2 / K[..., axis, axis]) for K in (a, b))
        np.testing.assert_allclose(fov_a, fov_b, rtol=0, atol=1e-4, err_msg=f"{what}: field of view")
    centre = (a[..., :2, 2] - b[..., :2, 2]) / (width, height)
    np.testing.assert_allclose(centre, 0, atol=1e-4, err_msg=f"{what}: principal point, in image sizes")


def assert_same_poses(actual: npt.ArrayLike, expected: npt.ArrayLike, what: str) -> None:
    """Extrinsics: rotation within 1e-4 rad, translation within 1e-4 of the largest one."""
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    # |R - R'| (Frobenius) is sqrt(2) times the angle for small angles.
    angle = np.linalg.norm(a[..., :3] - b[..., :3], axis=(-2, -1)) / np.sqrt(2)
    assert angle.max() <= 1e-4, f"{what}: rotation off by {angle.max():.3g} rad"
    assert_close(a[..., 3], b[..., 3], f"{what}: translation")


def assert_same_quaternions(actual: npt.ArrayLike, expected: npt.ArrayLike, what: str) -> None:
    """Up to sign: q and -q are one rotation, and the sign rule jumps where the scalar part is zero."""
    a, b = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    sign = np.where((a * b).sum(-1, keepdims=True) < 0, -1.0, 1.0)
    assert_close(a * sign, b, what)
