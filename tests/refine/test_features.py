"""Keypoints and which of them are alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from depth_anything_3.errors import InputError
from depth_anything_3.refine.features import (
    Features,
    all_pairs,
    detect_all,
    detect_sift,
    match_features,
    near_prediction,
)


def blobs(seed: int = 0, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    """A picture with structure at all scales."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size, 3))
    for step in (4, 8, 16, 32):
        noise = rng.uniform(0, 1, (size[0] // step, size[1] // step, 3)).astype(np.float32)
        picture += cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return (picture / 4 * 255).clip(0, 255).astype(np.uint8)


def warped(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture under a homography of our pixels, whose corner is at (0, 0)."""
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return cv2.warpPerspective(picture, np.linalg.inv(half) @ matrix @ half, picture.shape[1::-1])


TURN = cv2.getRotationMatrix2D((160.0, 120.0), 20, 1.15)
MATRIX = np.vstack([TURN, [1e-4, -1e-4, 1]])


def moved(xy: np.ndarray) -> np.ndarray:
    there = np.c_[xy, np.ones(len(xy))] @ MATRIX.T
    return there[:, :2] / there[:, 2:]


def test_matches_are_right_to_a_fraction_of_a_pixel() -> None:
    one, other = detect_all([blobs(), warped(blobs(), MATRIX)])
    pairs = match_features(one, other)
    error = np.linalg.norm(moved(one.xy[pairs[:, 0]]) - other.xy[pairs[:, 1]], axis=1)
    assert len(pairs) > 100
    assert (error < 2).mean() > 0.95
    # No bias: half a pixel would be a mistake about where pixels begin.
    difference = (moved(one.xy[pairs[:, 0]]) - other.xy[pairs[:, 1]])[error < 2]
    assert np.abs(np.median(difference, 0)).max() < 0.1
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)


def test_other_pictures_hardly_match() -> None:
    one, other = detect_all([blobs(0), blobs(1)])
    assert len(match_features(one, other)) < 0.03 * len(one.xy)


def test_a_prediction_leaves_repeated_texture_unambiguous() -> None:
    tile = blobs(3, (120, 160))
    repeated = np.tile(tile, (2, 2, 1))
    shifted = np.roll(repeated, (0, 30), (0, 1))
    one, other = detect_all([repeated, shifted])
    alone = match_features(one, other)
    assert len(alone) < 0.2 * len(one.xy)  # every keypoint has four twins
    allowed = near_prediction(one, other, one.xy + np.array([25.0, 3.0]), radius=20)
    guided = match_features(one, other, allowed=allowed)
    assert len(guided) > 3 * max(len(alone), 20)
    shift = other.xy[guided[:, 1]] - one.xy[guided[:, 0]]
    assert (np.abs(shift - [30, 0]).max(1) < 1.5).mean() > 0.95


def test_where_nothing_is_predicted_anything_is_allowed() -> None:
    some = Features(xy=np.array([[5.0, 5.0], [50.0, 50.0]]), descriptors=np.eye(2, 128, dtype=np.float32))
    expected = np.array([[5.0, 5.0], [np.nan, 0.0]])
    assert near_prediction(some, some, expected, 10.0).tolist() == [[True, False], [True, True]]


def test_a_mask_keeps_keypoints_out() -> None:
    mask = np.zeros((240, 320), dtype=bool)
    mask[:, 200:] = True
    found = detect_sift(blobs(), mask=mask)
    assert len(found.xy) > 20
    assert mask[found.xy[:, 1].astype(int), found.xy[:, 0].astype(int)].all()


def test_at_most_so_many_and_always_the_same() -> None:
    first, again = detect_sift(blobs(), most=50), detect_sift(blobs(), most=50)
    assert len(first.xy) == 50
    np.testing.assert_array_equal(first.xy, again.xy)
    np.testing.assert_allclose(np.linalg.norm(first.descriptors, axis=1), 1, rtol=1e-5)


def test_a_picture_without_texture_has_no_matches() -> None:
    flat = np.full((60, 80, 3), 128, np.uint8)
    one, other = detect_all([flat, blobs()])
    assert len(one.xy) == 0
    assert match_features(one, other).shape == match_features(other, one).shape == (0, 2)


def test_pairs_and_wrong_arguments() -> None:
    assert all_pairs(3) == [(0, 1), (0, 2), (1, 2)]
    with pytest.raises(InputError, match="most"):
        detect_sift(blobs(), most=0)
    with pytest.raises(InputError, match="mask"):
        detect_sift(blobs(), mask=np.ones((3, 3), bool))
