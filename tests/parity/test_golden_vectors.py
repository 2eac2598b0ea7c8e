"""The numbers of ``../shared`` that need more than the network: geometry, and the second set of vectors in full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.reference import alignment, arrays_of, compare_network, load, normalised_extrinsics, ray_fit
from support.vectors import CASES

from depth_anything_3.infer.cameras import normalise_extrinsics

SHARED = Path(__file__).resolve().parents[3] / "shared"

pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="no reference data: there is no folder 'shared' beside the repository"
)


@pytest.mark.parametrize("case", CASES)
def test_vectors(case: str) -> None:
    with np.load(SHARED / "reference" / "spec_model_vectors.npz") as file:
        expected = arrays_of(dict(file), case)
    compare_network(case, expected, sampled=False)


@pytest.mark.parametrize("given_indices", [False, True])
def test_ray_fit_without_noise(given_indices: bool) -> None:
    ray_fit("clean", given_indices)


@pytest.mark.parametrize("name", ["n3_noise0_plain", "n5_noise0.0_plain", "n12_noise0.05_plain"])
def test_alignment(name: str) -> None:
    alignment(name)


@pytest.mark.parametrize("views", [1, 12])
def test_normalised_extrinsics(views: int) -> None:
    normalised_extrinsics(views)


def test_normalised_extrinsics_of_two_views_have_distance_one() -> None:
    """The published rule divides by the clamped zero of the first view, that is, multiplies by ten."""
    given = load("pose__normalize_ext_n2")["in_ext"].double().numpy()
    ours = normalise_extrinsics(given)
    np.testing.assert_allclose(ours[0], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(ours[1, :3, 3]), 1.0, rtol=1e-6)
    expected = given[1] @ np.linalg.inv(given[0])
    np.testing.assert_allclose(ours[1, :3, :3], expected[:3, :3], atol=1e-9)
