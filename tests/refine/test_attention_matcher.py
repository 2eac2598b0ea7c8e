"""Keypoints of patches, followed from view to view."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_anything_3.refine.attention_matcher import find_window, looking_back, match_attention, patch_corners
from depth_anything_3.refine.matchers import NetworkPatches, ViewsToMatch

PATCH, ROWS, COLUMNS = 40, 6, 8  # pixels of a picture
SHIFTS = np.array([[0.0, 0.0], [52.3, 7.6], [31.25, -22.5]])  # of the same plane in three views, in pixels


def picture(shift: np.ndarray) -> np.ndarray:
    """A soft pattern, moved by a fraction of a pixel."""
    rng = np.random.default_rng(3)
    noise = rng.uniform(0, 1, (400, 500)).astype(np.float32)
    big = cv2.GaussianBlur(noise, (0, 0), 3)
    big = (big - big.min()) / (big.max() - big.min())
    move = np.float32([[1, 0, shift[0] - 80], [0, 1, shift[1] - 80]])
    grey = cv2.warpAffine(big, move, (COLUMNS * PATCH, ROWS * PATCH), flags=cv2.INTER_CUBIC)
    return np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


def truth() -> np.ndarray:
    """The patch that each patch's middle moves to, or patch 0."""
    best = np.zeros((3, 3, ROWS * COLUMNS), np.int64)
    y, x = (v.ravel() + 0.5 for v in np.mgrid[:ROWS, :COLUMNS])
    for i in range(3):
        for j in range(3):
            column, row = (np.floor(v + d / PATCH) for v, d in zip((x, y), SHIFTS[j] - SHIFTS[i], strict=True))
            inside = (column >= 0) & (column < COLUMNS) & (row >= 0) & (row < ROWS)
            best[i, j] = np.where(inside, row * COLUMNS + column, 0)
    return best


@pytest.fixture(scope="module")
def views() -> ViewsToMatch:
    scale = np.diag([PATCH / 14, PATCH / 14, 1.0])
    patches = NetworkPatches(best=truth, grid=(ROWS, COLUMNS), pictures=np.stack([scale] * 3))
    return ViewsToMatch(images=np.stack([picture(shift) for shift in SHIFTS]), patches=patches)


def test_matches_are_right_to_a_fraction_of_a_pixel_in_all_pairs(views: ViewsToMatch) -> None:
    found = match_attention(views)
    assert set(found.pairs) == {(0, 1), (0, 2), (1, 2)}
    for (i, j), indices in found.pairs.items():
        assert len(indices) > 30 and len(np.unique(indices, axis=0)) == len(indices)
        moved = found.features[j].xy[indices[:, 1]] - found.features[i].xy[indices[:, 0]]
        error = np.linalg.norm(moved - (SHIFTS[j] - SHIFTS[i]), axis=1)
        assert np.median(error) < 0.3 and error.max() < 2.5


def test_a_keypoint_is_the_same_one_in_every_pair(views: ViewsToMatch) -> None:
    """Three views give tracks of three, not pairs that have nothing in common."""
    pairs = match_attention(views).pairs
    first, second, third = (dict(map(tuple, pairs[p].tolist())) for p in ((0, 1), (1, 2), (0, 2)))
    closed = [k for k in first if k in third and second.get(first[k]) == third[k]]
    assert len(closed) > 20


def test_nothing_is_found_where_there_is_nothing_to_see_or_the_mask_forbids_it(views: ViewsToMatch) -> None:
    flat = ViewsToMatch(images=np.full_like(views.images, 128), patches=views.patches)
    assert match_attention(flat).pairs == {}
    masks = np.ones(views.images.shape[:3], bool)
    masks[:, :, : 4 * PATCH] = False
    masked = match_attention(ViewsToMatch(images=views.images, masks=masks, patches=views.patches))
    for (i, _), indices in masked.pairs.items():
        own = indices[indices[:, 0] < ROWS * COLUMNS, 0]
        assert (masked.features[i].xy[own, 0] >= 4 * PATCH).all()


def test_patches_that_do_not_look_back() -> None:
    there, back = np.array([5, 5, 5, 5]), np.array([0, 0, 0, 0, 0, 1])
    assert looking_back(there, back, columns=4).tolist() == [True, True, True, False]


def test_corners_lie_in_their_patches() -> None:
    grey = picture(SHIFTS[0])[..., 0].astype(np.float32) / 255
    edges = np.arange(COLUMNS + 1) * float(PATCH), np.arange(ROWS + 1) * float(PATCH)
    corners = patch_corners(grey, edges, (ROWS, COLUMNS))
    cells = (corners // PATCH) @ [1, COLUMNS]
    known = np.isfinite(cells)
    assert known.sum() > 20 and (cells[known] == np.arange(ROWS * COLUMNS)[known]).all()


def test_a_window_near_the_border_is_not_found() -> None:
    grey = picture(SHIFTS[0])[..., 0].astype(np.float32) / 255
    reach = np.array([40.0, 40.0])
    assert find_window(grey, np.array([5.0, 100.0]), grey, np.array([5.0, 100.0]), reach) is None
    here = np.array([100.5, 100.5])
    np.testing.assert_allclose(find_window(grey, here, grey, here + 11, reach), here, atol=0.02)
