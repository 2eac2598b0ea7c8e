"""The cleaning on blurred exact depth of procedural scenes."""

from __future__ import annotations

import numpy as np
import pytest

from depth_anything_3.bench.flying import ROWS, Tally, box_blur, flying_and_good, incidence_deg, poles_and_planes, tally
from depth_anything_3.synth.sample import film
from depth_anything_3.types.options import CLEAN_PRESETS


@pytest.fixture(scope="module")
def found() -> dict[tuple[int, str], Tally]:
    return {(t.blur, t.row): t for t in tally(list(range(10)), CLEAN_PRESETS["clean"], views=1)}


@pytest.mark.parametrize("blur", [3, 5])
def test_flying_pixels_go_and_good_ones_stay(found: dict[tuple[int, str], Tally], blur: int) -> None:
    flying, good, planes, poles = (found[blur, row] for row in ROWS[:4])
    assert flying.pixels > 5000 and flying.share >= 0.95
    assert good.pixels > 300_000 and good.share >= 0.98
    assert planes.pixels > 3000 and planes.share >= 0.95
    # A blur of 5 leaves no good pixel on a pole of 2 or 3.
    assert (poles.pixels > 200 and poles.share >= 0.95) if blur == 3 else poles.pixels < 50


def test_exact_depth_loses_little(found: dict[tuple[int, str], Tally]) -> None:
    assert found[1, ROWS[0]].pixels == 0
    assert found[1, ROWS[1]].share >= 0.98
    assert found[1, ROWS[3]].pixels > 1000 and found[1, ROWS[3]].share >= 0.99


def test_poles_and_panels_are_what_they_are_called() -> None:
    scene, cameras = poles_and_planes(0)
    sample = film(scene, (), cameras, 252, 336)
    poles = (sample.object_id >= 0) & (sample.object_id < 8)
    rows = poles[0, 100:150]
    starts = np.count_nonzero(rows & ~np.roll(rows, 1, 1), axis=1)
    assert 1.8 < rows.sum() / starts.sum() < 3.4
    angle = incidence_deg(sample)
    panels = (sample.object_id == 8) | (sample.object_id == 9)
    assert np.count_nonzero((angle[panels] >= 80) & (angle[panels] <= 85)) > 2000


def test_blur_and_kinds_by_hand() -> None:
    exact = np.array([[[2.0] * 4 + [3.0] * 4] * 3])
    known = np.ones(exact.shape, bool)
    known[..., -1] = False
    blurred = box_blur(exact, known, 3)
    np.testing.assert_allclose(blurred[0, 1], [2, 2, 2, 7 / 3, 8 / 3, 3, 3, 0])
    flying, good = flying_and_good(exact, blurred, known, 3)
    assert np.flatnonzero(flying[0, 1]).tolist() == [3, 4]
    assert np.flatnonzero(good[0, 1]).tolist() == [0, 1, 2, 5, 6]
