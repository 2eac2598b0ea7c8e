"""The basis is the one everybody uses, and rotating coefficients rotates the function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.poses import rotation
from torch import Tensor

from depth_anything_3.geometry.harmonics import C0, degree_of, harmonic_basis, rotate_harmonics

COUNTS = {1: 0, 4: 1, 9: 2, 16: 3}


def directions(count: int, seed: int = 0) -> Tensor:
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3)))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def test_the_basis_is_made_of_the_textbook_functions() -> None:
    """Real and imaginary parts of the complex harmonics with the Condon-Shortley phase, times the root of two."""
    special = pytest.importorskip("scipy.special")
    if not hasattr(special, "sph_harm_y"):
        pytest.skip("this scipy counts the angles the other way")
    d = directions(50).numpy()
    polar, azimuth = np.arccos(d[:, 2]), np.arctan2(d[:, 1], d[:, 0])
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = special.sph_harm_y(degree, abs(order), polar, azimuth)
            part = value.real if order >= 0 else value.imag
            columns.append(part * (math.sqrt(2) if order else 1))
    np.testing.assert_allclose(harmonic_basis(torch.from_numpy(d), 3), np.stack(columns, -1), atol=1e-12)


def test_the_basis_of_a_low_degree_is_the_start_of_that_of_a_high_one() -> None:
    d = directions(7)
    for count, degree in COUNTS.items():
        assert degree_of(count) == degree
        torch.testing.assert_close(harmonic_basis(d, degree), harmonic_basis(d, 3)[:, :count])
    assert harmonic_basis(d, 0)[0].item() == C0


@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 1e-5, 30.0, 117.0, 179.99999, 180.0]))
def test_rotated_harmonics_are_the_same_function_in_the_new_frame(seed: int, angle_deg: float) -> None:
    rng = np.random.default_rng(seed)
    turn = torch.from_numpy(rotation(rng.normal(size=3), angle_deg)).double()
    coefficients, d = torch.from_numpy(rng.normal(size=(3, 16))), directions(20, seed)
    for count, degree in COUNTS.items():
        rotated = rotate_harmonics(coefficients[:, :count], turn)
        new = harmonic_basis(d, degree) @ rotated.T
        old = harmonic_basis(d @ turn, degree) @ coefficients[:, :count].T  # R^T d
        torch.testing.assert_close(new, old, rtol=0, atol=1e-9)


def test_single_precision_loses_next_to_nothing() -> None:
    turn = torch.from_numpy(rotation([1.0, 2, 3], 77)).double()
    coefficients = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0))
    exact = rotate_harmonics(coefficients.double(), turn)
    torch.testing.assert_close(rotate_harmonics(coefficients, turn.float()).double(), exact, rtol=0, atol=3e-6)


@pytest.mark.parametrize("count", [0, 2, 8, 25])
def test_other_numbers_of_coefficients_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"got {count} coefficients"):
        rotate_harmonics(torch.zeros(3, count), torch.eye(3))
    with pytest.raises(ValueError, match=r"^degree: got 4"):
        harmonic_basis(torch.zeros(3), 4)
