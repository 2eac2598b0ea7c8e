"""Every frame has one owner, whatever the numbers."""

from __future__ import annotations

import itertools

import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.stream.windows import plan_windows


@pytest.mark.parametrize(("size", "overlap"), [(2, 1), (9, 4), (60, 8), (60, 10), (120, 12), (7, 6)])
def test_every_frame_has_one_owner(size: int, overlap: int) -> None:
    for frames in (*range(1, 2 * size + 9), 299, 300, 500):
        windows = plan_windows(frames, size=size, overlap=overlap)
        assert [f for w in windows for f in range(w.own_start, w.own_stop)] == list(range(frames))
        assert all(len(w) <= size and w.start <= w.own_start < w.own_stop <= w.stop for w in windows)
        assert all(a.stop - b.start == overlap for a, b in itertools.pairwise(windows))
        lengths = [len(w) for w in windows]
        assert max(lengths) - min(lengths) <= 1


def test_work_per_frame() -> None:
    for frames, options in [(5000, {}), (5000, {"size": 60, "overlap": 8}), (300, {"size": 60, "overlap": 8})]:
        assert sum(len(w) for w in plan_windows(frames, **options)) <= 1.2 * frames


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"frames": 9, "overlap": 0}, {"frames": 9, "size": 4, "overlap": 4}]
)
def test_bad_numbers(options: dict[str, int]) -> None:
    with pytest.raises(InputError):
        plan_windows(**options)
