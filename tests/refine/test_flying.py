"""Flying pixels on profiles that can be followed by hand; the shares on whole scenes are in tests/bench."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.refine.flying import flying_pixels

NEAR, FAR = 2.0, 3.0


def rows(*profile: float) -> np.ndarray:
    """A picture of 30 rows with the same profile."""
    return np.broadcast_to(np.array(profile), (1, 30, len(profile)))


def columns_found(depth: np.ndarray, **options: float) -> list[int]:
    """The columns found, which must be the same in every row away from the border."""
    found = flying_pixels(depth, **options)[0, 8:-8]  # type: ignore[arg-type]
    assert (found == found[:1]).all()
    return np.flatnonzero(found[0]).tolist()


@pytest.mark.parametrize("turned", [False, True])
def test_a_ramp_is_found_and_the_surfaces_beside_it_are_kept(turned: bool) -> None:
    ramp = np.linspace(NEAR, FAR, 6)[1:-1]
    depth = rows(*[NEAR] * 8, *ramp, *[FAR] * 8)
    found = flying_pixels(depth.swapaxes(1, 2).copy())[0].T if turned else flying_pixels(depth)[0]
    assert np.flatnonzero(found[10]).tolist() == [8, 9, 10, 11]


def test_along_a_diagonal() -> None:
    y, x = np.mgrid[:40, :40]
    depth = np.interp(x + y, [37, 43], [NEAR, FAR])[None]
    found = flying_pixels(depth)[0, 8:-8, 8:-8]
    inside = ((x + y > 37) & (x + y < 43))[8:-8, 8:-8]
    np.testing.assert_array_equal(found, inside)


def test_a_sharp_edge_has_no_ramp() -> None:
    assert columns_found(rows(*[NEAR] * 10, *[FAR] * 10)) == []


@pytest.mark.parametrize("thickness", [1, 2, 3])
def test_a_thin_pole_with_sharp_edges_stays(thickness: int) -> None:
    assert columns_found(rows(*[FAR] * 10, *[NEAR] * thickness, *[FAR] * 10), gap=4) == []


def test_a_stair_with_sharp_edges_stays() -> None:
    assert columns_found(rows(*[2.0] * 6, *[2.5] * 3, *[3.0] * 3, *[3.5] * 6)) == []


def test_a_grazing_plane_stays_up_to_its_edge() -> None:
    inverse = 0.5 - 0.02 * np.arange(20)  # 4 % to 20 % of depth per pixel
    assert columns_found(rows(*1 / inverse, *[1 / inverse[-1] * 2] * 8)) == []


def test_a_gap_between_ramps_is_bridged_on_request() -> None:
    middle = NEAR + (FAR - NEAR) / 3
    blurred = rows(*[FAR] * 8, NEAR + 2 * (FAR - NEAR) / 3, middle, middle, NEAR + 2 * (FAR - NEAR) / 3, *[FAR] * 8)
    assert columns_found(blurred) == [8, 11]
    assert columns_found(blurred, gap=2) == [8, 9, 10, 11]


def test_a_ramp_may_end_at_what_is_unknown_but_one_pixel_beside_it_says_nothing() -> None:
    ramp = np.linspace(NEAR, FAR, 6)[1:-1]
    depth = rows(*[NEAR] * 8, *ramp, *[FAR] * 8)
    keep = np.ones(depth.shape, bool)
    keep[..., 11:] = False
    assert np.flatnonzero(flying_pixels(depth, keep)[0, 15]).tolist() == [8, 9]
    keep[..., 9:] = False
    assert not flying_pixels(depth, keep).any()


def test_a_grazing_plane_stays_up_to_the_border() -> None:
    assert columns_found(rows(*1 / (0.5 - 0.02 * np.arange(20)))) == []


def test_a_small_step_is_within_the_tolerance() -> None:
    depth = rows(*[2.0] * 8, *np.linspace(2.0, 2.04, 6)[1:-1], *[2.04] * 8)
    assert columns_found(depth) == []
    assert columns_found(depth, tolerance=0.002) != []


def test_the_unit_does_not_matter() -> None:
    random = np.random.default_rng(0)
    depth = np.cumsum(random.uniform(0.0, 0.3, (2, 30, 30)), 2) + 1
    np.testing.assert_array_equal(flying_pixels(depth), flying_pixels(depth * 1024))
